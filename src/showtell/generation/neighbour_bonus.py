"""A bonus for each next word, for what it adds to the caption's agreement with captions of similar training images.

`search.consensus` ranks captions by their agreement when they are complete. A narrow beam has by then dropped most of
those that agree. With the bonus the search keeps beams that will: it is the same agreement, estimated as a sum over
n-grams (`Neighbours.similar_ngrams`).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from showtell.data.vocabulary import PAD
from showtell.generation.neighbours import Neighbours, pooled


class NeighbourBonus(NamedTuple):
    """The n-grams in captions of the training images that are similar to each image; position = a word of theirs."""

    words: Tensor  # ints (image, position)
    before: Tensor  # ints (image, order - 1, position): the word before each, the one before that, and so on
    parts: Tensor  # float32 (image, order, position): nats for the n-gram that ends there

    @classmethod
    def of(cls, neighbours: Neighbours, features: Tensor, weight: float) -> "NeighbourBonus":
        """For images with `features` (image, ...), `weight` nats for each unit of CIDEr-D."""
        found = [neighbours.similar_ngrams(vector) for vector in pooled(features)]
        longest, orders = max(len(tokens) for tokens, _ in found), len(found[0][1])
        words = np.full((len(found), orders, longest), PAD)
        parts = np.zeros((len(found), orders, longest), np.float32)
        for image, (tokens, of_image) in enumerate(found):
            parts[image, :, : len(tokens)] = weight * of_image
            for back in range(orders):  # a caption's first words follow another's last: no n-gram, its part is 0
                words[image, back, : len(tokens)] = np.roll(tokens, back)
        whole = torch.from_numpy(words).to(features.device)
        return cls(whole[:, 0], whole[:, 1:], torch.from_numpy(parts).to(features.device))

    def __call__(self, tokens: Tensor, words: int) -> Tensor:
        """As in `search.Bonus`. A word alone counts once in a caption, longer n-grams each time that they are said."""
        images, beams, steps = tokens.shape
        single = self.parts.new_zeros(images, words).scatter_add_(1, self.words, self.parts[:, 0])
        bonus = single.unsqueeze(1).repeat(1, beams, 1).scatter_(2, tokens, 0.0)
        same = torch.ones(images, beams, self.words.shape[1], dtype=torch.bool, device=tokens.device)
        longer = self.parts.new_zeros(same.shape)
        for back in range(min(steps, self.before.shape[1])):
            same = same & (self.before[:, back].unsqueeze(1) == tokens[:, :, -1 - back].unsqueeze(2))
            longer += same * self.parts[:, back + 1].unsqueeze(1)
        return bonus.scatter_add_(2, self.words.unsqueeze(1).expand_as(longer), longer)

    def keep_images(self, images: Tensor) -> "NeighbourBonus":
        return NeighbourBonus(*(tensor[images] for tensor in self))
