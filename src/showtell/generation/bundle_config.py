"""The schema of a bundle's `config.json`, checked before anything is built."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError

from showtell.core.errors import UserError
from showtell.core.params import Section
from showtell.core.precision import Precision
from showtell.core.terminal import one_line
from showtell.data.transform import Filter, Fit
from showtell.decoders import DecoderParams
from showtell.generation.search_params import SearchParams

FORMAT = 2  # format of the folder; raised when old and new code cannot read each other's folders


class DetectorConfig(Section):
    words: int = Field(ge=1)


class TransformConfig(Section):
    size: int = Field(ge=16, le=2048)
    fit: Fit
    filter: Filter


class BundleConfig(Section):
    """All parts of a model by name; then what `evaluate` adds: further models, calibration, training images, search
    settings, scores."""

    format: int
    encoder: dict[str, JsonValue]  # checked by Encoder
    decoder: DecoderParams
    detector: DetectorConfig | None
    transform: TransformConfig
    precision: Precision
    vocabulary: str  # hash
    # folders of the other models of the ensemble
    others: list[Annotated[str, Field(pattern=r"^others/\d+$")]] = Field(default_factory=list)
    confidence: Literal["confidence.json"] | None = None  # file of the calibration, see `confidence.py`
    neighbours: Literal["neighbours.safetensors"] | None = None  # file of the training images, see `neighbours.py`
    search: SearchParams | None = None  # the settings that the model was scored with
    scores: dict[str, float | None] | None = None  # metrics on test with them, fractions; CIDEr-D unscaled
    notes: dict[str, JsonValue] = Field(default_factory=dict)  # for people


def checked_config(content: Any, where: str) -> BundleConfig:
    """`content` of the file `where`, validated; `UserError` names the first error in it."""
    found = content.get("format") if isinstance(content, dict) else None
    if found is not None and found != FORMAT:
        raise UserError(
            f"{where} is of format {one_line(found)}, this version reads {FORMAT}; `dvc repro` writes it anew"
        )
    try:
        return BundleConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where} is not a model's configuration: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key, message = one_line(".".join(map(str, first["loc"]))), first["msg"][0].lower() + first["msg"][1:]
    if first["type"] in ("missing", "extra_forbidden"):
        return f"{key}: {message}"
    return f"{key} = {one_line(repr(first['input']))}: {one_line(message, 200)}" if key else one_line(message, 200)
