"""Augmentation of training images: changes after which nearly all captions are still true. The hue, for one, is not
changed.

Images are uint8 (image, 3, height, width); random numbers come from PyTorch's generator.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from showtell.core.params import Section

RATIO = 4 / 3  # the greatest aspect ratio of `cut_out`, or one through it the smallest: Szegedy et al. 2015


class AugmentationParams(Section):
    """How training changes images."""

    flip: bool = Field(description="mirror half of the training images")
    least_area: float = Field(gt=0, le=1, description="least share of an image that training shows, enlarged; 1: whole")
    colour: float = Field(ge=0, lt=1, description="greatest change of brightness, contrast and saturation, a share")
    grey: float = Field(ge=0, le=1, description="share of the training images shown without colours")


def augmented(images: Tensor, crop: int | None, params: AugmentationParams) -> Tensor:
    """Images augmented for the encoder: cropped to `crop` (None: whole), then changed by `params`."""
    images = cropped(images, crop) if crop is not None else images
    images = cut_out(images, params.least_area) if params.least_area < 1 else images
    images = mirrored(images) if params.flip else images
    images = recoloured(images, params.colour) if params.colour else images
    return greyed(images, params.grey) if params.grey else images


def cropped(images: Tensor, size: int) -> Tensor:
    """A square of `size` pixels at a random position of each image."""
    room = torch.tensor(images.shape[2:]) - size + 1  # possible positions of the square's top and left
    corners = (torch.rand(len(images), 2) * room).long().tolist()
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)])


def cut_out(images: Tensor, least_area: float) -> Tensor:
    """A random rectangle of each image, enlarged to the image's size (bilinear): random resized crop.

    Its area is between `least_area` and 1 of the image's, its aspect ratio between 3/4 and 4/3 of the image's. Szegedy
    et al., "Going Deeper with Convolutions" (CVPR 2015), section 6, use 0.08 as least area for classification, where a
    part of the one object is enough; captions describe the whole image. Where the area leaves no room for such a ratio,
    it is drawn from those that fit.
    """
    from torchvision.transforms.v2.functional import resized_crop  # imported late: it is slow

    size = list(images.shape[2:])
    areas = torch.empty(len(images)).uniform_(least_area, 1.0)
    widest = areas.log().neg().clamp(max=math.log(RATIO))  # wider or higher, the rectangle would not fit
    ratios = (torch.empty(len(images)).uniform_(-1.0, 1.0) * widest).exp()
    shares = torch.stack([(areas / ratios).sqrt(), (areas * ratios).sqrt()], dim=1)  # of height, width
    sides = (shares * torch.tensor(size)).round().long()
    corners = (torch.rand(len(images), 2) * (torch.tensor(size) - sides + 1)).long()
    places = torch.cat([corners, sides], dim=1).tolist()
    return torch.stack([resized_crop(image, *place, size) for image, place in zip(images, places, strict=True)])


def mirrored(images: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    return torch.where(_some(images, 0.5), images.flip(3), images)


def recoloured(images: Tensor, strength: float) -> Tensor:
    """Each image with brightness, contrast and saturation multiplied by random factors from 1 - `strength` to 1 +
    `strength`. Hue is not changed: captions name it."""
    brightness, contrast, saturation = (
        torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(1 - strength, 1 + strength) for _ in range(3)
    )
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)  # luma weights, ITU-R BT.601
    shown = images.float() * brightness
    luma = (shown * weights).sum(dim=1, keepdim=True)
    shown = luma + saturation * (shown - luma)
    mean = luma.mean(dim=(2, 3), keepdim=True)
    return (mean + contrast * (shown - mean)).round().clamp(0, 255).to(images.dtype)


def greyed(images: Tensor, share: float) -> Tensor:
    """Each image in greyscale with probability `share`, so that objects are recognised by their shape as well.

    Its captions still name the colours: the model learns that a greyscale image does not show them.
    """
    from torchvision.transforms.v2.functional import rgb_to_grayscale  # imported late: it is slow

    return torch.where(_some(images, share), rgb_to_grayscale(images, num_output_channels=3), images)


def _some(images: Tensor, share: float) -> Tensor:
    """True for each image with probability `share`: (image, 1, 1, 1)."""
    return (torch.rand(len(images), device=images.device) < share).view(-1, 1, 1, 1)
