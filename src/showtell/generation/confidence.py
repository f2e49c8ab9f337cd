"""Confidence of captions: probabilities computed from log probability and length, calibrated on val.

The bundle that `evaluate` writes holds the calibration as `confidence.json` and names it in `config.json`. Other models
have none.
"""

import math
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from showtell.core.errors import UserError
from showtell.core.files import read_json, write_json
from showtell.core.params import Section
from showtell.core.terminal import one_line

CONFIDENCE = "confidence.json"  # file name in the bundle

Chance = Annotated[float, Field(gt=0, lt=1)]


class Calibration(Section):
    """A nondecreasing function from logprob / length ** power to a probability: piecewise linear, constant outside."""

    power: float = Field(ge=0, le=5)
    places: list[float] = Field(min_length=1)  # knots, increasing
    chances: list[Chance]  # the probability at each knot, nondecreasing
    captions: int = Field(ge=1)  # number of captions that it was fitted on
    lowest: float  # the argument of the least likely of them; the first knot is a mean over several

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.places) != len(self.chances):
            raise ValueError(f"{len(self.places)} places and {len(self.chances)} chances")
        if any(np.diff(self.places) <= 0) or any(np.diff(self.chances) < 0):
            raise ValueError("places and chances must rise")
        return self

    def chance(self, logprob: float, length: int) -> float:
        """The probability for a caption of `length` tokens, the end token counted."""
        return float(np.interp(scaled(logprob, length, self.power), self.places, self.chances))

    def covers(self, logprob: float, length: int) -> bool:
        """Whether it was fitted on captions as unlikely as this one. Of unlikelier ones, as of pictures unlike all of
        val, nothing is known."""
        return scaled(logprob, length, self.power) >= self.lowest


def scaled(logprob: float, length: int, power: float) -> float:
    """The argument of a calibration."""
    return logprob / max(length, 1) ** power


class Confidence(Section):
    """The calibration of one model's captions, generated with the settings in its bundle.

    `good`: the probability that a caption's CIDEr-D is at least `median_cider`, the median of the model's captions of
    val. `true`: the probability that all it states of objects and colours is true; None where no objects are annotated.
    """

    median_cider: float = Field(ge=0, le=10)
    good: Calibration
    true: Calibration | None


def save_confidence(folder: Path, confidence: Confidence | None) -> None:
    """Write it into a bundle; None removes an existing one."""
    if confidence is None:
        (folder / CONFIDENCE).unlink(missing_ok=True)
    else:
        write_json(folder / CONFIDENCE, confidence.model_dump())


def load_confidence(path: Path) -> Confidence:
    """The calibration in the file `path`; `UserError` for a missing file and for one with other content."""
    try:
        return Confidence.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = one_line(".".join(map(str, first["loc"])))
        raise UserError(f"{path} is not a calibration: {key}: {one_line(first['msg'])}; run `dvc repro`") from None


def reason_against(confidence: float, least: float) -> str | None:
    """Why a caption with this confidence is withheld at threshold `least`; None when it is not."""
    if confidence >= least:
        return None
    return f"confidence {floored(confidence):g} is below {least:g}"


def floored(confidence: float) -> float:
    """Rounded down to three decimals: 0.4996 is below 0.5, and is shown as 0.499."""
    return math.floor(confidence * 1000 + 1e-6) / 1000  # 1000 * 0.57 is less than 570
