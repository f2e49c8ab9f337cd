"""What training does to images to see more of them. Captions must stay true, so nothing here may move words."""

import torch
from torch import Tensor


def mirrored(images: Tensor) -> Tensor:
    """Each image (image, 3, height, width) mirrored left to right with probability 1/2, from PyTorch's generator."""
    flip = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
