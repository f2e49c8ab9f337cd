"""Any torchvision classification network as an encoder of images.

Shapes: images uint8 (image, 3, height, width), 0-255, RGB. Features are `grid` (image, cell, channel), cells row by row
from the top left, or one vector an image, `pooled` and `hidden` (image, channel).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from showtell.core.errors import UserError
from showtell.core.files import fingerprint
from showtell.core.params import Section
from showtell.core.precision import Precision
from showtell.encoders.folding import with_simplified_front
from showtell.encoders.weights import bare_network, load_weights

# Normalisation when the weights do not bring their own: the statistics of ImageNet, as nearly all weights have.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EncoderParams(Section):
    """Which network looks at the images, and which of its activations the decoder sees."""

    name: str = Field(description="a classification model of torchvision.models")
    weights: str = Field(description="DEFAULT, a named torchvision weight, none, or a path to a state dict")
    output: Literal["grid", "pooled", "hidden"] = Field(description="what the decoder gets of an image")
    node: str | None = Field(description="layer whose output is the grid; null: the last map before the classifier")
    crop: int | None = Field(ge=16, le=2048, description="pixels: it sees this square of the middle; null: all")
    precision: Precision = Field(description="arithmetic of the frozen encoder")

    @field_validator("crop")
    @classmethod
    def _no_cropped_grid(cls, crop: int | None, info: ValidationInfo) -> int | None:
        if crop is not None and info.data.get("output") == "grid":
            raise PydanticCustomError("grid", "a grid's cells stand for places in the whole picture; set it to null")
        return crop


class Encoder(nn.Module):
    """The network up to one of its nodes, from uint8 images to features.

    `config` is all that rebuilds it (name, node, output, image size, crop, mean, std); weights travel in the state
    dict. Of images of `size` pixels it sees the middle `crop` pixels, when there is a crop; images that are cropped
    already (by augmentation) it takes as they are.
    """

    def __init__(self, config: dict[str, Any], network: nn.Module | None = None):
        super().__init__()
        self.config = dict(config)
        network = network if network is not None else bare_network(config["name"])
        self.crop: int | None = config.get("crop")
        if self.crop is not None and self.crop > config["size"]:
            raise UserError(f"encoder.crop = {self.crop} is more than the images have (resize.size = {config['size']})")
        seen = self.crop or config["size"]
        probe = torch.zeros(1, 3, seen, seen)
        if config["node"] is None:
            with _images_of(config["name"], seen):
                self.config["node"] = _find_node(network, probe, config["output"])
        try:
            self.backbone = _extractor(network, {self.config["node"]: "features"})
        except ValueError:
            raise UserError(f"{config['name']} has no layer {config['node']!r} (encoder.node)") from None
        self.backbone.to(memory_format=torch.channels_last)
        scale = 255.0  # images are 0-255, the networks' statistics 0-1
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(config["mean"]).mul(scale).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).mul(scale).view(shape), persistent=False)
        self._frozen: list[nn.Module] = []
        self._simplified: list[GraphModule] = []  # in a list: a twin of the backbone, no part of the state dict
        self.freeze()
        with torch.no_grad(), _images_of(config["name"], seen):
            cells = self.eval().feature_map(probe)
        self.cells: int = cells.shape[1]  # of the map; 1 where hidden features have none
        self.channels: int = cells.shape[2]
        self.shift: float = view_shift(self.backbone, config["size"], isqrt(self.cells))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (image, 3, height, width) -> (image, cell, channel), or (image, channel) when pooled or hidden."""
        return self.output(self.feature_map(images))

    def output(self, cells: Tensor) -> Tensor:
        """The map (image, cell, channel) as decoders get it: itself, or its mean (image, channel)."""
        return cells if self.config["output"] == "grid" else cells.mean(dim=1)

    def feature_map(self, images: Tensor) -> Tensor:
        """The map that all outputs are made of, (image, cell, channel): a grid is it, pooled features are its mean."""
        x = (self._middle(images).float() - self.mean).div_(self.std)
        network = self._simplified[0] if self._simplified else self.backbone
        x = network(x.contiguous(memory_format=torch.channels_last))["features"]
        return x.unsqueeze(1) if x.dim() == 2 else _as_grid(x)  # hidden features without a map are its only cell

    def _middle(self, images: Tensor) -> Tensor:
        if self.crop is None or images.shape[2] <= self.crop:
            return images
        edge = (images.shape[2] - self.crop) // 2
        return images[:, :, edge : edge + self.crop, edge : edge + self.crop]

    def freeze(self) -> None:
        """Nothing learns: no gradients, and batch-norm statistics stay as they are."""
        self.train_from(None)

    def train_from(self, block: str | None) -> None:
        """Let `block` and what follows learn; what comes before is frozen, batch norm included. None: all frozen."""
        modules = dict(self.backbone.named_modules())
        order = {name: position for position, name in enumerate(name for name in modules if name)}
        if block is not None and block not in order:
            blocks = ", ".join(name for name in order if "." not in name)
            raise UserError(f"{self.config['name']} has no block {block!r} (trainable_from); its blocks are {blocks}")
        first = len(order) if block is None else order[block]
        for name, parameter in self.backbone.named_parameters():
            owner = name.rpartition(".")[0]
            parameter.requires_grad_(order.get(owner, 0) >= first)
        # Only leaves: a block that is split has frozen children before and learning children after the cut.
        self._frozen = [modules[name] for name in order if order[name] < first and not list(modules[name].children())]
        self.train(self.training)

    def train_from_start(self) -> None:
        """Everything learns."""
        self.train_from(next(name for name, _ in self.backbone.named_modules() if name))

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        for module in self._frozen:
            module.eval()
        self._simplified.clear()
        if mode and self._frozen and any(p.requires_grad for p in self.backbone.parameters()):
            learning = {m for m in self.backbone.modules() if not list(m.children())}.difference(self._frozen)
            self._simplified.append(with_simplified_front(self.backbone, learning))
        return self

    def trainable_state(self) -> dict[str, Tensor]:
        """Parameters and statistics of the blocks that learn; the rest never changes."""
        still = {id(buffer) for module in self._frozen for buffer in module.buffers()}
        return {
            name: tensor
            for name, tensor in self.state_dict(keep_vars=True).items()
            if (tensor.requires_grad if isinstance(tensor, nn.Parameter) else id(tensor) not in still)
        }

    def hash(self) -> str:
        """Names what it computes: configuration and every weight."""
        return fingerprint(self.config, state_hash(self))


def view_shift(backbone: GraphModule, size: int, side: int) -> float:
    """How far from the middle of a cell the middle of what it sees lies, right and down, as a share of the picture.

    `backbone` turns pictures of `size` pixels into a map of `side` x `side` cells. A convolution with stride 2 and
    padding on both sides sees every second pixel from the first one on, so after four of them a cell looks half a cell
    up and left of where the map puts it. Followed through the layers as in Dumoulin and Visin, "A guide to convolution
    arithmetic for deep learning" (2016), chapter 2. 0 for networks that make their cells in another way.
    """
    places: dict[Node, tuple[float, float]] = {}  # pixel in the middle of the first cell's view; pixels between cells
    for node in backbone.graph.nodes:
        place = next((places[before] for before in node.all_input_nodes if before in places), (0.0, 1.0))
        for layer in backbone.get_submodule(node.target).modules() if node.op == "call_module" else ():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                kernel, stride, padding, dilation = (
                    _first(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
                )
                first, step = place
                place = (first + ((kernel - 1) * dilation / 2 - padding) * step, step * stride)
        places[node] = place
    first, step = place  # of the last node, the output
    middle = first + 0.5 + (side - 1) / 2 * step  # of what all cells see together
    return middle / size - 0.5 if abs(size - side * step) <= step else 0.0


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def state_hash(module: nn.Module) -> str:
    """Hex SHA-256 of a module's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_encoder(params: EncoderParams, size: int, seed: int) -> Encoder:
    """The encoder of params.yaml for square images of `size` pixels: weights loaded (or drawn), frozen, eval mode."""
    torch.manual_seed(seed)
    network = bare_network(params.name)
    mean, std = load_weights(network, params.name, params.weights) or (IMAGENET_MEAN, IMAGENET_STD)
    config = {
        "name": params.name,
        "output": params.output,
        "node": params.node,
        "size": size,
        "mean": list(mean),
        "std": list(std),
    }
    if params.crop is not None:
        config["crop"] = params.crop
    return Encoder(config, network).eval()


@contextmanager
def _images_of(name: str, size: int) -> Iterator[None]:
    """Say in one line that a network cannot take images of this size."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or ["too small"])[0]
        raise UserError(
            f"{name} cannot look at {size} x {size} pixels ({reason}); change resize.size or encoder.crop"
        ) from None


def _extractor(network: nn.Module, nodes: list[str] | dict[str, str]) -> GraphModule:
    """`network` up to `nodes`, whose outputs it gives by their names."""
    from torchvision.models.feature_extraction import create_feature_extractor  # late, as in weights.py

    return create_feature_extractor(network, nodes, suppress_diff_warning=True)


def _find_node(network: nn.Module, probe: Tensor, output: str) -> str:
    """The node that holds what `output` asks for, found by running the network once and looking at the shapes."""
    from torchvision.models.feature_extraction import get_graph_node_names

    _, nodes = get_graph_node_names(network, suppress_diff_warning=True)
    with torch.no_grad():
        outputs = _extractor(network.eval(), nodes)(probe)
    if output == "hidden":
        return nodes[_last_linear(network, nodes) - 1]
    for node in reversed(nodes):
        if isinstance(outputs[node], Tensor) and _is_map(outputs[node]):
            return node
    raise UserError("at this image size the encoder has no map of more than one cell; raise resize.size")


def _last_linear(network: nn.Module, nodes: list[str]) -> int:
    modules = dict(network.named_modules())
    for position in range(len(nodes) - 1, 0, -1):
        if isinstance(modules.get(nodes[position]), nn.Linear):
            return position
    raise UserError("the encoder has no linear classifier, so no hidden features; use grid or pooled (encoder.output)")


def _is_map(x: Tensor) -> bool:
    """A convolution's map (1, channel, row, column), or a transformer's sequence (1, token, channel).

    Images are square, so maps are; that also tells (channel, row, column) from (row, column, channel).
    """
    return (x.dim() == 4 and x.shape[2] == x.shape[3] > 1) or (x.dim() == 3 and x.shape[1] > 1)


def _as_grid(x: Tensor) -> Tensor:
    """(image, cell, channel) from a map (image, channel, row, column) or a sequence (image, token, channel)."""
    if x.dim() == 4:
        return x.flatten(2).transpose(1, 2)
    tokens = x.shape[1]
    side = int((tokens - 1) ** 0.5)
    return x[:, 1:] if side * side == tokens - 1 else x  # vision transformers put a class token in front
