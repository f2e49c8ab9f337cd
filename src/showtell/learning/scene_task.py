"""How an encoder learns drawn scenes: every cell of its map says what is there, what it looks like, and where it ends.

Only linear maps stand between the cells and their answers, so that a decoder finds the answers in the cells as easily.
Kind and colour are learnt apart, so that pairs which training never shows are known as well:

- Kinds are learnt from pictures in true and in false colours alike, so that a dog is one whatever its colour.
- Colours are told apart only from colours that the same kind has among the training pictures: logit adjustment, Menon
  et al., "Long-tail learning via logit adjustment" (ICLR 2021), section 4. That no dog here is white teaches nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from showtell.core.precision import autocast, device
from showtell.core.processes import all_gather, fair, share
from showtell.data.batches import in_order, load_batches
from showtell.data.datasets.scenes import labels as shown
from showtell.data.datasets.scenes.labels import THINGS
from showtell.data.drawn_scenes import LabelledBatch, LabelledImages
from showtell.encoders.network import Encoder
from showtell.learning.loop import Counts, LoopParams, TrainingTask

BATCH = 64  # images judged side by side; bounds memory, changes no result

# Answers of a cell: how many numbers each takes, and the weight of its loss.
ANSWERS: dict[str, tuple[int, float]] = {
    "kind": (len(shown.KIND_NAMES), 0.5),  # of things that cover the cell: a probability for each
    "middle": (len(shown.KIND_NAMES), 0.5),  # of things whose middle is in the cell, for counting
    "colour": (len(shown.COLOUR_NAMES), 3.0),  # the rest is of the nearest thing that covers the cell ...
    "pose": (len(shown.POSE_NAMES), 1.0),
    "look": (2, 1.0),  # growth and shade, as labels.py has them
    "box": (4, 1.0),  # how far its sides are, in shares of the picture
    "setting": (len(shown.SETTING_NAMES), 1.0),  # ... and this of the scene
    "time": (len(shown.TIME_NAMES), 0.3),
    "feature": (len(shown.FEATURE_NAMES), 0.5),
}


class SceneParams(LoopParams):
    """Learning drawn scenes."""

    flip: bool = Field(description="mirror half of the pictures")
    shift: int = Field(ge=0, le=64, description="pixels by which a picture is moved at most, both ways")
    recolour: float = Field(ge=0, lt=1, description="share of the pictures shown in false colours")


def mirrored(images: Tensor, things: Tensor) -> tuple[Tensor, Tensor]:
    """Each picture mirrored left to right with probability 1/2, boxes and all."""
    some = torch.rand(len(images), device=images.device) < 0.5
    turned = things.clone()
    turned[..., shown.LEFT], turned[..., shown.RIGHT] = 1 - things[..., shown.RIGHT], 1 - things[..., shown.LEFT]
    return (
        torch.where(some.view(-1, 1, 1, 1), images.flip(3), images), torch.where(some.view(-1, 1, 1), turned, things)
    )  # fmt: skip


def moved(images: Tensor, things: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Each picture moved by up to `most` pixels both ways, its edges drawn out, boxes and all."""
    size = images.shape[2]
    corners = torch.randint(0, 2 * most + 1, (len(images), 2))
    wide = F.pad(images.float(), (most,) * 4, mode="replicate").to(images.dtype)
    images = torch.stack([
        image[:, y : y + size, x : x + size] for image, (y, x) in zip(wide, corners.tolist(), strict=True)
    ])  # fmt: skip
    y, x = ((most - corners.to(things)) / size).view(-1, 2, 1).unbind(1)  # (image, 1)
    things = things.clone()
    for field, by in ((shown.LEFT, x), (shown.RIGHT, x), (shown.TOP, y), (shown.BOTTOM, y)):
        things[..., field] += by
    return images, things


def recoloured(images: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """A share of the pictures in false colours: hues turned, paler or grey, some of them negatives.

    Returns them and which ones have their true colours, (image,).
    """
    count, where = len(images), images.device
    true = torch.rand(count, device=where) >= share
    angle = (torch.rand(count, device=where) * 2 - 1) * math.pi
    pale = (torch.rand(count, device=where) * 1.5 - 0.3).clamp(0, 1)
    contrast = torch.where(torch.rand(count, device=where) < 0.4, -1.0, 1.0)
    contrast = contrast * (0.7 + 0.3 * torch.rand(count, device=where))
    grey = images.new_full((3, 3), 1 / 3, dtype=torch.float32)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=where) / math.sqrt(3)
    colour = torch.eye(3, device=where) - grey  # what of a pixel is not grey
    turn = angle.cos().view(-1, 1, 1) * colour + angle.sin().view(-1, 1, 1) * cross
    matrix = contrast.view(-1, 1, 1) * (grey + pale.view(-1, 1, 1) * turn)
    matrix = torch.where(true.view(-1, 1, 1), torch.eye(3, device=where), matrix)
    middle = 127.5
    false = torch.einsum("icd,idyx->icyx", matrix, images.float() - middle) + middle
    return false.clamp(0, 255).round().to(images.dtype), true


class Targets(NamedTuple):
    """What the cells are to answer, of things (image, thing, field)."""

    kind: Tensor  # (image, cell, kind), 0 or 1
    middle: Tensor  # (image, cell, kind), 0 or 1
    owner: Tensor  # (image, cell, field): the nearest thing that covers the cell
    weight: Tensor  # (image, cell): of that thing's cells together 1, 0 where there is none


def targets(things: Tensor, places: Tensor) -> Targets:
    """`things` (image, thing, field), `places` (cell, 2): x and y of the middle of what a cell sees."""
    x, y = places.unbind(1)
    left, top, right, bottom = (things[..., f, None] for f in (shown.LEFT, shown.TOP, shown.RIGHT, shown.BOTTOM))
    real = things[..., shown.KIND] >= 0  # (image, thing)
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)  # (image, thing, cell)
    away = (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2
    middle = F.one_hot(away.argmin(dim=2), len(places)).bool() & real.unsqueeze(2)
    covered = (inside & real.unsqueeze(2)) | middle
    kinds = F.one_hot(things[..., shown.KIND].long().clamp(min=0), len(shown.KIND_NAMES)).float()
    # Every thing has its middle, whatever stands before it.
    front = covered * (1 + things[..., shown.NEARNESS, None]) + 10 * middle  # (image, thing, cell)
    owner = front.argmax(dim=1)  # (image, cell)
    own = F.one_hot(owner, THINGS).transpose(1, 2) * covered  # (image, thing, cell)
    weight = (own / own.sum(dim=2, keepdim=True).clamp(min=1)).sum(dim=1)
    fields = things.gather(1, owner.unsqueeze(2).expand(-1, -1, things.shape[2]))
    there, centred = (torch.einsum("itc,itk->ick", flags.float(), kinds) for flags in (covered, middle))
    return Targets(there.clamp(max=1), centred.clamp(max=1), fields, weight)


def known_colours(labels: Tensor) -> Tensor:
    """log of the share of each colour among the things of each kind, (kind, colour); -inf where there are none."""
    things = labels[:, :THINGS].reshape(-1, labels.shape[2])
    things = things[things[:, shown.KIND] >= 0].long()
    counts = torch.zeros(len(shown.KIND_NAMES), len(shown.COLOUR_NAMES))
    counts.index_put_((things[:, shown.KIND], things[:, shown.COLOUR]), torch.ones(len(things)), accumulate=True)
    return (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).log()


class SceneTask(TrainingTask):
    """Encoder and answers; `colours` as `known_colours` gives them."""

    def __init__(self, encoder: Encoder, colours: Tensor, params: SceneParams):
        super().__init__()
        self.encoder, self.params = encoder, params
        self.answers = nn.ModuleDict({name: nn.Linear(encoder.channels, size) for name, (size, _) in ANSWERS.items()})
        for name in ("kind", "middle"):  # at first a thing is in a cell with probability 1/50
            nn.init.constant_(self.answers[name].bias, -math.log(50))
        side = math.isqrt(encoder.cells)
        line = (torch.arange(side) + 0.5) / side + encoder.shift
        places = torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=1)
        self.register_buffer("places", places, persistent=False)  # (cell, 2)
        self.register_buffer("colours", colours, persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 images -> every cell's answers, each (image, cell, number), float32."""
        with autocast(self.params.precision):
            cells = self.encoder.look(images)
            return {name: answer(cells).float() for name, answer in self.answers.items()}

    def augmented(self, images: Tensor, things: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images and things as training shows them, and which images have their true colours."""
        if self.params.flip:
            images, things = mirrored(images, things)
        if self.params.shift:
            images, things = moved(images, things, self.params.shift)
        images, true = recoloured(images, self.params.recolour)
        return images, things, true

    def loss(self, batch: LabelledBatch, whole: Counts | None = None) -> Tensor:
        whole = whole or Counts.of(batch)
        images, things, scene = batch.images, batch.labels[:, :THINGS], batch.labels[:, THINGS]
        true = torch.ones(len(images), dtype=torch.bool, device=images.device)
        if self.training:
            images, things, true = self.augmented(images, things)
        there = batch.mask.flatten(1).any(dim=1).to(images.device)  # an image without things counts for nothing
        losses = self.losses(self(images), targets(things, self.places), scene, true & there, there)
        return sum(ANSWERS[name][1] * loss for name, loss in losses.items()) / whole.images

    def losses(
        self, said: dict[str, Tensor], wanted: Targets, scene: Tensor, true: Tensor, there: Tensor
    ) -> dict[str, Tensor]:
        """The loss of each answer, natural log, summed over images.

        `true` (image,): has its colours; `there` (image,): counts at all; `scene` (image, field): the scene's labels.
        """
        owner, weight = wanted.owner, wanted.weight * there.unsqueeze(1)  # (image, cell)
        coloured = weight * true.unsqueeze(1)
        kind = owner[..., shown.KIND].long().clamp(min=0)
        known = said["colour"] + self.colours[kind].clamp(min=-1e4)
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
            "look": (off[..., 0] * weight + off[..., 1] * coloured).sum(),
            "box": (F.smooth_l1_loss(said["box"], sides, beta=0.05, reduction="none").sum(dim=2) * weight).sum(),
        }
        for name, field in (("setting", shown.SETTING), ("time", shown.TIME), ("feature", shown.FEATURE)):
            aim = scene[:, field].unsqueeze(1).expand(weight.shape)
            losses[name] = (_chosen(said[name], aim).mean(dim=1) * true).sum()
        return losses

    def groups(self) -> list[tuple[nn.Module, float]]:
        return [(self.encoder, self.params.learning_rate), (self.answers, self.params.learning_rate)]

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()


def _binary(scores: Tensor, aim: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, aim, reduction="none")


def _chosen(scores: Tensor, aim: Tensor) -> Tensor:
    """Cross-entropy of scores (image, cell, number) for the numbers `aim` (image, cell), any for cells without one."""
    return F.cross_entropy(scores.transpose(1, 2), aim.long().clamp(min=0), reduction="none")


def judged(said: dict[str, Tensor], labels: Tensor, places: Tensor) -> dict[str, Tensor]:
    """Which answers are right, 0 or 1 each: of images whether their kinds and their counts are; of things, at their
    middle, whether colour and pose are; of images whether their setting is, by all cells together."""
    things, scene = labels[:, :THINGS], labels[:, THINGS]
    wanted = targets(things, places)
    x, y = places.unbind(1)
    left, top, right, bottom = (things[..., f, None] for f in (shown.LEFT, shown.TOP, shown.RIGHT, shown.BOTTOM))
    cell = ((x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2).argmin(dim=2)  # (image, thing)
    real = things[..., shown.KIND] >= 0
    at = {name: said[name].gather(1, cell.unsqueeze(2).expand(-1, -1, said[name].shape[2])) for name in said}
    present = wanted.kind.amax(dim=1)
    kinds = F.one_hot(things[..., shown.KIND].long().clamp(min=0), len(shown.KIND_NAMES)) * real.unsqueeze(2)
    counted = said["middle"].sigmoid().sum(dim=1).round()
    return {
        "kinds": ((said["kind"].amax(dim=1) > 0) == (present > 0)).all(dim=1),
        "counts": (counted == kinds.sum(dim=1)).all(dim=1),
        "colours": (at["colour"].argmax(dim=2) == things[..., shown.COLOUR])[real],
        "poses": (at["pose"].argmax(dim=2) == things[..., shown.POSE])[real],
        "settings": said["setting"].log_softmax(dim=2).mean(dim=1).argmax(dim=1) == scene[:, shown.SETTING],
    }


def scene_validation(task: SceneTask, dataset: LabelledImages) -> Callable[[], dict[str, float]]:
    """A function that gives the loss on val, the share of each kind of right answers, and their mean, `right`."""

    @torch.inference_mode()
    def validate() -> dict[str, float]:
        task.eval()
        parts = []
        for batch in load_batches(dataset, share(in_order(len(dataset), fair(len(dataset), BATCH)))):
            batch = batch.to(device())
            right = judged(task(batch.images), batch.labels, task.places)
            loss = float(task.loss(batch)) * len(batch.images)
            parts.append((loss, {name: (float(x.sum()), len(x)) for name, x in right.items()}))
        found = all_gather(parts)
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
