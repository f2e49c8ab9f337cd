"""Augmentation of drawn scenes; bounding boxes are transformed with the images.

Images are uint8 (image, 3, height, width), things float32 (image, thing, field) with the columns of scene_labels.py.
Random numbers come from PyTorch's generator.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.data import scene_labels as shown


def mirrored(images: Tensor, things: Tensor) -> tuple[Tensor, Tensor]:
    """Each image and its boxes mirrored left to right with probability 1/2."""
    some = torch.rand(len(images), device=images.device) < 0.5
    turned = things.clone()
    turned[..., shown.LEFT], turned[..., shown.RIGHT] = 1 - things[..., shown.RIGHT], 1 - things[..., shown.LEFT]
    return (
        torch.where(some.view(-1, 1, 1, 1), images.flip(3), images), torch.where(some.view(-1, 1, 1), turned, things)
    )  # fmt: skip


def moved(images: Tensor, things: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Each image and its boxes shifted by up to `most` pixels in both directions; edge pixels are repeated."""
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
    """A share of the images in false colours: hue rotated, desaturated, some of them inverted.

    Returns the images, and a mask of those with their true colours, (image,).
    """
    count, where = len(images), images.device
    true = torch.rand(count, device=where) >= share
    angle = (torch.rand(count, device=where) * 2 - 1) * math.pi
    pale = (torch.rand(count, device=where) * 1.5 - 0.3).clamp(0, 1)
    contrast = torch.where(torch.rand(count, device=where) < 0.4, -1.0, 1.0)
    contrast = contrast * (0.7 + 0.3 * torch.rand(count, device=where))
    grey = images.new_full((3, 3), 1 / 3, dtype=torch.float32)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=where) / math.sqrt(3)
    colour = torch.eye(3, device=where) - grey  # the projection to the part of a pixel that is not grey
    turn = angle.cos().view(-1, 1, 1) * colour + angle.sin().view(-1, 1, 1) * cross
    matrix = contrast.view(-1, 1, 1) * (grey + pale.view(-1, 1, 1) * turn)
    matrix = torch.where(true.view(-1, 1, 1), torch.eye(3, device=where), matrix)
    middle = 127.5
    false = torch.einsum("icd,idyx->icyx", matrix, images.float() - middle) + middle
    return false.clamp(0, 255).round().to(images.dtype), true
