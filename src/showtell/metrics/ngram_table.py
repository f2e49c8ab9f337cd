"""N-grams of a large corpus with the number of images that have each: in temporary files, searched in blocks.

The ids and frequencies are those of `ngrams.NgramIds` and `cider.DocumentFrequencies`, which are held in memory: an
n-gram's id is its index among all of its order, sorted by words.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from showtell.core.spools import Mapped, Spool
from showtell.metrics.ngrams import ORDER, Counts, NgramIds, keyed

T = TypeVar("T")

NGRAMS_AT_ONCE = 1 << 18  # n-grams sorted or scanned at once
IMAGES_AT_ONCE = 1 << 12  # images whose n-grams are read at once


class _Order(NamedTuple):
    """N-grams of one order: `keys` (n-gram), sorted, each a pair of the preceding n-gram's id and the last word;
    `images` (n-gram): the number of images that have each."""

    keys: Mapped
    images: Mapped

    def find(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of ascending keys (wanted), and whether they exist."""
        keys = self.keys.array
        place, found = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
        for start in range(0, len(keys), NGRAMS_AT_ONCE):
            part = keys[start : start + NGRAMS_AT_ONCE]
            low, high = np.searchsorted(wanted, [part[0], part[-1]], side="left")
            high += int(high < len(wanted) and wanted[high] == part[-1])
            inside = np.searchsorted(part, wanted[low:high])
            found[low:high] = part[inside] == wanted[low:high]
            place[low:high] = start + inside
            self.keys.forget()
        return place, found


class NgramTable(NgramIds):
    """The n-grams of many images' captions, for counting further captions in the same ids, and for their tf-idf."""

    def __init__(self, images: Iterable[Sequence[str]]):
        """`images`: for each image its captions, words joined by spaces; iterated over once."""
        self.words: dict[str, int] = {}
        numbers: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        with Spool(np.int32) as spool:
            for block in in_blocks(images, IMAGES_AT_ONCE):
                said = [caption.split() for captions in block for caption in captions]
                numbers.append(np.array([len(captions) for captions in block], np.int32))
                lengths.append(np.array([len(words) for words in said], np.int32))
                words = self.words
                spool.add(np.array([words.setdefault(w, len(words)) for caption in said for w in caption], np.int32))
            words_of_all = spool.mapped()
        self._number, self._lengths = _joined(numbers), _joined(lengths)
        self.images = len(self._number)
        self._log_images = np.log(float(max(self.images, 1)))
        self._first = self._count_words(words_of_all)
        self._orders = self._all_orders(words_of_all)
        del self._number, self._lengths

    def _parts(self, words: Mapped) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of images: the slice of their words; the words, their images and the words to the caption's end
        (word)."""
        captions, start = np.concatenate([[0], np.cumsum(self._number, dtype=np.int64)]), 0
        for low in range(0, self.images, IMAGES_AT_ONCE):
            high = min(low + IMAGES_AT_ONCE, self.images)
            lengths = self._lengths[captions[low] : captions[high]].astype(np.int64)
            image = np.repeat(np.repeat(np.arange(low, high), self._number[low:high]), lengths)
            end = start + len(image)
            left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(image))
            yield slice(start, end), words.array[start:end].astype(np.int64), image, left
            words.forget()
            start = end

    def _count_words(self, words: Mapped) -> np.ndarray:
        """The number of images that have each word (word)."""
        counts = np.zeros(len(self.words), np.int64)
        for _, of_part, image, _ in self._parts(words):
            counts += np.bincount(np.unique(keyed(image, of_part)) & ((1 << 31) - 1), minlength=len(counts))
        return counts

    def _all_orders(self, words: Mapped) -> list[_Order]:
        ids, size, result = words, len(self.words), []
        for order in range(2, ORDER + 1):
            following = Mapped.blank(len(words.array) if order < ORDER else 0, np.int32)
            keys, images = Spool(np.int64), Spool(np.int32)
            for low, high in self._ranges(words, ids, size, order):
                found = [part[:3] for part in self._range(words, ids, order, low, high)]
                key, image, place = (np.concatenate([part[k] for part in found]) for k in range(3))
                distinct, number = np.unique(key, return_inverse=True)
                within = image >= 0
                of_images = np.unique(number[within] * self.images + image[within]) // max(self.images, 1)
                if order < ORDER:
                    following.array[place] = keys.count + number
                    following.forget()
                keys.add(distinct)
                images.add(np.bincount(of_images, minlength=len(distinct)))
            size = keys.count
            result.append(_Order(keys.mapped(), images.mapped()))
            ids = following
        return result

    def _range(
        self, words: Mapped, ids: Mapped, order: int, low: int, high: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Keys of the n-grams whose first words have ids from `low` to `high`, their images, positions and first words'
        ids.

        Those that extend into the next caption have ids, as they have in `NgramIds`, and image -1.
        """
        for place, _, image, left in self._parts(words):
            last = words.array[place.start + order - 1 : place.stop + order - 1].astype(np.int64)
            before = ids.array[place][: len(last)].astype(np.int64)
            ids.forget()
            inside = np.flatnonzero((before >= low) & (before < high))
            whole = np.where(left[inside] >= order, image[inside], -1)
            yield keyed(before[inside], last[inside]), whole, place.start + inside, before[inside]

    def _ranges(self, words: Mapped, ids: Mapped, size: int, order: int) -> Iterator[tuple[int, int]]:
        """Ranges of first words' ids, `size` in all, with about `NGRAMS_AT_ONCE` n-grams each."""
        width = -(-size // 4096) or 1
        count = np.zeros(-(-size // width), np.int64)
        for *_, before in self._range(words, ids, order, 0, size):
            count += np.bincount(before // width, minlength=len(count))
        group = np.cumsum(count) // NGRAMS_AT_ONCE
        yield from pairwise([*(width * np.flatnonzero(np.diff(group, prepend=-1))).tolist(), size])

    def _ids(self, order: int, pairs: np.ndarray) -> np.ndarray:
        table = self._orders[order - 2]
        distinct, fresh = np.unique(pairs, return_inverse=True)
        place, found = table.find(distinct)
        return np.where(found, place, len(table.keys.array) + np.arange(len(distinct)))[fresh]

    def count_texts(self, captions: Iterable[str], more: dict[str, int]) -> tuple[list[Counts], np.ndarray]:
        """Counts by order, and lengths, of captions; `more` maps words to ids, and gets the new ones."""
        said = [caption.split() for caption in captions]
        words = np.array([more.setdefault(word, len(more)) for caption in said for word in caption], np.int64)
        lengths = np.array([len(caption) for caption in said], np.int64)
        return self.count(words, lengths), lengths

    def frequencies(self, order: int, ngrams: np.ndarray) -> np.ndarray:
        """The number of images that have each of these n-grams (n-gram); 0 for ids beyond the table's."""
        if order == 0:
            return np.append(self._first, 0)[np.minimum(ngrams, len(self._first))]
        images = self._orders[order - 1].images
        distinct, place = np.unique(ngrams, return_inverse=True)
        found = np.zeros(len(distinct), np.int64)
        for start in range(0, len(images.array), NGRAMS_AT_ONCE):
            low, high = np.searchsorted(distinct, [start, min(start + NGRAMS_AT_ONCE, len(images.array))])
            found[low:high] = images.array[distinct[low:high]]
            images.forget()
        return found[place]

    def images_with(self, order: int, ngrams: Sequence[Sequence[str]]) -> np.ndarray:
        """The number of images that have each of these n-grams of `order` words (n-gram)."""
        unknown = len(self.words)
        numbers = np.array([self.words.get(word, unknown) for words in ngrams for word in words], np.int64)
        words = numbers.reshape(-1, order)
        ids = words[:, 0]
        for longer in range(2, order + 1):
            ids = self._ids(longer, keyed(ids, words[:, longer - 1]))
        return self.frequencies(order - 1, ids)

    def weigh(self, order: int, counts: Counts) -> np.ndarray:
        """tf-idf of every entry; an n-gram in no image counts as if one image had it."""
        return (self._log_images - np.log(np.maximum(self.frequencies(order, counts.ngram), 1.0))) * counts.count


def in_blocks(images: Iterable[T], size: int) -> Iterator[list[T]]:
    """`images` in lists of `size`."""
    block: list[T] = []
    for image in images:
        block.append(image)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *parts])
