"""Training targets for the cells of a map on a drawn scene, and the accuracy of their predictions.

`labels` float32 (image, thing, field) as in `scene_labels.py`, the last thing the scene; `places` (cell, 2): x, y of
the centre of a cell's receptive field, as fractions of the image.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.data import scene_labels as shown
from showtell.data.scene_labels import THINGS


class Targets(NamedTuple):
    """The targets of the cells, from things (image, thing, field)."""

    kind: Tensor  # (image, cell, kind), 0 or 1
    middle: Tensor  # (image, cell, kind), 0 or 1
    owner: Tensor  # (image, cell, field): the nearest thing that covers the cell
    weight: Tensor  # (image, cell): sums to 1 over the cells of each thing, 0 where there is none
    number: Tensor  # (image, cell): how many things of the owner's kind there are; 0 where there is none
    alike: Tensor  # (image, cell): how many of its kind and colour


def targets(things: Tensor, places: Tensor) -> Targets:
    """`things` (image, thing, field), `places` (cell, 2): x and y of the centre of a cell's receptive field."""
    x, y = places.unbind(1)
    left, top, right, bottom = (things[..., f, None] for f in (shown.LEFT, shown.TOP, shown.RIGHT, shown.BOTTOM))
    real = things[..., shown.KIND] >= 0  # (image, thing)
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)  # (image, thing, cell)
    away = (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2
    middle = F.one_hot(away.argmin(dim=2), len(places)).bool() & real.unsqueeze(2)
    covered = (inside & real.unsqueeze(2)) | middle
    kinds = F.one_hot(things[..., shown.KIND].long().clamp(min=0), len(shown.KIND_NAMES)).float()
    # The middle of a thing belongs to it, even where another thing covers it.
    front = covered * (1 + things[..., shown.NEARNESS, None]) + 10 * middle  # (image, thing, cell)
    owner = front.argmax(dim=1)  # (image, cell)
    own = F.one_hot(owner, THINGS).transpose(1, 2) * covered  # (image, thing, cell)
    weight = (own / own.sum(dim=2, keepdim=True).clamp(min=1)).sum(dim=1)
    fields = things.gather(1, owner.unsqueeze(2).expand(-1, -1, things.shape[2]))
    there, centred = (torch.einsum("itc,itk->ick", flags.float(), kinds) for flags in (covered, middle))
    number, alike = (numbers.gather(1, owner) for numbers in _numbers(things))
    return Targets(there.clamp(max=1), centred.clamp(max=1), fields, weight, number, alike)


def _numbers(things: Tensor) -> tuple[Tensor, Tensor]:
    """For each thing how many there are of its kind, and how many of its kind and colour, (image, thing), int64; 0 for
    unused rows."""
    kind, colour = things[..., shown.KIND], things[..., shown.COLOUR]
    real = kind >= 0
    same = (kind.unsqueeze(2) == kind.unsqueeze(1)) & real.unsqueeze(2)  # (image, thing, other thing)
    return same.sum(dim=2), (same & (colour.unsqueeze(2) == colour.unsqueeze(1))).sum(dim=2)


def known_colours(labels: Tensor) -> Tensor:
    """log of the frequency of each colour among the things of each kind, (kind, colour); -inf where it is 0."""
    things = labels[:, :THINGS].reshape(-1, labels.shape[2])
    things = things[things[:, shown.KIND] >= 0].long()
    counts = torch.zeros(len(shown.KIND_NAMES), len(shown.COLOUR_NAMES))
    counts.index_put_((things[:, shown.KIND], things[:, shown.COLOUR]), torch.ones(len(things)), accumulate=True)
    return (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).log()


def judged(said: dict[str, Tensor], labels: Tensor, places: Tensor) -> dict[str, Tensor]:
    """Correct predictions, 0 or 1 each: per image the set of kinds and the counts; per thing, at its middle, colour,
    pose and the number of things like it; per image the setting, predicted by all cells together."""
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
        "numbers": (at["alike"].argmax(dim=2) + 1 == _numbers(things)[1])[real],
        "settings": said["setting"].log_softmax(dim=2).mean(dim=1).argmax(dim=1) == scene[:, shown.SETTING],
    }
