"""The training caption that a generated one is most like: is the model describing, or remembering?

Captions are compared as sets of words and pairs of neighbouring words. Each n-gram g has the weight
log(1 + N / (1 + n)), where n of the N distinct training captions hold it, so that rare ones count. The similarity of
two captions is the weight of what they share over the weight of what either has (weighted Jaccard, 0-1; 1 for captions
of the same n-grams). The nearest is the one of greatest similarity, the earliest in training order among equals.

The search is exact: candidates are the captions that share the rarest n-grams, and it stops when no caption without
those could be as similar as the best one found.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Nearest(NamedTuple):
    """A training caption and its similarity, 0-1."""

    caption: str
    similarity: float


def ngrams(words: Sequence[str]) -> list[str]:
    """The distinct words and pairs of neighbouring words."""
    return list(dict.fromkeys([*words, *(f"{first} {second}" for first, second in pairwise(words))]))


class TrainingCaptions:
    """Training captions, counted once, to be searched often."""

    def __init__(self, captions: Iterable[Sequence[str]]):
        """`captions` as words."""
        self.texts = list(dict.fromkeys(" ".join(words) for words in captions))
        self._number: dict[str, int] = {}
        number, flat, starts = self._number, [], [0]
        for text in self.texts:
            flat += [number.setdefault(gram, len(number)) for gram in ngrams(text.split(" "))]
            starts.append(len(flat))
        self._grams, self._starts = np.array(flat, np.int64), np.array(starts)  # grams of caption i: starts[i : i + 2]
        owners = np.repeat(np.arange(len(self.texts)), np.diff(self._starts))
        self._holders = owners[np.argsort(self._grams, kind="stable")]
        counts = np.bincount(self._grams, minlength=len(number))
        self._ends = np.concatenate([[0], np.cumsum(counts)])  # captions holding gram g: holders[ends[g] : ends[g + 1]]
        self._weights = np.log1p(len(self.texts) / (1 + counts))
        self._unseen = float(np.log1p(len(self.texts)))  # weight of an n-gram that no training caption holds
        self._totals = self._sums(np.arange(len(self.texts)), self._weights)

    def nearest(self, words: Sequence[str]) -> Nearest | None:
        """The most similar training caption; None when none shares a word."""
        grams = ngrams(words)
        known = sorted({self._number[gram] for gram in grams if gram in self._number}, key=lambda g: -self._weights[g])
        total = float(self._weights[known].sum()) + self._unseen * (len(grams) - len(known))
        shared = np.zeros(len(self._number))  # the weight of each n-gram that the caption has, else 0
        shared[known] = self._weights[known]
        seen = np.zeros(len(self.texts), bool)
        best, place, remaining = 0.0, -1, float(self._weights[known].sum())
        for gram in known:
            if best > remaining / total + 1e-12:  # what shares only the rest cannot come near
                break
            remaining -= float(self._weights[gram])
            holders = self._holders[self._ends[gram] : self._ends[gram + 1]]
            fresh = holders[~seen[holders]]
            seen[fresh] = True
            if not len(fresh):
                continue
            common = self._sums(fresh, shared)
            similarity = common / (total + self._totals[fresh] - common)
            top = float(similarity.max())
            first = int(fresh[similarity >= top - 1e-12].min())
            if top > best + 1e-12 or (top > best - 1e-12 and first < place):
                best, place = max(top, best), first
        return Nearest(self.texts[place], min(best, 1.0)) if place >= 0 else None

    def _sums(self, captions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """For each of `captions` the sum of `weights` (gram) over its n-grams."""
        lengths = self._starts[captions + 1] - self._starts[captions]
        ends = np.cumsum(lengths)
        inside = np.arange(int(lengths.sum())) - np.repeat(ends - lengths - self._starts[captions], lengths)
        owner = np.repeat(np.arange(len(captions)), lengths)
        return np.bincount(owner, weights[self._grams[inside]], minlength=len(captions))
