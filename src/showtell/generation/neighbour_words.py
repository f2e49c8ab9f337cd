"""Words that captions of similar training images have: hints for a model without a detector of words.

Makadia, Pavlovic and Kumar, "A New Baseline for Image Annotation" (ECCV 2008), take an image's words from its nearest
training images. Here a word's probability is its share of all training images, weighted as `Neighbours` weighs them.
"""

import numpy as np
import torch
from torch import Tensor, nn

from showtell.data.vocabulary import UNK
from showtell.generation.neighbours import Neighbours, pooled

LEAST = 0.5  # a word's least probability, times its share of the training images: lower estimates are mostly noise


class NeighbourWords(nn.Module):
    """The words of a vocabulary of `size` words in an image, from training images, for `HintedDecoder`."""

    log_share: Tensor  # natural log of the share of training images with the word, float32 (word)

    def __init__(self, neighbours: Neighbours, size: int):
        super().__init__()
        self._neighbours, self._size = neighbours, size
        self._image, self._word = neighbours.words()
        self._share = (np.bincount(self._word, minlength=size) + 1) / (len(neighbours) + 1)
        self.register_buffer("log_share", torch.from_numpy(np.log(self._share)).float())

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Features (image, ...) -> log of the probability that a word is in the image: (image, word), natural log,
        float32; for `<unk>` and the tokens that are no words it is `log_share`."""
        found = np.stack([self._probabilities(vector) for vector in pooled(features)])
        found[:, : UNK + 1] = self._share[: UNK + 1]
        return torch.from_numpy(np.log(found)).float().to(features.device)

    def _probabilities(self, vector: np.ndarray) -> np.ndarray:
        weights = self._neighbours.weights(vector)
        share = np.bincount(self._word, weights=weights[self._image], minlength=self._size)
        return np.clip(share, LEAST * self._share, 1)
