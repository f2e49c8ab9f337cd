"""Calibration of the captions' confidence on val, and its error on test."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from showtell.evaluation.known_objects import true_captions
from showtell.evaluation.views import ByImage
from showtell.generation.captioner import Caption
from showtell.generation.confidence import Calibration, Confidence, scaled
from showtell.metrics.annotations import Annotations
from showtell.metrics.calibration import (
    Bin,
    expected_calibration_error,
    isotonic,
    reliability,
    risk_coverage,
)

# The quality of a caption is a mean over its words, as logprob / length is; whether all of it is true depends on every
# word, as the sum logprob does.
POWERS = {"good": 1.0, "true": 0.0}
# Captions of similar log probability are averaged before the fit. Fitted one by one, the best few on val, all right by
# chance, would get probability 1; the mean of 30 has a standard error of at most 0.1.
GROUP = 30
BEST = 10.0  # CIDEr-D of a perfect caption, which rounding may exceed
ROUNDING = 1e-9  # of CIDEr-D: captions with equal n-grams differ by less


class Judged(NamedTuple):
    """Captions of a split, one an image, with the CIDEr-D of each (caption) and whether all it states is true (or
    None)."""

    captions: Sequence[Caption]
    cider: np.ndarray
    true: Sequence[bool] | None


class Sureness(NamedTuple):
    """Predicted probabilities (caption) and outcomes (caption, 0 or 1)."""

    confidence: np.ndarray
    right: np.ndarray

    @property
    def error(self) -> float:
        return expected_calibration_error(self.confidence, self.right)

    @property
    def bins(self) -> list[Bin]:
        return reliability(self.confidence, self.right)

    @property
    def risk(self) -> tuple[np.ndarray, np.ndarray]:
        return risk_coverage(self.confidence, self.right)


def judged(
    entries: Sequence[Mapping[str, Any]], captions: Sequence[Caption], cider: np.ndarray, known: Annotations
) -> Judged:
    """`captions` of the images `entries`, in their order; `known`: what is in these."""
    best = ByImage([entry["image_id"] for entry in entries], captions)
    return Judged(captions, cider, true_captions(best, known))


def fit_confidence(val: Judged) -> Confidence:
    """The calibration from captions of val, generated with the settings that are served."""
    median = min(float(np.median(val.cider)), BEST)
    true = _fit(val.captions, np.asarray(val.true), POWERS["true"]) if val.true is not None else None
    return Confidence(median_cider=median, good=_fit(val.captions, _good(val.cider, median), POWERS["good"]), true=true)


def _good(cider: np.ndarray, median: float) -> np.ndarray:
    """Whether captions (caption) score as high as the median caption of val."""
    return cider >= median - ROUNDING


def _fit(captions: Sequence[Caption], right: np.ndarray, power: float) -> Calibration:
    """Isotonic regression over groups of neighbours; probabilities are kept away from 0 and 1."""
    x = np.array([scaled(caption.logprob, caption.length, power) for caption in captions])
    groups = np.array_split(np.argsort(x, kind="stable"), max(1, len(x) // GROUP))
    middle = np.array([x[group].mean() for group in groups])
    share = np.array([np.mean(right[group], dtype=float) for group in groups])
    places, chances = isotonic(middle, share, np.array([len(group) for group in groups], float))
    least = 1 / (len(x) + 2)  # the rule of succession
    return Calibration(
        power=power, places=places.tolist(), chances=chances.clip(least, 1 - least).tolist(), captions=len(x),
        lowest=float(x.min()),
    )  # fmt: skip


def sureness(confidence: Confidence, test: Judged) -> dict[str, Sureness]:
    """`good` and, where objects are annotated, `true`: the probabilities that `confidence` predicts for test's
    captions, and the outcomes."""
    found = {"good": _sureness(confidence.good, test.captions, _good(test.cider, confidence.median_cider))}
    if confidence.true is not None and test.true is not None:
        found["true"] = _sureness(confidence.true, test.captions, np.asarray(test.true))
    return found


def _sureness(calibration: Calibration, captions: Sequence[Caption], right: np.ndarray) -> Sureness:
    chances = [calibration.chance(caption.logprob, caption.length) for caption in captions]
    return Sureness(np.array(chances), right.astype(float))


def calibration_errors(found: Mapping[str, Sureness]) -> dict[str, float | None]:
    """For `metrics/evaluate.json`: ECE on test of each kind of confidence, None where it was not computed."""
    return {f"ece_{key}": found[key].error if key in found else None for key in POWERS}


def reliability_rows(found: Mapping[str, Sureness]) -> list[dict[str, Any]]:
    """For `metrics/reliability.tsv`: a row for each bin of each kind."""
    return [{"confidence_that": key, **one._asdict()} for key, kind in found.items() for one in kind.bins]
