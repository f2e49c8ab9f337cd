"""What an encoder asks of a network: the map of its images, the order of its blocks, and where a cell looks.

torchvision's networks (`torchvision_backbone.py`) and timm's (`timm_backbone.py`) are two implementations. A third is a
subclass of `Backbone` with a function `build`, and an entry in `LIBRARIES` of `network.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass

from torch import Tensor, nn

from showtell.data.transform import Filter


@dataclass(frozen=True)
class ImageStatistics:
    """The images that weights were made for. `mean`, `std`: of each colour, 0-1. `size`: pixels; None: not known."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of ImageNet, as nearly all weights have it
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    filter: Filter = "bilinear"
    size: int | None = None


class Backbone(nn.Module, ABC):
    """A network up to the layer whose output is the map.

    `network` has the weights. `node` is the name of the layer, None where it is the network's own last map.
    """

    def __init__(self, network: nn.Module, node: str | None):
        super().__init__()
        self.network, self.node = network, node

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (image, 3, height, width) -> (image, cell, channel), cells row by row from the top left.

        Class and register tokens are no cells. A single vector an image is a map of one cell.
        """

    def blocks(self) -> dict[str, nn.Module]:
        """All modules by name, from the first that images go through to the last; a block comes before its parts."""
        return {name: module for name, module in self.network.named_modules() if name}

    def view_shift(self, size: int, side: int) -> float:
        """How far from the middle of a cell the middle of what it sees lies, right and down, as a share of the picture.

        Pictures have `size` pixels, the map has `side` x `side` cells.
        """
        return 0.0

    def unused(self) -> set[str]:
        """Names of parameters of `network` that the map does not depend on. They cannot learn."""
        return set()

    def simplified(self, learning: Set[nn.Module] = frozenset()) -> "Backbone":
        """The same numbers up to rounding in less time, sharing with this one all modules that are `learning`."""
        return self
