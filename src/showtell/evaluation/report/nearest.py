"""The training caption most similar to a generated one, to show whether the model copies training captions.

Captions are compared as sets of words and pairs of neighbouring words. Each n-gram g has the weight
log(1 + N / (1 + n)), where n of the N distinct training captions contain it, so that rare ones count more. The
similarity of two captions is the weight of their common n-grams over the weight of all their n-grams (weighted Jaccard,
0-1; 1 for captions with the same n-grams). The nearest is the one of greatest similarity, the earliest among equals.

The search is exact: candidates are the captions that share the rarest n-grams, and it stops when no other caption could
be as similar as the best one found. Words, n-grams and their inverted index are in temporary files, so that a caption
takes a few bytes of memory.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from showtell.core.arrays import ragged
from showtell.core.spools import NUMBERS_AT_ONCE, Mapped, Spool
from showtell.metrics.ngram_table import NGRAMS_AT_ONCE

CAPTIONS_AT_ONCE = 1 << 14  # bounds memory, does not change results


class Nearest(NamedTuple):
    """A training caption and its similarity, 0-1."""

    caption: str
    similarity: float


def ngrams(words: Sequence[str]) -> list[str]:
    """The distinct words and pairs of neighbouring words."""
    return list(dict.fromkeys([*words, *(f"{first} {second}" for first, second in pairwise(words))]))


class TrainingCaptions:
    """Training captions, indexed once for many searches."""

    def __init__(self, captions: Iterable[Sequence[str]]):
        """`captions` as words."""
        self._word: dict[str, int] = {}
        words, self._ends = self._distinct(captions)  # words of caption i end before ends[i]
        self._words, self._spelt = words.mapped(), list(self._word)
        self._pairs = self._all_pairs()  # (pair) of neighbouring words, sorted
        with self._grams_of_all() as grams:
            counts = self._counts(grams)
            self._holders_of = np.concatenate([[0], np.cumsum(counts)])  # n-gram g: holders[holders_of[g : g + 2]]
            self._weights = np.log1p(len(self._ends) / (1 + counts))
            self._unseen = float(np.log1p(len(self._ends)))  # weight of an n-gram in no training caption
            self._holders = self._who_holds(grams, counts)
            self._grams = grams.mapped()  # n-grams of caption i: grams[starts[i : i + 2]]
        self._totals = np.empty(len(self._ends))
        for part in self._parts():
            self._totals[part] = self._sums(part, self._weights)
            self._grams.forget()

    def _distinct(self, captions: Iterable[Sequence[str]]) -> tuple[Spool, np.ndarray]:
        """Word ids of the distinct captions, in order of first occurrence, and where each ends (caption)."""
        ends, names = array("q", [0]), bytearray()
        distinct = Spool(np.int32)
        with Spool(np.int32) as every:
            for words in captions:
                numbers = array("i", [self._word.setdefault(w, len(self._word)) for w in words or [""]])
                every.add(numbers)
                ends.append(every.count)
                names += hashlib.blake2b(numbers, digest_size=16).digest()
            halves = np.frombuffer(names, np.uint64).reshape(-1, 2)
            order = np.lexsort((halves[:, 1], halves[:, 0]))
            again = (halves[order][1:] == halves[order][:-1]).all(axis=1)
            first = np.ones(len(order), bool)
            first[order[1:][again]] = False  # lexsort is stable: the earliest of equal ones comes first
            lengths = np.diff(np.array(ends, np.int64)).astype(np.int64)
            kept, start = np.repeat(first, lengths), 0
            for block in every.blocks():
                distinct.add(block[kept[start : start + len(block)]])
                start += len(block)
        return distinct, np.cumsum(lengths[first])

    def _parts(self) -> Iterator[np.ndarray]:
        """The numbers of all captions, in blocks."""
        for start in range(0, len(self._ends), CAPTIONS_AT_ONCE):
            yield np.arange(start, min(start + CAPTIONS_AT_ONCE, len(self._ends)))

    def _neighbours(self, captions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The words of neighbouring captions (word) with their captions, and their pairs (pair) with their captions."""
        start = int(self._ends[captions[0] - 1]) if captions[0] else 0
        words = self._words.array[start : self._ends[captions[-1]]].astype(np.int64)
        owner = np.repeat(captions, np.diff(self._ends[captions], prepend=start))
        together = owner[1:] == owner[:-1]
        return words, owner, (words[:-1] << 32 | words[1:])[together], owner[1:][together]

    def _all_pairs(self) -> np.ndarray:
        pairs = np.zeros(0, np.int64)
        for part in self._parts():
            pairs = np.union1d(pairs, self._neighbours(part)[2])
        return pairs

    def _grams_of_all(self) -> Spool:
        """The distinct n-grams of every caption, concatenated; caption i begins at `_starts[i]`."""
        grams, numbers = Spool(np.int32), [np.zeros(0, np.int64)]
        for part in self._parts():
            words, owner, pairs, of_pair = self._neighbours(part)
            pair = len(self._word) + np.searchsorted(self._pairs, pairs)
            both = np.unique(np.concatenate([owner << 32 | words, of_pair << 32 | pair]))
            grams.add(both & 0xFFFFFFFF)
            numbers.append(np.bincount((both >> 32) - part[0], minlength=len(part)))
        self._starts = np.concatenate([[0], np.cumsum(np.concatenate(numbers))])
        self._words.forget()
        return grams

    def _counts(self, grams: Spool) -> np.ndarray:
        counts = np.zeros(len(self._word) + len(self._pairs), np.int64)
        for block in grams.blocks():
            number, times = np.unique(block, return_counts=True)
            counts[number] += times
        return counts

    def _who_holds(self, grams: Spool, counts: np.ndarray) -> Mapped:
        """The captions that contain each n-gram, ascending, concatenated by n-gram; sorted in blocks of n-grams."""
        holders = Spool(np.int32)
        group = np.cumsum(counts) // NGRAMS_AT_ONCE  # (n-gram), nondecreasing
        for low, high in pairwise([*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(counts)]):
            found: list[np.ndarray] = []
            owners: list[np.ndarray] = []
            for number, block in enumerate(grams.blocks()):
                inside = np.flatnonzero((block >= low) & (block < high))
                found.append(block[inside])
                place = number * NUMBERS_AT_ONCE + inside
                owners.append((np.searchsorted(self._starts, place, side="right") - 1).astype(np.int32))
            if found:
                holders.add(np.concatenate(owners)[np.argsort(np.concatenate(found), kind="stable")])
        return holders.mapped()

    def nearest(self, words: Sequence[str]) -> Nearest | None:
        """The most similar training caption; None when none shares a word."""
        grams = ngrams(words)
        known = sorted(self._known(words), key=lambda g: -self._weights[g])
        total = float(self._weights[known].sum()) + self._unseen * (len(grams) - len(known))
        shared = np.zeros(len(self._weights))  # the weight of each n-gram of the caption, else 0
        shared[known] = self._weights[known]
        seen = np.zeros(len(self._ends), bool)
        best, place, remaining = 0.0, -1, float(self._weights[known].sum())
        for gram in known:
            if best > remaining / total + 1e-12:  # captions that share only the remaining n-grams cannot be as similar
                break
            remaining -= float(self._weights[gram])
            holders = self._holders.array[self._holders_of[gram] : self._holders_of[gram + 1]]
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
        found = Nearest(self._text(place), min(best, 1.0)) if place >= 0 else None
        for mapped in (self._grams, self._holders, self._words):
            mapped.forget()
        return found

    def _known(self, words: Sequence[str]) -> set[int]:
        """Ids of a caption's n-grams that occur in training captions."""
        numbers = [self._word.get(word, -1) for word in words]
        pairs = np.array([a << 32 | b for a, b in pairwise(numbers) if a >= 0 and b >= 0], np.int64)
        place = np.searchsorted(self._pairs, pairs)
        there = place[self._pairs[np.minimum(place, len(self._pairs) - 1)] == pairs] if len(self._pairs) else place[:0]
        return {number for number in numbers if number >= 0} | {len(self._word) + int(p) for p in there}

    def _text(self, caption: int) -> str:
        start = int(self._ends[caption - 1]) if caption else 0
        return " ".join(self._spelt[number] for number in self._words.array[start : self._ends[caption]])

    def _sums(self, captions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """For each of `captions` the sum of `weights` (n-gram) over its n-grams."""
        lengths = self._starts[captions + 1] - self._starts[captions]
        inside = ragged(self._starts[captions], lengths)
        owner = np.repeat(np.arange(len(captions)), lengths)
        return np.bincount(owner, weights[self._grams.array[inside]], minlength=len(captions))
