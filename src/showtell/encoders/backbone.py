"""The interface of a backbone: its feature map, its blocks in order, and the position of each cell in the image.

The networks of torchvision (`torchvision_backbone.py`) and timm's (`timm_backbone.py`) are two implementations. A third
is a subclass of `Backbone` with a function `build`, and an entry in `LIBRARIES` of `network.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.core.errors import UserError
from showtell.data.transform import Filter


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the images that weights were trained on: `mean`, `std` per channel, 0-1; `size` in pixels or
    None."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # ImageNet's, which nearly all weights use
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    filter: Filter = "bilinear"
    size: int | None = None


class Backbone(nn.Module, ABC):
    """A network up to the layer whose output is the feature map.

    `network` holds the weights. `node` is the name of that layer; None for the network's own last map. `levels` names
    earlier layers whose maps are part of it (`with_levels`).
    """

    def __init__(self, network: nn.Module, node: str | None, levels: Sequence[str] = ()):
        super().__init__()
        self.network, self.node, self.levels = network, node, tuple(levels)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (image, 3, height, width) -> (image, cell, channel), cells row by row from the top left.

        The channels of `levels` come after the map's own.
        """
        cells, *maps = self.maps(images)
        return with_levels(cells, maps, self.levels)

    @abstractmethod
    def maps(self, images: Tensor) -> list[Tensor]:
        """The map (image, cell, channel); those of `levels`, (image, channel, row, column) or (image, cell, channel).

        Class and register tokens are left out. An output of a single vector is a map of one cell.
        """

    def blocks(self) -> dict[str, nn.Module]:
        """All modules by name, in the order in which the images pass them; a block comes before its parts."""
        return {name: module for name, module in self.network.named_modules() if name}

    def view_shift(self, size: int, side: int) -> float:
        """Offset of a cell's receptive field from the cell's middle, to the right and down, as a fraction of the image.

        Images are `size` x `size` pixels, the map is `side` x `side` cells.
        """
        return 0.0

    def unused(self) -> set[str]:
        """Names of parameters of `network` that the map does not depend on, so that they get no gradient."""
        return set()

    def simplified(self, learning: Set[nn.Module] = frozenset()) -> "Backbone":
        """A faster backbone with the same output up to rounding; it shares all modules in `learning` with this one."""
        return self


def containing(module: str) -> list[str]:
    """The names of the modules that contain the module of this name."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


class EveryOtherPixel(nn.Conv2d):
    """A convolution of 1 x 1 with a stride, computed without one on the pixels that it looks at: the same sums."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen = input[..., :: self.stride[0], :: self.stride[1]]
        return functional.conv2d(seen, weight, bias, groups=self.groups)


def _is_strided_point(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.padding == (0, 0)


def without_strided_points(backbone: Backbone) -> Backbone:
    """`backbone`, whose convolutions of 1 x 1 with a stride on few channels are computed without it.

    On a processor, torch 2.15 writes outside its memory in the gradient of their weights, for channels-last images of
    fewer than 16 channels: the stems of FastViT, MobileOne and RepVGG would end the process.
    """
    for module in backbone.modules():
        if type(module) is nn.Conv2d and module.in_channels < 16 and _is_strided_point(module):
            module.__class__ = EveryOtherPixel
    return backbone


def with_levels(cells: Tensor, maps: Sequence[Tensor], levels: Sequence[str]) -> Tensor:
    """A map (image, cell, channel) with the channels of earlier maps after its own: multi-level features.

    Each of `maps`, of the layers `levels`, is (image, cell, channel) or (image, channel, row, column), and is averaged
    to the rows and columns of `cells`. Colours and textures, which the last layers of a classifier drop, are in the
    earlier ones: Hariharan et al., "Hypercolumns for Object Segmentation and Fine-grained Localization" (CVPR 2015),
    section 2. `UserError` for a map with fewer cells.
    """
    side, found = isqrt(cells.shape[1]), [cells]
    for level, x in zip(levels, maps, strict=True):
        if x.dim() == 4 and x.shape[2] > side and side * side == cells.shape[1]:
            x = functional.adaptive_avg_pool2d(x, side)
        x = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
        if x.dim() != 3 or x.shape[1] != cells.shape[1]:
            raise UserError(
                f"encoder.levels: the output of {level} is no map that can be averaged to the grid's {cells.shape[1]} "
                "cells; name layers before encoder.node"
            )
        found.append(x)
    return torch.cat(found, dim=2) if maps else cells
