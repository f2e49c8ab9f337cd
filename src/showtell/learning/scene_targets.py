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
    return Targets(there.clamp(max=1), centred.clamp(max=1), fields, weight)


def known_colours(labels: Tensor) -> Tensor:
    """log of the frequency of each colour among the things of each kind, (kind, colour); -inf where it is 0."""
    things = labels[:, :THINGS].reshape(-1, labels.shape[2])
    things = things[things[:, shown.KIND] >= 0].long()
    counts = torch.zeros(len(shown.KIND_NAMES), len(shown.COLOUR_NAMES))
    counts.index_put_((things[:, shown.KIND], things[:, shown.COLOUR]), torch.ones(len(things)), accumulate=True)
    return (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).log()


def judged(said: dict[str, Tensor], labels: Tensor, places: Tensor) -> dict[str, Tensor]:
    """Correct predictions, 0 or 1 each: per image the set of kinds and the counts; per thing, at its middle, colour and
    pose; per image the setting, predicted by all cells together."""
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
