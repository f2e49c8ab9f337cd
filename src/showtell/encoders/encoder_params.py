"""The section `encoder` of params.yaml, and the image statistics of its weights, known before the network is built."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from showtell.core.params import PathName, Section
from showtell.core.precision import Precision
from showtell.core.progress import log
from showtell.data.transform import Transform
from showtell.encoders import timm_names, weights
from showtell.encoders.backbone import ImageStatistics


class EncoderParams(Section):
    """Which network encodes the images, and which of its activations the decoder gets."""

    name: str = Field(description="a classification model of torchvision.models, or timm/NAME")
    weights: PathName = Field(description="DEFAULT, published weights by name, scenes, none, or a state dict's path")
    output: Literal["grid", "pooled", "hidden"] = Field(description="what the decoder gets of an image")
    node: str | None = Field(description="layer whose output is the grid; null: the last map before the classifier")
    levels: list[str] | None = Field(description="earlier layers whose maps each cell has as well; null: none")
    crop: int | None = Field(ge=16, le=2048, description="pixels: it sees this square of the middle; null: all")
    precision: Precision = Field(description="arithmetic of the frozen encoder")

    @field_validator("levels")
    @classmethod
    def _has_cells(cls, levels: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if levels and info.data.get("output") == "hidden":
            raise PydanticCustomError("hidden", "hidden features have no cells that could have more; set it to null")
        if levels is not None and (not levels or len(set(levels)) < len(levels)):
            raise PydanticCustomError("levels", "must name one layer or more, each once; null for none")
        return levels

    @field_validator("crop")
    @classmethod
    def _no_cropped_grid(cls, crop: int | None, info: ValidationInfo) -> int | None:
        if crop is not None and info.data.get("output") == "grid":
            raise PydanticCustomError("grid", "a grid's cells stand for places in the whole picture; set it to null")
        return crop


def say_differences(params: EncoderParams, transform: Transform) -> None:
    """Log a line where images are not resized as they were for the training of the weights."""
    wanted, seen = image_statistics(params), params.crop or transform.size
    if params.weights == "none" or (wanted.filter, wanted.size or seen) == (transform.filter, seen):
        return
    size = f"{wanted.size} pixels" if wanted.size else "any size"
    log(
        f"{params.name}: its weights were made for pictures of {size}, {wanted.filter}; those here have "
        f"{seen}, {transform.filter} ({'encoder.crop' if params.crop else 'resize.size'}, resize.filter)"
    )


def image_statistics(params: EncoderParams) -> ImageStatistics:
    """Statistics of the weights that `params` names; `UserError` for unknown names. Nothing is downloaded."""
    library = timm_names if params.name.startswith(timm_names.PREFIX) else weights
    return library.image_statistics(params.name, params.weights)
