"""Rows of arrays: ranges of different lengths, and rows spread over all."""

import numpy as np


def ragged(first: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Concatenated ranges: first[0], first[0] + 1, ... (`number[0]` of them), then those of the next."""
    start = np.cumsum(number) - number
    return np.arange(int(number.sum())) - np.repeat(start - first, number)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """`most` of `count` rows, int64, the first and the last among them; all rows where there are fewer."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
