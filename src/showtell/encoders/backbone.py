"""The interface of a backbone: its feature map, its blocks in order, and the position of each cell in the image.

The networks of torchvision (`torchvision_backbone.py`) and timm's (`timm_backbone.py`) are two implementations. A third
is a subclass of `Backbone` with a function `build`, and an entry in `LIBRARIES` of `network.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass

from torch import Tensor, nn

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

    `network` holds the weights. `node` is the name of that layer; None for the network's own last map.
    """

    def __init__(self, network: nn.Module, node: str | None):
        super().__init__()
        self.network, self.node = network, node

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (image, 3, height, width) -> (image, cell, channel), cells row by row from the top left.

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
