"""What training does to images to see more of them. Captions must stay true, so nothing here may move words."""

import torch
from torch import Tensor


def cropped(images: Tensor, size: int) -> Tensor:
    """A square of `size` pixels from anywhere in each image (image, 3, height, width), from PyTorch's generator."""
    room = torch.tensor(images.shape[2:]) - size + 1  # places for the square's top and left
    corners = (torch.rand(len(images), 2) * room).long().tolist()
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)])


def mirrored(images: Tensor) -> Tensor:
    """Each image (image, 3, height, width) mirrored left to right with probability 1/2, from PyTorch's generator."""
    flip = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
