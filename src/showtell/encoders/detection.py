"""Word detection: which vocabulary words an image contains, detected in the cells of an encoder's feature map.

An image has a word if any of its cells has it: multiple instance learning with a noisy-OR over regions, Fang et al.,
"From Captions to Visual Concepts and Back" (CVPR 2015), section 3. Since a single cell must detect the word, the map
learns where objects are, which attention needs.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from showtell.core.arrays import distinct_pairs
from showtell.core.errors import UserError
from showtell.core.params import Section
from showtell.data.captions import Block
from showtell.data.vocabulary import UNK
from showtell.encoders.network import Encoder


class DetectionParams(Section):
    """The words that an encoder learns to detect, in pretraining and as an auxiliary loss of fine-tuning."""

    min_images: int = Field(ge=1, description="a word to detect occurs with at least so many training images")
    max_share: float = Field(gt=0, le=1, description="and with at most this share of them")


class Words(NamedTuple):
    """The words that a detector detects, and how frequent all are."""

    detected: Tensor  # their tokens, ints (word,)
    log_share: Tensor  # natural log of the share of training images that have it, float32 (word of the vocabulary,)

    @classmethod
    def zeros(cls, detected: int, vocabulary: int) -> "Words":
        """Of these sizes, for a detector whose weights are loaded."""
        return cls(torch.zeros(detected, dtype=torch.long), torch.zeros(vocabulary))


def words_to_detect(captions: Iterable[Block], vocabulary: int, params: DetectionParams) -> Words:
    """The words of a vocabulary of this size that occur with neither too few nor too many images' `captions`."""
    images, seen = np.zeros(vocabulary, np.int64), 0  # (token): number of images with which it occurs
    for block in captions:
        image = np.repeat(np.repeat(np.arange(len(block.number)), block.number), block.lengths)  # (token)
        _, once = distinct_pairs(image, block.tokens)
        images += np.bincount(once, minlength=vocabulary)
        seen += len(block.number)
    most = params.max_share * seen
    tokens = np.flatnonzero((images >= params.min_images) & (images <= most))
    words = tokens[tokens > UNK].tolist()
    if not words:
        raise UserError(
            f"no word occurs with {params.min_images} or more and {most:.0f} or fewer of {seen} training images: lower "
            "detection.min_images or raise detection.max_share (or detect none: pretrain.enabled false, "
            "finetune.word_loss 0)"
        )
    return Words(torch.tensor(words), torch.from_numpy(np.log((images + 1) / (seen + 1))).float())


class WordDetector(nn.Module):
    """Detects `words` in the cells of `encoder`'s map.

    It reads the map's own channels: with those of `encoder.levels` it learns the training images by heart sooner.
    The search can add its log probabilities to a decoder's logits (`word_hints.py`).
    """

    words: Tensor
    log_share: Tensor

    def __init__(self, encoder: Encoder, words: Words):
        super().__init__()
        self.register_buffer("words", words.detected)
        self.register_buffer("log_share", words.log_share)
        self.detect = nn.Linear(encoder.own_channels, len(words.detected))
        # The initial probability of a word is about 1/20, whatever the number of cells.
        nn.init.constant_(self.detect.bias, -math.log(20 * encoder.cells))

    def forward(self, cells: Tensor) -> Tensor:
        """Cells (image, cell, channel) -> -log of the probability that a word is absent, (image, word), float32."""
        return NoisyOr.apply(self.detect(cells[..., : self.detect.in_features]).float())

    def log_probabilities(self, cells: Tensor) -> Tensor:
        """Cells (image, cell, channel) -> log of the probability that a word is present: (image, word of the
        vocabulary), natural log, float32.

        For a word it does not detect that is the share of training images that have it. With 0, rare words would be
        preferred to those whose absence it detects.
        """
        found = self.log_share.repeat(len(cells), 1)
        found[:, self.words] = _log_present(self(cells))
        return found

    def targets(self, tokens: Tensor) -> Tensor:
        """1.0 where a word occurs in a caption of the image: tokens (image, caption, step) -> (image, word)."""
        present = torch.zeros(len(tokens), len(self.log_share), device=tokens.device)
        return present.scatter_(1, tokens.flatten(1), 1.0)[:, self.words]

    def loss(self, absent: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Binary cross-entropy, natural log, summed over words and images; `absent` is the output of `forward`.

        tokens, mask (image, caption, step): images without captions are not counted.
        """
        present = -_log_present(absent)
        real = mask.flatten(1).any(dim=1).unsqueeze(1).to(absent.device)
        return (torch.where(self.targets(tokens) > 0, present, absent) * real).sum()


def _log_present(absent: Tensor) -> Tensor:
    """log P(present) from -log P(absent); clamped to a probability of at least one in a million."""
    return torch.log(-torch.expm1(-absent.clamp(min=1e-6)))


class NoisyOr(torch.autograd.Function):
    """Scores (image, cell, word) -> -log of the probability that no cell has the word, (image, word).

    The sum over cells of log(1 + e^score), each to about 1e-7. `softplus` is more exact only where a cell's probability
    is nearly zero, and takes five times as long.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        rest = scores.abs().neg_().exp_().add_(1).log_()  # log(1 + e^score) - max(score, 0)
        return rest.add_(scores.clamp(min=0)).sum(dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (scores,) = ctx.saved_tensors
        return torch.sigmoid(scores).mul_(grad.unsqueeze(1))
