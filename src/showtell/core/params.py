"""params.yaml, read in one place and checked whole before any work starts.

Each section is described by a class that lives beside the code it steers, so that a change to one part of the
pipeline re-runs that part alone. `load` looks the classes up by name (no import ties a stage to the others' code) and
checks the whole file, not only the section asked for: a typing error in `finetune` must stop `dvc repro` at its first
stage, not hours later.
"""

import importlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from showtell.core.errors import UserError

SECTIONS = {
    "dataset": "showtell.data.datasets.source:DatasetName",
    "download": "showtell.data.datasets.source:DownloadParams",
    "scenes": "showtell.data.datasets.scenes:ScenesParams",
    "custom": "showtell.data.datasets.custom:CustomParams",
    "vocab": "showtell.data.vocabulary:VocabParams",
    "resize": "showtell.data.transform:ResizeParams",
    "encoder": "showtell.encoders.network:EncoderParams",
    "detection": "showtell.encoders.detection:DetectionParams",
    "pretrain": "showtell.learning.pretraining:PretrainParams",
    "decoder": "showtell.decoders:DecoderParams",
    "train": "showtell.learning.caption_task:TrainParams",
    "finetune": "showtell.learning.caption_task:FinetuneParams",
    "beam": "showtell.generation.search_params:BeamWidth",
    "search": "showtell.generation.search_params:SearchSection",
    "sweep": "showtell.generation.search_params:SweepParams",
    "evaluate": "showtell.evaluation.judge:EvaluateParams",
}


class Section(BaseModel):
    """Base of every section: no unknown keys, no defaults by convention, no silent conversions, no changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def load(section: str, path: Path = Path("params.yaml"), alone: bool = False) -> Any:
    """The validated section; `UserError` names the first wrong key, its value and what is allowed.

    `alone` leaves the other sections unread, for a stage that always runs: their classes take seconds to import.
    """
    return validate(section, read_sections(path), path) if alone else load_all(path)[section]


def load_all(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Every section of the file, validated."""
    raw = read_sections(path)
    for name in raw:
        if name not in SECTIONS:
            raise UserError(f"{path}: unknown key {name!r}; the top-level keys are {', '.join(SECTIONS)}")
    return {name: validate(name, raw, path) for name in SECTIONS}


def validate(name: str, raw: dict[str, Any], path: Path) -> Any:
    """One section of the parsed file `raw` as its typed model."""
    if name not in raw:
        raise UserError(f"{path}: the key {name!r} is missing")
    module, _, attribute = SECTIONS[name].partition(":")
    return validated(getattr(importlib.import_module(module), attribute), name, raw[name], path)


def validated(kind: Any, name: str, content: Any, path: Path) -> Any:
    """The `content` of the section `name` as a `kind`, for files that have sections of their own."""
    try:
        return TypeAdapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(name, error.errors()[0])}") from None


def read_sections(path: Path) -> dict[str, Any]:
    """A YAML file of sections, nothing checked but that; `UserError` when it is not one."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the repository's root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold sections, one key each")
    return raw


def _explain(section: str, error: dict[str, Any]) -> str:
    """`train.epochs = 0: input should be greater than or equal to 1`, and the like for missing and unknown keys."""
    key = ".".join([section, *(str(part) for part in error["loc"])])
    if error["type"] == "missing":
        return f"the key {key} is missing"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key} = {error['input']!r}: {message}"
