"""What training does to images to see more of them. Captions must stay true, so nothing here may move words.

Images are uint8 (image, 3, height, width); what is drawn at random comes from PyTorch's generator.
"""

import torch
from torch import Tensor


def augmented(images: Tensor, crop: int | None, flip: bool, grey: float) -> Tensor:
    """Images as training shows them to an encoder: cropped (None: whole), half mirrored, a share of them grey."""
    images = cropped(images, crop) if crop is not None else images
    images = mirrored(images) if flip else images
    return greyed(images, grey) if grey else images


def cropped(images: Tensor, size: int) -> Tensor:
    """A square of `size` pixels from anywhere in each image."""
    room = torch.tensor(images.shape[2:]) - size + 1  # places for the square's top and left
    corners = (torch.rand(len(images), 2) * room).long().tolist()
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)])


def mirrored(images: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    return torch.where(_some(images, 0.5), images.flip(3), images)


def greyed(images: Tensor, share: float) -> Tensor:
    """Each image without its colours with probability `share`, so that things are known by their shape as well.

    Its captions still name the colours; what is learnt of that is that a picture without any does not tell.
    """
    from torchvision.transforms.v2.functional import rgb_to_grayscale  # late, as in weights.py

    return torch.where(_some(images, share), rgb_to_grayscale(images, num_output_channels=3), images)


def _some(images: Tensor, share: float) -> Tensor:
    """True for each image with probability `share`: (image, 1, 1, 1)."""
    return (torch.rand(len(images), device=images.device) < share).view(-1, 1, 1, 1)
