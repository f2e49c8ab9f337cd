"""What training does to drawn scenes to see more of them; boxes move with what they hold.

Images are uint8 (image, 3, height, width), things float32 (image, thing, field) with the columns of scene_labels.py.
What is drawn at random comes from PyTorch's generator.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.data import scene_labels as shown


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
