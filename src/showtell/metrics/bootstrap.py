"""Bootstrap intervals of scores over images, and paired comparison of two systems.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 13 (percentile intervals) and 16; Koehn 2004,
"Statistical Significance Tests for Machine Translation Evaluation", for pairing: both systems are scored on the same
resampled images. A metric is a function of statistics that add up over images, so that corpus metrics such as BLEU are
recomputed for each resample, not averaged. CIDEr-D is the mean of its image scores with document frequencies fixed at
those of the whole set: resampling them too would measure the variation of the references as well.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

REPLICATES = 1000
LEVEL = 0.95
RESAMPLED_AT_ONCE = 2_000_000  # resampled images held at once, to bound memory


class Measured(NamedTuple):
    """A metric as sums: `statistics` (image, column), and `value` that turns sums (..., column) into scores (...)."""

    statistics: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]

    @property
    def score(self) -> float:
        return float(self.value(self.statistics.sum(axis=0)))


class Difference(NamedTuple):
    """Score of system b minus score of system a, with its interval and two-sided p-value."""

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float


def mean(values: Sequence[float] | np.ndarray) -> Measured:
    """The mean over images of one value each."""
    return ratio(np.asarray(values, float), np.ones(len(values)))


def ratio(part: Sequence[float] | np.ndarray, whole: Sequence[float] | np.ndarray) -> Measured:
    """The sum of `part` over the sum of `whole` (image): shares of mentions, of words; 0 where there is no whole."""
    return Measured(np.stack([np.asarray(part, float), np.asarray(whole, float)], axis=1), _quotient)


def _quotient(sums: np.ndarray) -> np.ndarray:
    part, whole = sums[..., 0], sums[..., 1]
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


def resampled(statistics: Sequence[np.ndarray], replicates: int, seed: int) -> list[np.ndarray]:
    """Sums over images drawn with replacement: for each table (image, column) one (replicate, column).

    The same images for every table, and for every call with the same seed and number of images.
    """
    images = len(statistics[0])
    if any(len(table) != images for table in statistics):
        raise ValueError("all tables must have the same images")
    generator = np.random.default_rng(seed)
    sums = [np.empty((replicates, table.shape[1])) for table in statistics]
    step = max(1, RESAMPLED_AT_ONCE // max(images, 1))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = generator.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(float)
        for table, into in zip(statistics, sums, strict=True):
            into[start : start + rows] = weights @ table  # (replicate, image) x (image, column)
    return sums


def _samples(metrics: Sequence[Measured], replicates: int, seed: int) -> list[np.ndarray]:
    """Each metric's score on every resample (replicate); tables that metrics share are summed once."""
    tables = {id(metric.statistics): metric.statistics for metric in metrics}
    sums = dict(zip(tables, resampled(list(tables.values()), replicates, seed), strict=True))
    return [metric.value(sums[id(metric.statistics)]) for metric in metrics]


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The central percentile interval of resampled scores."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def intervals(
    metrics: Mapping[str, Measured], replicates: int = REPLICATES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """For each metric the bounds of its interval, in the metric's own units; the same seed gives the same bounds."""
    if not metrics:
        return {}
    samples = _samples(list(metrics.values()), replicates, seed)
    return {name: interval(scores) for name, scores in zip(metrics, samples, strict=True)}


def compare(
    a: Mapping[str, Measured],
    b: Mapping[str, Measured],
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired difference b - a of every metric that both have; rows of both must be the same images in one order.

    The p-value is twice the smaller share of resamples on either side of no difference, counting the sample itself
    once, so it is never below 2 / (replicates + 1) and agrees with whether the interval holds 0.
    """
    names = [name for name in a if name in b]
    if not names:
        return {}
    samples = _samples([*(a[name] for name in names), *(b[name] for name in names)], replicates, seed)
    result = {}
    for name, of_a, of_b in zip(names, samples[: len(names)], samples[len(names) :], strict=True):
        change = of_b - of_a
        tail = min(int((change <= 0).sum()), int((change >= 0).sum()))
        p = min(1.0, 2 * (tail + 1) / (replicates + 1))
        score_a, score_b = a[name].score, b[name].score
        result[name] = Difference(score_a, score_b, score_b - score_a, *interval(change), p)
    return result


def extremes(
    image_ids: Sequence[Hashable], a: np.ndarray, b: np.ndarray, number: int = 5
) -> tuple[list[tuple[Hashable, float, float]], list[tuple[Hashable, float, float]]]:
    """The images that gained most from a to b and those that lost most, each with both scores; largest change first."""
    order = np.argsort(a - b, kind="stable")
    rows = [(image_ids[i], float(a[i]), float(b[i])) for i in order]
    gained = [row for row in rows[:number] if row[2] > row[1]]
    lost = [row for row in reversed(rows[-number:] if number else []) if row[2] < row[1]]
    return gained, lost
