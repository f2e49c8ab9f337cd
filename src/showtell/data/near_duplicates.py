"""Near-duplicates: images in two splits that look the same, so that a trained image would be tested.

Equal files are counted by `audit.py`; this module also finds images that were scaled, compressed again, brightened or
turned grey. The perceptual hash of an image is 64 bits of its discrete cosine transform, as in pHash (Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1): which of the 8 x 8 lowest
frequencies, without those that are constant along a side, are above their median. Two images are near-duplicates if at
most `MOST` bits differ.
Neighbours are found by parts of the hash (Norouzi et al. 2012, "Fast Search in Hamming Space with Multi-Index
Hashing"): of four parts one differs in at most MOST // 4 = 1 bit, so the table of each part is queried 17 times per
hash. This is exact, and compares some 0.1% of all pairs.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from showtell.core.arrays import ragged

SIDE, LOWEST = 32, 8  # side of the image that is transformed, pixels; frequencies kept along each side
# Bits. Every picture has as many bits above the median as below, so distances are even. Among 24.5 million pairs of
# photographs and 6.3 million pairs of drawn scenes the nearest different pictures differ in 8.
MOST = 6
PARTS, PART_BITS = 4, 16
FLAT = 2.0  # standard deviation of the small image, of 255, below which it is too uniform to compare
CANDIDATES = 1 << 22  # pairs compared at once; bounds memory, does not change results


@cache
def _cosines() -> np.ndarray:
    """(frequency, pixel): rows 1 to LOWEST of the discrete cosine transform."""
    return np.cos(np.pi * np.arange(1, LOWEST + 1)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE))


def picture_hash(row: np.ndarray) -> str:
    """16 hex digits of the perceptual hash of an image uint8 (3, height, width), RGB; empty for a uniform one."""
    grey = Image.fromarray(row.transpose(1, 2, 0)).convert("L").convert("F")
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    if small.std() < FLAT:
        return ""
    strengths = (_cosines() @ small @ _cosines().T).ravel()  # (frequency)
    return np.packbits(strengths > np.median(strengths)).tobytes().hex()


def nearest(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each hash of `asked` the index of the nearest one of `known` (uint64) and the number of differing bits.

    Among equally near ones the first; -1 where none differs in `MOST` bits or less.
    """
    if not len(known) or not len(asked):
        return np.full(len(asked), -1), np.zeros(len(asked), np.int64)
    hashes, firsts = np.unique(known, return_index=True)  # equal hashes are compared once
    count = len(known)
    best = np.full(len(asked), (MOST + 1) * count)  # distance and index in one number, so that a minimum gives both
    for part in range(PARTS):
        keys = _part(hashes, part)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for flipped in (0, *(1 << bit for bit in range(PART_BITS))):
            wanted = _part(asked, part) ^ flipped
            starts, ends = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
            for some in _shares(ends - starts):
                lengths = (ends - starts)[some]
                rows = np.repeat(some, lengths)
                candidates = order[ragged(starts[some], lengths)]
                bits = _ones(hashes[candidates] ^ asked[rows])
                np.minimum.at(best, rows, bits * count + firsts[candidates])
    found = best < (MOST + 1) * count
    return np.where(found, best % count, -1), np.where(found, best // count, 0)


def _part(hashes: np.ndarray, part: int) -> np.ndarray:
    return (hashes >> np.uint64(part * PART_BITS)).astype(np.uint16)


def _shares(lengths: np.ndarray) -> list[np.ndarray]:
    """Rows with candidates, in blocks of about `CANDIDATES`."""
    rows = np.flatnonzero(lengths)
    if not len(rows):
        return []
    total = np.cumsum(lengths[rows])
    return np.split(rows, np.flatnonzero(np.diff(total // CANDIDATES)) + 1)


@cache
def _ones_of_part() -> np.ndarray:
    return np.unpackbits(np.arange(1 << PART_BITS, dtype=np.uint16).view(np.uint8)).reshape(-1, PART_BITS).sum(axis=1)


def _ones(hashes: np.ndarray) -> np.ndarray:
    """The number of set bits of each."""
    return sum((_ones_of_part()[_part(hashes, part)] for part in range(PARTS)), np.zeros(len(hashes), np.int64))


class Looks(NamedTuple):
    """The images of a split in order: their ids, files and perceptual hashes, empty for those that are not compared."""

    ids: Sequence[str]
    files: Sequence[str]
    hashes: Iterable[str]  # read once


def near_duplicates(splits: Mapping[str, Looks]) -> list[dict[str, Any]]:
    """For every two splits, each image of the later one that has a near-duplicate in the earlier one, with its nearest:
    `splits`, `image_ids`, `files` (earlier, later) and `bits` that differ."""
    hashed = {name: _numbers(looks.hashes) for name, looks in splits.items()}
    names, pairs = list(splits), []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            (known, known_rows), (asked, asked_rows) = hashed[one], hashed[other]
            earlier, later = splits[one], splits[other]
            places, bits = nearest(known, asked)
            for place in np.flatnonzero(places >= 0):
                row, twin = int(known_rows[places[place]]), int(asked_rows[place])
                ids, files = [earlier.ids[row], later.ids[twin]], [earlier.files[row], later.files[twin]]
                pairs.append({"splits": [one, other], "image_ids": ids, "files": files, "bits": int(bits[place])})
    return pairs


def _numbers(hashes: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes that are not empty, uint64 (hash), and the row of each."""
    numbers, rows = array("Q"), array("q")
    for row, digits in enumerate(hashes):
        if digits:
            numbers.append(int(digits, 16))
            rows.append(row)
    return np.array(numbers, np.uint64), np.array(rows, np.int64)


def counted(pairs: Sequence[Mapping[str, Any]], splits: Sequence[str]) -> dict[str, int]:
    """The number of images of each later split with a near-duplicate in an earlier one."""
    return {
        f"near_duplicates_{one}_{other}": sum(pair["splits"] == [one, other] for pair in pairs)
        for number, one in enumerate(splits)
        for other in splits[number + 1 :]
    }
