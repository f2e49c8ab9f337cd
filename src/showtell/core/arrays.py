"""Rows of arrays: ranges of different lengths, and rows spread over all."""

import numpy as np


def ragged(first: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Concatenated ranges: first[0], first[0] + 1, ... (`number[0]` of them), then those of the next."""
    start = np.cumsum(number) - number
    return np.arange(int(number.sum())) - np.repeat(start - first, number)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """`most` of `count` rows, int64, the first and the last among them; all rows where there are fewer."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def distinct_pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (left[i], right[i]) of two integer arrays, values 0 to 2**31 - 1, each once, ascending: int64 each."""
    pairs = np.unique(left.astype(np.int64) << 32 | right.astype(np.int64))
    return pairs >> 32, pairs & 0xFFFFFFFF
