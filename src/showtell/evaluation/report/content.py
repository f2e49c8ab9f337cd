"""The content of a report as plain data, filled by `evaluate`; independent of networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from showtell.evaluation.confidence_fit import Sureness
from showtell.evaluation.report.nearest import Nearest
from showtell.generation.captioner import Caption


@dataclass(frozen=True)
class ReportImage:
    """One test image with its captions and scores."""

    image_id: str
    captions: Sequence[Caption]  # best first; the first is the hypothesis
    references: Sequence[str]
    cider: float  # CIDEr-D of the hypothesis, unscaled (0-10)
    nearest: Nearest | None = None
    marks: Sequence[str] = ()  # words to filter by, such as "unseen"


@dataclass(frozen=True)
class ReportData:
    """A whole evaluation. Fractions are fractions here; the page shows them times 100.

    `pixels(i)` gives image i as the model gets it, uint8 (3, height, width), RGB.
    """

    title: str  # of the dataset
    facts: Sequence[str]  # a few words each, below the title: images, model, beam
    metrics: Mapping[str, float | None]  # of test
    intervals: Mapping[str, float]  # <metric>_low and <metric>_high
    others: Mapping[str, Mapping[str, float | None]]  # heading of a column -> metrics shown beside those of test
    behaviour: Mapping[str, float | None]
    curves: Mapping[str, Sequence[Mapping[str, float]]]  # stage -> a row for each epoch
    sweep: Sequence[Mapping[str, Any]]  # method, beam, length_penalty, cider, bleu4, milliseconds, best
    params: Mapping[str, Any]
    images: Sequence[ReportImage]
    pixels: Callable[[int], np.ndarray]
    notes: Mapping[str, str] = field(default_factory=dict)  # metric -> why it was not computed
    sure: Mapping[str, Sureness] = field(default_factory=dict)  # "good", "true": predicted probabilities and outcomes
    slices: Sequence[Mapping[str, Any]] = ()  # by, part, images, then metrics with their _low and _high
