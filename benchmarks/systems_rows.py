"""The rows of docs/systems.md: recipes, what is the same for all, and the parameters of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from showtell.commands import recipe
from showtell.core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
Params = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the table: recipes `scenes`, `recipe` and `small` in this order, PASSES, and `changes`."""

    name: str
    recipe: str
    what: str = ""  # the difference from its recipe, for the table
    changes: Params = field(default_factory=dict)
    vectors: bool = False  # starts with pretrained word vectors
    scratch: bool = False  # the encoder has random weights


NO_SAMPLING: Params = {"learning": {"sampling": 0.0, "sampling_start": None, "sampling_schedule": None}}
ROWS = (
    Row("show-attend-tell", "show-attend-tell"),
    Row("resnet152-lstm", "resnet152-lstm"),
    Row("vgg16-onehot-lstm", "vgg16-onehot-lstm"),
    Row("vgg16-no-sampling", "vgg16-onehot-lstm", "without scheduled sampling", NO_SAMPLING),
    # Its encoder has random weights, and is trained in this stage only.
    Row("densenet121-lstm", "densenet121-lstm", changes={"finetune": {"epochs": 5}}, scratch=True),
    Row("transformer", "transformer"),
    Row("showtell", "showtell"),
    Row("showtell-vectors", "showtell", "with pretrained word vectors", vectors=True),
)


@dataclass(frozen=True)
class Pictures:
    """The dataset of all rows: recipes before and after a row's own, then `changes`; the name of the table."""

    table: str  # of docs/systems.md
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    changes: Params = field(default_factory=dict)
    without: tuple[str, ...] = ()  # rows that do not apply
    scratch: Params = field(default_factory=dict)  # changes of rows whose encoder has random weights


SCENES = Pictures("scenes", before=("scenes",), after=("small",))


def photographs(images: Path, captions: Path, name: str, trainable_from: str) -> Pictures:
    """Custom pictures, 224 pixels. Vocabulary and decoding are those of `small`."""
    for path in (images, captions):
        if not path.exists():
            raise UserError(f"{path} does not exist; --photographs takes a folder or archive, and a captions file")
    small = recipe.merged([str(ROOT / "recipes" / "small.yaml")])
    changes = {
        "dataset": "custom",
        "custom": {"images": str(images.resolve()), "captions": str(captions.resolve())},
        "resize": {"size": 224, "fit": "stretch"},
        "encoder": {"name": name, "node": None, "levels": None, "crop": None},
        "decoder": {"grid": None},
        "finetune": {"trainable_from": trainable_from},
    }
    changes |= {key: small[key] for key in ("vocab", "beam", "search")}
    return Pictures(
        "photographs",
        changes=changes,
        without=tuple(row.name for row in ROWS if row.vectors),  # which are learnt from captions of scenes
        scratch={"finetune": {"trainable_from": None}},
    )


# Epochs at most: no published system has fewer in either stage, so all that have the stage have the same number, and
# 0 stays 0.
PASSES = {"train": 3, "finetune": 1}
QUICK: Params = {
    "scenes": {"train": 120, "val": 16, "test": 24, "size": 64},
    "detection": {"min_images": 5},
    "pretrain": {"epochs": 1},
}


def settings(row: Row, recipes: Path, quick: bool = False, pictures: Pictures = SCENES) -> Params:
    """The overlay of params.yaml of a row."""
    names = (*pictures.before, row.recipe, *pictures.after)
    overlay = recipe.merged([str(recipes / f"{name}.yaml") for name in names])
    for stage, most in PASSES.items():
        overlay[stage]["epochs"] = min(overlay[stage]["epochs"], most)
    changes = [pictures.changes, pictures.scratch if row.scratch else {}, row.changes]
    if row.vectors:
        changes.append({"decoder": {"embeddings": f"../word-vectors-{overlay['decoder']['embedding']}.txt"}})
    if quick:
        changes += [QUICK, {stage: {"epochs": min(overlay[stage]["epochs"], 1)} for stage in PASSES}]
    for section, values in (pair for change in changes for pair in change.items()):
        overlay[section] = overlay.get(section, {}) | values if isinstance(values, dict) else values
    return overlay


def chosen(names: Sequence[str], pictures: Pictures = SCENES) -> list[Row]:
    """The rows of these names; without names, all that apply to the pictures."""
    known = {row.name: row for row in ROWS if row.name not in pictures.without}
    for name in names:
        if name not in known:
            raise UserError(f"there is no row {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names or known]
