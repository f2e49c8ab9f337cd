"""Calibration: isotonic regression, reliability, calibration error, risk and coverage.

`confidence` (caption): predicted probabilities, 0 to 1; `right` (caption): outcomes, 0 or 1.
"""

from typing import NamedTuple

import numpy as np

BINS = 10  # of equal width


def isotonic(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The nondecreasing function of `x` (item) nearest to `y` (item) in least squares: the distinct values of `x`,
    ascending, and the function's value at each.

    Pool adjacent violators: Barlow et al. 1972, "Statistical Inference under Order Restrictions".
    """
    places, inverse = np.unique(np.asarray(x, float), return_inverse=True)
    weight = np.bincount(inverse, weights)
    mean = np.bincount(inverse, np.asarray(y, float) * (1 if weights is None else weights)) / weight
    pools: list[tuple[float, float, int]] = []  # value, weight, places
    for value, heavy in zip(mean.tolist(), weight.tolist(), strict=True):
        pool = value, heavy, 1
        while pools and pools[-1][0] >= pool[0]:
            before = pools.pop()
            both = before[1] + pool[1]
            pool = (before[0] * before[1] + pool[0] * pool[1]) / both, both, before[2] + pool[2]
        pools.append(pool)
    return places, np.repeat([value for value, *_ in pools], [number for *_, number in pools])


class Bin(NamedTuple):
    """Captions of similar confidence, from `low` to `high`: their number, mean confidence, and share of right ones."""

    low: float
    high: float
    captions: int
    confidence: float
    right: float


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The captions in `bins` of equal width, without empty ones."""
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    found = []
    for number in np.unique(place).tolist():
        inside = place == number
        means = float(confidence[inside].mean()), float(right[inside].mean())
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), *means))
    return found


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """ECE: the mean over captions of |mean confidence - share right| of their bin, 0 to 1.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017,
    "On Calibration of Modern Neural Networks", section 2. On a small set its expectation is above 0 by chance alone.
    """
    found = reliability(confidence, right, bins)
    return sum(b.captions * abs(b.confidence - b.right) for b in found) / max(sum(b.captions for b in found), 1)


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk at each threshold, i.e. each distinct confidence, descending: the share of captions with at
    least that confidence, and the share of wrong ones among them.

    El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective Classification".
    """
    order = np.argsort(-np.asarray(confidence, float), kind="stable")
    sure, wrong = np.asarray(confidence, float)[order], 1 - np.asarray(right, float)[order]
    # last index of equal values
    last = np.flatnonzero(np.append(np.diff(sure) != 0, True)) if len(sure) else np.array([], int)
    covered = last + 1
    return covered / max(len(sure), 1), np.cumsum(wrong)[last] / covered
