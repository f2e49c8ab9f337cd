"""params.yaml, read in one place and checked whole before any work starts.

Each section is described by a class in the module that uses it, so that a change to one part of the pipeline re-runs
that part alone. `load` finds the classes by name, so that no import ties a stage to another stage's code. It validates
the whole file, not only the section asked for: a typing error in `finetune` must stop `dvc repro` at its first stage,
not hours later.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from showtell.core.errors import UserError
from showtell.core.terminal import SHOWN, cut
from showtell.core.yaml_files import read_sections

# The class or type of each top-level key of params.yaml, as module:name.
SECTIONS = {
    "dataset": "showtell.data.datasets.source:DatasetName",
    "download": "showtell.data.datasets.source:DownloadParams",
    "scenes": "showtell.data.datasets.scenes:ScenesParams",
    "custom": "showtell.data.datasets.custom:CustomParams",
    "vocab": "showtell.data.vocabulary:VocabParams",
    "resize": "showtell.data.transform:ResizeParams",
    "encoder": "showtell.encoders.encoder_params:EncoderParams",
    "detection": "showtell.encoders.detection:DetectionParams",
    "pretrain": "showtell.learning.pretraining:PretrainParams",
    "decoder": "showtell.decoders:DecoderParams",
    "train": "showtell.learning.caption_task:TrainParams",
    "finetune": "showtell.learning.caption_task:FinetuneParams",
    "reinforce": "showtell.learning.reinforcement:ReinforceParams",
    "beam": "showtell.generation.search_params:BeamWidth",
    "search": "showtell.generation.search_params:SearchSection",
    "sweep": "showtell.generation.search_params:SweepParams",
    "evaluate": "showtell.evaluation.judge:EvaluateParams",
}

# Sections merged from several: `train` is `learning` updated with the keys of `train` itself. A section takes all keys
# of the shared one (None), or only those listed here.
SHARED: dict[str, dict[str, tuple[str, ...] | None]] = {
    "learning": {"train": None, "finetune": None, "reinforce": ("seed", "accumulate", "validation_beam")},
}

# Sections that must fit each other, with the function that checks it.
TOGETHER = {
    "showtell.generation.search_params:SearchParams.of": ("beam", "search"),
    "showtell.data.datasets.source:check_rewards": ("dataset", "reinforce"),
    "showtell.learning.reinforcement:check_attention": ("decoder", "reinforce"),
}

LONGEST_PATH = 4096  # bytes, PATH_MAX of Linux

T = TypeVar("T")


class Section(BaseModel):
    """Base of every section: unknown keys, missing keys and type conversions are refused; instances are frozen.

    A key that only some choices use may be left out with the other choices: its default is None, and `fits_choice`
    checks it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _usable(path: str) -> str:
    try:
        usable = path and "\0" not in path and len(os.fsencode(path)) < LONGEST_PATH
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise PydanticCustomError("path", "no file can have this name")
    return path


# Path of a file or folder; `paths.given` resolves a relative one.
PathName = Annotated[str, AfterValidator(_usable)]


@overload
def load(kind: type[T], path: Path = ..., alone: bool = ...) -> T: ...
@overload
def load(kind: Any, path: Path = ..., alone: bool = ...) -> Any: ...
def load(kind: Any, path: Path = Path("params.yaml"), alone: bool = False) -> Any:
    """The section of params.yaml that `kind` (a class or type of SECTIONS) describes; the whole file is validated.

    `UserError` names the first wrong key, its value and what is allowed. `alone` skips the other sections, for a stage
    that runs on every `dvc repro`: importing their classes takes seconds.
    """
    section = section_of(kind)
    return validate(section, read_sections(path), path) if alone else load_all(path)[section]


def load_all(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """Every section of the file, validated; SHARED sections appear only merged into the sections that use them."""
    return validate_all(read_sections(path), path)


def validate_all(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Every section of the parsed file `raw` as an instance of its class."""
    known = {*SECTIONS, *SHARED}
    for name in raw:
        if name not in known:
            raise UserError(f"{path}: unknown key {shown(name)}; the top-level keys are {', '.join(sorted(known))}")
    found = {name: validate(name, raw, path) for name in SECTIONS}
    for place, names in TOGETHER.items():
        module, _, attribute = place.partition(":")
        try:
            attrgetter(attribute)(importlib.import_module(module))(*(found[name] for name in names))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return found


def validate(name: str, raw: dict[str, Any], path: Path) -> Any:
    """One section of the parsed file `raw` as an instance of its class."""
    for part in parts_of(name):
        if part not in raw:
            raise UserError(f"{path}: the key {part!r} is missing")
    module, _, attribute = SECTIONS[name].partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    return validated(kind, name, merged(name, raw), path, {part: taken(part, name, raw) for part in parts_of(name)})


def validated(kind: Any, name: str, content: Any, path: Path, parts: dict[str, Any] | None = None) -> Any:
    """The `content` of the section `name` as a `kind`; `parts` are the sections that it was merged from."""
    try:
        return TypeAdapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(name, parts or {name: content}, error.errors()[0])}") from None


def merged(name: str, raw: dict[str, Any]) -> Any:
    """The keys of a section in `raw`: its own, over those of the SHARED sections that it is merged from."""
    *shared, own = parts_of(name)
    if not all(isinstance(raw[part], dict) for part in parts_of(name)):
        return raw[next((part for part in shared if not isinstance(raw[part], dict)), own)]
    return {key: value for part in (*shared, own) for key, value in taken(part, name, raw).items()}


def taken(part: str, name: str, raw: dict[str, Any]) -> Any:
    """What the section `name` takes of the top-level key `part` of `raw`, one of its `parts_of`."""
    content = raw[part]
    return {key: content[key] for key in content if takes(name, part, key)} if isinstance(content, dict) else content


def takes(name: str, part: str, key: str) -> bool:
    """Whether the section `name`, or its override, has the `key` of the top-level key `part`."""
    keys = SHARED.get(part, {name: None}).get(name, ())
    return keys is None or key in keys


def parts_of(name: str) -> tuple[str, ...]:
    """The top-level keys of params.yaml that a section is merged from, its own last."""
    return *(shared for shared, users in SHARED.items() if name in users), name


def section_of(kind: Any) -> str:
    """The name of the section that `kind` describes. Imports nothing: the module of `kind` is imported already."""
    for name, place in SECTIONS.items():
        module, _, attribute = place.partition(":")
        if module in sys.modules and getattr(sys.modules[module], attribute, None) is kind:
            return name
    raise KeyError(f"{kind} describes no section of params.yaml")


def fits_choice(value: T, info: ValidationInfo, key: str, choices: Sequence[Any]) -> T:
    """For validators: `value` must be given if, and only if, `key` (a field above it) is one of `choices`."""
    if key not in info.data:  # invalid itself, which is reported first
        return value
    choice = info.data[key]
    if value is None and choice in choices:
        raise PydanticCustomError("needed", f"{key} {choice} needs it")
    if value is not None and choice not in choices:
        raise PydanticCustomError("unused", f"it does nothing with {key} {choice}; take it out or set it to null")
    return value


def shown(value: Any) -> str:
    """A value as params.yaml would write it, cut to SHOWN characters."""
    words = {None: "null", True: "true", False: "false"}
    return cut(words[value] if value is None or isinstance(value, bool) else repr(value))


def _explain(name: str, parts: dict[str, Any], error: Any) -> str:
    """`train.epochs = 0: input should be greater than or equal to 1`; similarly for missing and unknown keys."""
    location = [str(part) for part in error["loc"]]
    wanted = location[0] if location else None  # None: the section is not a mapping
    holds = [part for part, content in parts.items() if isinstance(content, dict) == bool(location)]
    holder = next((part for part in reversed(holds) if wanted is None or wanted in parts[part]), name)
    key = ".".join([holder, *location])
    if error["type"] == "missing":
        places = [part for part in parts if takes(name, part, str(wanted))]
        named = f"{wanted} is missing from {' and '.join(places)}" if len(places) > 1 else f"{key} is missing"
        return f"the key {named}"
    if error["type"] == "extra_forbidden":
        unknown = key if key.isprintable() and len(key) <= SHOWN else shown(key)
        return f"unknown key {unknown}" + (f", which {name} does not have" if holder != name else "")
    message = error["msg"][0].lower() + error["msg"][1:]
    if error["type"] in ("int_type", "float_type") and isinstance(error["input"], str):
        message += " (a plain number, as in 12 or 0.5 or 1e-05, of 18 digits at most)"
    return f"{key} = {shown(error['input'])}: {message}"
