"""`make encoder`: trains the encoder of drawn scenes that is part of the package, from its recipe, and writes its card.

`python -m showtell.commands.scenes_encoder [recipe] [folder]`; without arguments it makes the shipped weights.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.files import sha256, write_text
from showtell.core.params import Section, read_sections, validated
from showtell.core.precision import device
from showtell.core.processes import broadcast, is_main, launch, shared_workplace
from showtell.core.workplace import workplace
from showtell.data.drawn_scenes import DrawnParams, draw_split, labelled_batches, open_split
from showtell.encoders import pretrained
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.network import Encoder
from showtell.encoders.weights import save_shipped
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.curves import best_row, selected_epoch
from showtell.learning.loop import fit, seed_weights
from showtell.learning.scene_targets import known_colours
from showtell.learning.scene_task import SceneParams, SceneTask, scene_validation

RECIPE = Path("recipes/encoders/scenes.yaml")


class NetworkParams(Section):
    """The network that is trained, up to its last layer."""

    name: str = Field(description="a classification model of torchvision.models")
    node: str = Field(description="layer whose output is the grid")


class Recipe(NamedTuple):
    """The sections of a recipe."""

    drawn: DrawnParams
    network: NetworkParams
    learning: SceneParams


def read(path: Path) -> Recipe:
    """The recipe at `path`; `UserError` names the first error in it."""
    raw, kinds = read_sections(path), Recipe.__annotations__
    if set(raw) != set(kinds):
        raise UserError(f"{path} must have the sections {', '.join(kinds)}, and has {', '.join(raw) or 'none'}")
    return Recipe(*(validated(kind, name, raw[name], path) for name, kind in kinds.items()))


def make(recipe: Recipe, source: str, target: Path) -> str | None:
    """Train with `recipe` and write the weights to `target` (.safetensors), with their card beside it."""
    with shared_workplace(workplace(__file__, *recipe)) as place:
        for split in ("train", "val"):
            broadcast(partial(draw_split, split, recipe.drawn, place.folder))
        data = {split: open_split(split, place.folder) for split in ("train", "val")}
        seed_weights(recipe.learning.seed)
        usual = ImageStatistics()
        shape = {"output": "grid", "size": recipe.drawn.size, "mean": usual.mean, "std": usual.std}
        encoder = Encoder({**recipe.network.model_dump(), **shape})
        encoder.train_from(None)
        task = SceneTask(encoder, known_colours(data["train"].labels), recipe.learning).to(device())
        batches = labelled_batches(data["train"], recipe.learning.images_per_update, recipe.learning.seed)
        validate = scene_validation(task, data["val"])
        history = fit(task, batches, validate, recipe.learning, "right", Checkpoints(place))
        if not is_main():
            return None
        save_shipped(target, encoder.config, encoder.backbone.network)
        write_text(target.with_suffix(".md"), card(recipe, source, best_row(history, "right"), target))
        place.finish()
    return f"the encoder and its card are in {target.parent}; of learning scenes {selected_epoch(history, 'right')}"


def card(recipe: Recipe, source: str, scores: dict[str, float], weights: Path) -> str:
    """The card of the weights, Markdown."""
    drawn, network, learning = recipe
    rows = "\n".join(f"| {WHAT[name]} | {scores[name]:.1%} |" for name in WHAT)
    return f"""# Encoder of drawn scenes

`encoder.weights: {weights.stem}` in params.yaml: {network.name} up to `{network.node}`, for pictures of {drawn.size} x
{drawn.size} pixels ({weights.stat().st_size / 1e6:.1f} MB, half precision). It has never seen a photograph.

- **Made by** `python -m showtell.commands.scenes_encoder {source}` (`make encoder`).
- **From** {drawn.train:,} pictures of the embedded dataset's training scenes, drawn with seed {drawn.seed} (the
  pipeline's own scenes have another seed) at {drawn.drawn_size} pixels. In {drawn.any_colours:.0%} of them
  things have colours drawn from all, so that kind does not tell colour. None holds one of the pairs
  of kind and colour, or kind and setting, that are kept for test.
- **Learnt** what every picture shows, cell by cell: kinds, middles, colours, poses, numbers, sizes, boxes,
  setting, time and background, {learning.epochs} epochs, {learning.images_per_update} pictures an update,
  seed {learning.seed}.
  {learning.recolour:.0%} of the pictures were shown in false colours, and colours were told apart only from those that
  the same kind has in training (see `learning/scene_task.py`).
- **SHA-256** `{sha256(weights)}`. The same recipe gives the same bytes on the same kind of processor, number of
  processes and versions of PyTorch; elsewhere weights that are as good.

On {drawn.val:,} further training scenes of the same seed, epoch {scores["epoch"]}:

| right | share |
| --- | --- |
{rows}
"""


WHAT = {
    "kinds": "pictures all of whose kinds are detected, and no other",
    "counts": "pictures all of whose kinds are counted right",
    "colours": "colours of things, of eleven",
    "poses": "kind and pose of things",
    "numbers": "numbers of things alike in kind and colour, at each of them",
    "settings": "settings of pictures",
}


def main() -> str | None:
    parser = argparse.ArgumentParser(prog="scenes_encoder", description="Train the encoder of drawn scenes.")
    parser.add_argument("recipe", nargs="?", type=Path, default=RECIPE, help="YAML file")
    parser.add_argument("target", nargs="?", type=Path, default=pretrained.SHIPPED["scenes"], help=".safetensors file")
    given = parser.parse_args()
    return make(read(given.recipe), str(given.recipe), given.target)


if __name__ == "__main__":
    launch(main)
