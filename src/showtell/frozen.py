"""Features by an encoder that does not learn, as fast as its network can: the same numbers up to rounding.

- Batch norms that do not learn are a scale and a shift; the convolutions before them take those into their weights.
- Residual sums overwrite their first term, as torchvision writes them (`out += identity`); tracing had undone that.
- On a processor a few images at a time: the maps of more would not fit its cache.
"""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from showtell.encoders import Encoder
from showtell.precision import Precision, autocast, device

AT_ONCE = {"cpu": 16, "cuda": 128}  # images in the network together


class FrozenEncoder:
    """Images in, features out, by an encoder as it is now."""

    def __init__(self, encoder: Encoder, precision: Precision):
        self._encoder, self._precision = copy.deepcopy(encoder).eval().to(device()), precision
        fold_norms(self._encoder.backbone)
        sum_in_place(self._encoder.backbone)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (image, 3, height, width), in any memory -> features as the encoder's, on the device."""
        where = device()
        parts = images.split(AT_ONCE[where.type])
        with autocast(self._precision):
            return torch.cat([self._encoder(part.to(where, non_blocking=True)) for part in parts])


def fold_norms(network: fx.GraphModule) -> None:
    """Put the batch norms of a network in eval mode into the convolutions before them, where only they follow."""
    modules = dict(network.named_modules())
    calls = [node.target for node in network.graph.nodes if node.op == "call_module"]
    for node in list(network.graph.nodes):
        if not _calls(node, modules, nn.BatchNorm2d):
            continue
        before = node.args[0]
        shared = max(calls.count(before.target), calls.count(node.target), len(before.users)) > 1
        if _calls(before, modules, nn.Conv2d) and not shared:
            folded = fuse_conv_bn_eval(modules[before.target], modules[node.target])
            network.set_submodule(before.target, folded.to(memory_format=torch.channels_last))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()


def sum_in_place(network: fx.GraphModule) -> None:
    """Let a sum overwrite its first term where that comes from a layer, which nothing else reads."""
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        if node.op == "call_function" and node.target is operator.add:
            first = node.args[0]
            if _calls(first, modules, nn.BatchNorm2d | nn.Conv2d) and len(first.users) == 1:
                node.target = operator.iadd
    network.recompile()


def _calls(node: Any, modules: dict[str, nn.Module], kind: Any) -> bool:
    """Whether a node of the graph is the output of a module of this kind."""
    return isinstance(node, fx.Node) and node.op == "call_module" and isinstance(modules[node.target], kind)
