"""N-gram counts of many captions at once, shared by BLEU and CIDEr-D.

Words and n-grams become integer ids, exactly (no hashing, so no collisions): an n-gram's id stands for the pair
(id of its first n-1 words, id of its last word). Counting is then sorting, which in NumPy is a hundred times faster
than dictionaries of tuples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

ORDER = 4  # BLEU and CIDEr-D both use one- to four-grams
IMAGES_PER_BLOCK = 1024  # images whose captions are scored at once; bounds memory, does not change results
_SHIFT = 31  # ids stay below 2**31, so a pair of them fits an int64


class Counts(NamedTuple):
    """Distinct n-grams of one order with their counts, sorted by caption, then by n-gram; all int64 (entry)."""

    caption: np.ndarray
    ngram: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count, which is not used

    def split(self, captions: int) -> "tuple[Counts, Counts]":
        """The counts of the first `captions` captions, and those of the rest, renumbered from 0."""
        at = int(np.searchsorted(self.caption, captions))
        first, rest = Counts(*(x[:at] for x in self)), Counts(*(x[at:] for x in self))
        return first, rest._replace(caption=rest.caption - captions)


def keyed(rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """One number for each pair (row, id), in the order of rows, then of ids."""
    return (rows << _SHIFT) | ids


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of each wanted value in the sorted `keys`, and whether it exists."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def lookup(counts: Counts, values: np.ndarray, caption: np.ndarray, ngram: np.ndarray) -> np.ndarray:
    """The `values` of `counts`' entries at (caption, ngram), 0 where there is no such entry."""
    place, found = _find(keyed(counts.caption, counts.ngram), keyed(caption, ngram))
    if not len(values):
        return np.zeros(len(caption), values.dtype)
    return np.where(found, values[place], 0)


def total(rows: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sum of `values` for each row 0..size-1, float64 (NumPy's bincount of an empty array gives integers)."""
    return np.bincount(rows, values, size).astype(float, copy=False)


def group(image: np.ndarray, counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each distinct (image, n-gram): the image, the n-gram and the largest count in one caption of the image.

    `image` (caption) names each caption's image.
    """
    keys = keyed(image[counts.caption], counts.ngram)
    order = np.argsort(keys, kind="stable")
    keys, largest = keys[order], counts.count[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, np.int64)
    if len(starts):
        largest = np.maximum.reduceat(largest, starts)
    keys = keys[starts]
    return keys >> _SHIFT, keys & ((1 << _SHIFT) - 1), largest


class NgramIds:
    """Ids of the n-grams of one set of captions, whose words are ints, 0 or more; further captions are counted with the
    same ids."""

    def __init__(self, words: np.ndarray, lengths: np.ndarray) -> None:
        """The captions that define the ids: concatenated words (word), and their lengths (caption)."""
        self._keys: list[np.ndarray] = []  # per order above one: the sorted pairs; ids are their indices
        self._defined = False
        self.counts = self.count(words, lengths)
        self._defined = True

    def count(self, words: np.ndarray, lengths: np.ndarray) -> list[Counts]:
        """Counts of captions by order; n-grams without an id get new ones, the same within one call."""
        caption, result = np.repeat(np.arange(len(lengths)), lengths), []
        for ids, first in self.occurrences(words, lengths):
            keys, count = np.unique(keyed(caption[first], ids), return_counts=True)
            result.append(Counts(keys >> _SHIFT, keys & ((1 << _SHIFT) - 1), count))
        return result

    def occurrences(self, words: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each order the id of every n-gram in the captions, and the index of its first word (n-gram); ids as in
        `count`."""
        words = words.astype(np.int64, copy=False)  # a pair of ids does not fit into stored tokens' 32 bits
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))  # words to the caption's end (word)
        ids = words
        for order in range(1, ORDER + 1):
            if order > 1:
                ids = self._ids(order, keyed(ids[:-1], words[order - 1 :]))
            first = np.flatnonzero(left[: len(ids)] >= order)
            yield ids[first], first

    def count_both(
        self, references: tuple[np.ndarray, np.ndarray], captions: tuple[np.ndarray, np.ndarray]
    ) -> tuple[list[Counts], list[Counts]]:
        """Counts of references and of captions, each words (word) and lengths (caption), by order.

        They are counted in one call, so that an n-gram without an id gets the same one on both sides.
        """
        words, lengths = (np.concatenate(both) for both in zip(references, captions, strict=True))
        parts = [of_order.split(len(references[1])) for of_order in self.count(words, lengths)]
        return [theirs for theirs, _ in parts], [ours for _, ours in parts]

    def _ids(self, order: int, pairs: np.ndarray) -> np.ndarray:
        if not self._defined:
            keys, ids = np.unique(pairs, return_inverse=True)
            self._keys.append(keys)
            return ids
        known = self._keys[order - 2]
        ids, found = _find(known, pairs)
        _, fresh = np.unique(pairs[~found], return_inverse=True)
        ids[~found] = len(known) + fresh
        return ids


def flat(captions: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Captions whose words are ints, as the arguments of `NgramIds`: words concatenated (word), and lengths (caption),
    int64."""
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    return np.fromiter(chain.from_iterable(captions), np.int64, int(lengths.sum())), lengths


class Ngrams:
    """The n-grams of a set of captions; further captions can be counted with the same ids.

    `counts[n]` has the captions' (n+1)-grams, `lengths` (caption) their numbers of words.
    """

    def __init__(self, captions: Iterable[str]) -> None:
        self._words: dict[str, int] = {}
        words, self.lengths = self._encode(captions, self._words)
        self._ids = NgramIds(words, self.lengths)
        self.counts = self._ids.counts

    def count(self, captions: Iterable[str]) -> tuple[list[Counts], np.ndarray]:
        """Counts and lengths of further captions; their unseen n-grams get ids beyond all known ones."""
        words, lengths = self._encode(captions, dict(self._words))
        return self._ids.count(words, lengths), lengths

    def count_both(
        self, references: Iterable[str], captions: Iterable[str]
    ) -> tuple[list[Counts], list[Counts], np.ndarray]:
        """Counts of references and of captions, and lengths of captions; an unseen n-gram has one id on both sides."""
        table = dict(self._words)
        theirs, ours = self._encode(references, table), self._encode(captions, table)
        return *self._ids.count_both(theirs, ours), ours[1]

    @staticmethod
    def _encode(captions: Iterable[str], table: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        ids: list[int] = []
        lengths: list[int] = []
        for caption in captions:
            words = caption.split()
            lengths.append(len(words))
            ids += [table.setdefault(word, len(table)) for word in words]
        return np.array(ids, np.int64), np.array(lengths, np.int64)


class References(Ngrams):
    """Reference captions {image_id: [tokenised caption]} with their n-grams, prepared once for any number of scorings.

    `image_ids` in the mapping's order; `image` (caption) is each reference's row in it; `number` (image) counts them.
    """

    def __init__(self, references: Mapping[Any, Sequence[str]]) -> None:
        self.image_ids = list(references)
        self.captions = [list(references[image_id]) for image_id in self.image_ids]
        for image_id, captions in zip(self.image_ids, self.captions, strict=True):
            if not captions:
                raise ValueError(f"image {image_id!r} has no reference")
        self.number = np.array([len(captions) for captions in self.captions], np.int64)
        self.image = np.repeat(np.arange(len(self.image_ids)), self.number)
        super().__init__(caption for captions in self.captions for caption in captions)

    def in_order(self, hypotheses: Mapping[Any, str | Sequence[str]]) -> list[str]:
        """One hypothesis per image, in the references' order; `ValueError` names missing, extra or repeated ones."""
        missing = [image_id for image_id in self.image_ids if image_id not in hypotheses]
        if missing or len(hypotheses) != len(self.image_ids):
            extra = [image_id for image_id in hypotheses if image_id not in set(self.image_ids)]
            raise ValueError(f"hypotheses missing for {missing[:5]}, without references {extra[:5]}")
        result = []
        for image_id in self.image_ids:
            caption = hypotheses[image_id]
            if not isinstance(caption, str):
                if len(caption) != 1:
                    raise ValueError(f"image {image_id!r} has {len(caption)} hypotheses, wanted one")
                caption = caption[0]
            result.append(caption)
        return result


def prepared(references: "Mapping[Any, Sequence[str]] | References") -> References:
    """`references` with n-grams counted; returned unchanged if they are prepared already."""
    return references if isinstance(references, References) else References(references)
