"""Any classification network of torchvision up to one of its layers. Its map is found in its traced graph."""

import copy
from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from showtell.core.errors import UserError
from showtell.encoders.backbone import Backbone, ImageStatistics
from showtell.encoders.folding import simplified
from showtell.encoders.weights import bare_network, check_shipped, load_weights

FEATURES = "features"  # name of the map among the outputs of a graph


class TorchvisionBackbone(Backbone):
    """A network as an fx graph that ends at the map, with the maps of `levels` as further outputs. Those named in
    `channels_last` are (image, row, column, channel)."""

    network: GraphModule

    def __init__(
        self, network: GraphModule, node: str | None, levels: Sequence[str] = (), channels_last: Set[str] = frozenset()
    ):
        super().__init__(network, node, levels)
        self.channels_last = channels_last

    def maps(self, images: Tensor) -> list[Tensor]:
        found = self.network(images)
        for name, x in found.items():
            if not isinstance(x, Tensor) or x.dim() > 4:  # the pair of an attention and its weights, a shape, windows
                key, layer = ("node", self.node) if name == FEATURES else ("levels", name)
                raise UserError(f"encoder.{key}: the output of {layer} is no map; name another layer")
        outputs = {name: x.permute(0, 3, 1, 2) if name in self.channels_last else x for name, x in found.items()}
        x = outputs[FEATURES]
        cells = x.unsqueeze(1) if x.dim() == 2 else _as_grid(x)  # hidden features without a map: one cell
        return [cells, *(_as_grid(x) if x.dim() == 3 else x for x in (outputs[level] for level in self.levels))]

    def view_shift(self, size: int, side: int) -> float:
        return _view_shift(self.network, size, side)

    def simplified(self, learning: Set[nn.Module] = frozenset()) -> Backbone:
        return TorchvisionBackbone(simplified(self.network, learning), self.node, self.levels, self.channels_last)


def build(
    name: str, weights: str, output: str, node: str | None, levels: Sequence[str], size: int
) -> tuple[Backbone, ImageStatistics]:
    """The network called `name` for pictures of `size` pixels; `weights` as in `load_weights`.

    `node` None: the last map of more than one cell, or for `output` hidden the input of the last linear layer.
    """
    network, last = bare_network(name, size), node
    check_shipped(name, weights, node)
    if last is None:
        # A copy: tracing may add buffers, whose names would differ from those of a network that is traced once.
        last = _find_node(copy.deepcopy(network), torch.zeros(1, 3, size, size), output)
    asked = {last: FEATURES} | {level: level for level in levels}
    try:
        graph = _extractor(network, asked)
    except ValueError as error:
        unknown = next((layer for layer in asked if f"'{layer}'" in str(error)), last)
        key = "encoder.node" if unknown == last else "encoder.levels"
        raise UserError(f"{name} has no layer {unknown!r} ({key})") from None
    # This fills the graph as well: its tensors are those of the network.
    statistics = load_weights(network, name, weights, used=graph.state_dict())
    transposed = _with_channels_last(graph, size) if name.startswith("swin") else frozenset[str]()
    return TorchvisionBackbone(graph, last, levels, transposed), statistics


def _view_shift(network: GraphModule, size: int, side: int) -> float:
    """`Backbone.view_shift`: 0 for networks that compute their cells without convolutions.

    A convolution with stride 2 and padding on both sides reads every second pixel from the first on. After four of them
    a cell's receptive field is half a cell up and left of the cell. Computed layer by layer as in Dumoulin and Visin,
    "A guide to convolution arithmetic for deep learning" (2016), chapter 2.
    """
    (outputs,) = next(iter(reversed(network.graph.nodes))).args
    places: dict[Node, tuple[float, float]] = {}  # centre of the first cell's receptive field; pixels between cells
    for node in network.graph.nodes:
        place = next((places[before] for before in node.all_input_nodes if before in places), (0.0, 1.0))
        for layer in network.get_submodule(node.target).modules() if node.op == "call_module" else ():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                kernel, stride, padding, dilation = (
                    _first(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
                )
                first, step = place
                place = (first + ((kernel - 1) * dilation / 2 - padding) * step, step * stride)
        places[node] = place
    first, step = places[outputs[FEATURES]]
    middle = first + 0.5 + (side - 1) / 2 * step  # centre of all receptive fields together
    return middle / size - 0.5 if abs(size - side * step) <= step else 0.0


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _extractor(network: nn.Module, nodes: list[str] | dict[str, str]) -> GraphModule:
    """`network` up to `nodes`, whose outputs it returns by name."""
    from torchvision.models.feature_extraction import create_feature_extractor  # imported late: it is slow

    return create_feature_extractor(network, nodes, suppress_diff_warning=True)


def _find_node(network: nn.Module, probe: Tensor, output: str) -> str:
    """The node whose output has the shape that `output` asks for, found by running the network once."""
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
    """Whether `x` is a convolution's map (1, channel, row, column) or a transformer's sequence (1, token, channel).

    Images are square, so maps are; this also distinguishes (channel, row, column) from (row, column, channel).
    """
    return (x.dim() == 4 and x.shape[2] == x.shape[3] > 1) or (x.dim() == 3 and x.shape[1] > 1)


def _with_channels_last(graph: GraphModule, size: int) -> frozenset[str]:
    """The outputs that are (image, row, column, channel), as inside torchvision's Swin: their last dimension stays the
    same for pictures of another size."""
    with torch.no_grad():
        small, large = (graph.eval()(torch.zeros(1, 3, pixels, pixels)) for pixels in (size, 2 * size))
    shapes = {name: (x.shape, large[name].shape) for name, x in small.items()}
    return frozenset(name for name, (a, b) in shapes.items() if len(a) == 4 and a[1] != b[1] and a[3] == b[3])


def _as_grid(x: Tensor) -> Tensor:
    """(image, cell, channel) from a map (image, channel, row, column) or a sequence (image, token, channel)."""
    if x.dim() == 4:
        return x.flatten(2).transpose(1, 2)
    tokens = x.shape[1]
    side = int((tokens - 1) ** 0.5)
    return x[:, 1:] if side * side == tokens - 1 else x  # torchvision's transformers have one class token, the first
