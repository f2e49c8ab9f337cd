"""Training of an encoder on drawn scenes: every cell of its map predicts what is there, its look, and its box.

The predictions are linear in the cells, so that a decoder can read them from the cells as easily. Kind and colour are
learned independently, so that combinations which are never in training are recognised as well:
- Kinds are learned from images in true and in false colours, so that they do not depend on colour.
- Colours are compared only with colours that the same kind has in training: logit adjustment, Menon et al., "Long-tail
  learning via logit adjustment" (ICLR 2021), section 4. That no dog is white in training then teaches nothing.
"""

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from showtell.core.precision import autocast
from showtell.data import scene_labels as shown
from showtell.data.drawn_scenes import LabelledBatch, LabelledImages
from showtell.data.scene_labels import THINGS
from showtell.encoders.network import Encoder
from showtell.learning.optimisation import LoopParams
from showtell.learning.scene_augmentation import mirrored, moved, recoloured
from showtell.learning.scene_targets import Targets, judged, targets
from showtell.learning.training_task import Counts, ParameterGroup, TrainingTask

# Predictions of a cell: the number of outputs, and the weight of the loss.
ANSWERS: dict[str, tuple[int, float]] = {
    "kind": (len(shown.KIND_NAMES), 0.5),  # probability of each kind to cover the cell
    "middle": (len(shown.KIND_NAMES), 0.5),  # probability of each kind to have its middle in the cell, for counting
    "colour": (len(shown.COLOUR_NAMES), 3.0),  # the rest describes the nearest thing that covers the cell ...
    "pose": (len(shown.POSE_NAMES), 1.0),
    "number": (THINGS, 2.0),  # how many things of its kind there are, so that a decoder sees it where it looks
    "alike": (THINGS, 3.0),  # how many of its kind and colour
    "look": (2, 1.0),  # growth and shade, as scene_labels.py has them
    "box": (4, 1.0),  # distances to its sides, as fractions of the image
    "setting": (len(shown.SETTING_NAMES), 1.0),  # ... and this the scene
    "time": (len(shown.TIME_NAMES), 0.3),
    "feature": (len(shown.FEATURE_NAMES), 0.5),
}


class SceneParams(LoopParams):
    """Training on drawn scenes."""

    flip: bool = Field(description="mirror half of the pictures")
    shift: int = Field(ge=0, le=64, description="pixels by which a picture is moved at most, both ways")
    recolour: float = Field(ge=0, lt=1, description="share of the pictures shown in false colours")


class SceneTask(TrainingTask[LabelledBatch]):
    """Encoder with linear predictions; `colours` is the output of `known_colours`."""

    places: Tensor
    colours: Tensor

    def __init__(self, encoder: Encoder, colours: Tensor, params: SceneParams):
        super().__init__()
        self.encoder, self.params = encoder, params
        self.answers = nn.ModuleDict({name: nn.Linear(encoder.channels, size) for name, (size, _) in ANSWERS.items()})
        for name in ("kind", "middle"):  # initial probability 1/50
            nn.init.constant_(cast(nn.Linear, self.answers[name]).bias, -math.log(50))
        side = math.isqrt(encoder.cells)
        line = (torch.arange(side) + 0.5) / side + encoder.shift
        places = torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=1)
        self.register_buffer("places", places, persistent=False)  # (cell, 2)
        self.register_buffer("colours", colours, persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 images -> every cell's predictions, each (image, cell, number), float32."""
        with autocast(self.params.precision):
            cells = self.encoder.feature_map(images)
            return {name: answer(cells).float() for name, answer in self.answers.items()}

    def augmented(self, images: Tensor, things: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Augmented images and things, and which images have their true colours."""
        if self.params.flip:
            images, things = mirrored(images, things)
        if self.params.shift:
            images, things = moved(images, things, self.params.shift)
        images, true = recoloured(images, self.params.recolour)
        return images, things, true

    def loss(self, batch: LabelledBatch, whole: Counts | None = None) -> Tensor:
        whole = whole or Counts.of(batch)
        images, things = batch.images, batch.labels[:, :THINGS]
        true = torch.ones(len(images), dtype=torch.bool, device=images.device)
        if self.training:
            images, things, true = self.augmented(images, things)
        return self.loss_of(self(images), things, true, batch) / whole.images

    def loss_of(self, said: dict[str, Tensor], things: Tensor, true: Tensor, batch: LabelledBatch) -> Tensor:
        """The loss of predictions for the `things` of a batch, summed over images; `true` as in `losses`."""
        there = batch.mask.flatten(1).any(dim=1).to(true.device)  # images without things are not counted
        losses = self.losses(said, targets(things, self.places), batch.labels[:, THINGS], true & there, there)
        return cast(Tensor, sum(ANSWERS[name][1] * loss for name, loss in losses.items()))

    def losses(
        self, said: dict[str, Tensor], wanted: Targets, scene: Tensor, true: Tensor, there: Tensor
    ) -> dict[str, Tensor]:
        """The loss of each prediction, natural log, summed over images.

        `true` (image,): has its true colours; `there` (image,): is counted; `scene` (image, field): the scene's labels.
        """
        owner, weight = wanted.owner, wanted.weight * there.unsqueeze(1)  # (image, cell)
        coloured = weight * true.unsqueeze(1)
        kind = owner[..., shown.KIND].long().clamp(min=0)
        known = said["colour"] + self.colours[kind].clamp(min=-30)
        look = owner[..., [shown.GROWTH, shown.SHADE]]
        sides = owner[..., [shown.LEFT, shown.TOP, shown.RIGHT, shown.BOTTOM]] - self.places.repeat(1, 2)
        off = F.smooth_l1_loss(said["look"], look, beta=0.1, reduction="none")
        losses = {
            **{
                name: (_binary(said[name], aim) * there.view(-1, 1, 1)).sum()
                for name, aim in (("kind", wanted.kind), ("middle", wanted.middle))
            },
            "colour": (_chosen(known, owner[..., shown.COLOUR]) * coloured).sum(),
            "pose": (_chosen(said["pose"], owner[..., shown.POSE]) * weight).sum(),
            "number": (_chosen(said["number"], wanted.number - 1) * weight).sum(),
            "alike": (_chosen(said["alike"], wanted.alike - 1) * coloured).sum(),
            "look": (off[..., 0] * weight + off[..., 1] * coloured).sum(),
            "box": (F.smooth_l1_loss(said["box"], sides, beta=0.05, reduction="none").sum(dim=2) * weight).sum(),
        }
        for name, field in (("setting", shown.SETTING), ("time", shown.TIME), ("feature", shown.FEATURE)):
            aim = scene[:, field].unsqueeze(1).expand(weight.shape)
            losses[name] = (_chosen(said[name], aim).mean(dim=1) * true).sum()
        return losses

    def groups(self) -> list[ParameterGroup]:
        return ParameterGroup.of(self, self.params.learning_rate)

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()


def _binary(scores: Tensor, aim: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, aim, reduction="none")


def _chosen(scores: Tensor, aim: Tensor) -> Tensor:
    """Cross-entropy of scores (image, cell, number) for the class `aim` (image, cell); any value for cells without a
    target."""
    return F.cross_entropy(scores.transpose(1, 2), aim.long().clamp(min=0), reduction="none")


def scene_validation(task: SceneTask, dataset: LabelledImages) -> Callable[[], dict[str, float]]:
    """A function that returns the loss on val, the accuracy of each prediction, and their mean, `right`."""

    def of_batch(batch: LabelledBatch) -> tuple[float, dict[str, tuple[float, int]]]:
        said, true = task(batch.images), torch.ones_like(batch.labels[:, 0, 0], dtype=torch.bool)
        loss = float(task.loss_of(said, batch.labels[:, :THINGS], true, batch))
        right = judged(said, batch.labels, task.places)
        return loss, {name: (float(x.sum()), len(x)) for name, x in right.items()}

    def validate() -> dict[str, float]:
        found = task.measure(dataset, of_batch)
        shares = {
            name: sum(part[name][0] for _, part in found) / sum(part[name][1] for _, part in found)
            for name in found[0][1]
        }
        return {
            "val_loss": sum(loss for loss, _ in found) / len(dataset),
            **shares,
            "right": sum(shares.values()) / len(shares),
        }

    return validate
