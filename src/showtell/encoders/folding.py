"""Simplifies a network whose layers are frozen: the same output up to rounding, in less time.

- Frozen batch norms are a scale and a shift, which are folded into the weights of the convolutions before them.
- Residual sums overwrite their first term, as torchvision writes them (`out += identity`); tracing had undone that.

`simplified` does both in a graph (torchvision); `norms_folded` the first in a network of modules (timm).
"""

import copy
import operator
from collections.abc import Mapping, Set
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from showtell.encoders.backbone import containing


def simplified(network: fx.GraphModule, learning: Set[nn.Module]) -> fx.GraphModule:
    """A copy of `network` that shares its modules; modules that are not in `learning` (in eval mode) are simplified."""
    twin = fx.GraphModule(network, copy.deepcopy(network.graph))
    _fold_norms(twin, _at_rest(twin, learning))
    _sum_in_place(twin, _at_rest(twin, learning))
    twin.recompile()
    return twin


def norms_folded(
    network: nn.Module, norms: Mapping[str, str], foldable: Set[type[nn.Module]], learning: Set[nn.Module]
) -> nn.Module:
    """A copy of `network` that shares its modules, with batch norms folded into the convolutions before them.

    `norms`: the name of that convolution for each norm (`Trace.norms`). Pairs are folded that have no module in
    `learning` (in eval mode) and are of types in `foldable`. Layers that are part of a norm, such as an
    activation, stay.
    """
    modules, still = dict(network.named_modules()), _at_rest(network, learning)
    pairs = {
        name: before
        for name, before in norms.items()
        if {name, before} <= still.keys()
        and {type(modules[name]), type(modules[before])} <= foldable
        and modules[name].running_mean is not None  # else it norms by the images at hand
    }
    copied = {"", *(outer for name in (*pairs, *pairs.values()) for outer in containing(name))}
    shared = [*network.parameters(), *network.buffers(), *(modules[name] for name in modules.keys() - copied)]
    twin = copy.deepcopy(network, {id(one): one for one in shared})
    for name, before in pairs.items():
        convolution, norm = cast(nn.Conv2d, modules[before]), cast(nn.BatchNorm2d, modules[name])
        twin.set_submodule(before, _folded(convolution, norm))
        twin.set_submodule(name, nn.Sequential(*norm.children()))
    return twin


def _at_rest(network: nn.Module, learning: Set[nn.Module]) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules() if learning.isdisjoint(module.modules())}


def _fold_norms(network: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
    """Fold batch norms among `modules` into the convolutions before them, where nothing else reads the convolution.

    The convolutions are replaced by new ones; none is changed.
    """
    calls = [node.target for node in network.graph.nodes if node.op == "call_module"]
    for node in list(network.graph.nodes):
        if _calls(node, modules, nn.Sequential):  # tracing treats torchvision's Conv2dNormActivation as one layer
            network.set_submodule(node.target, _without_norms(cast(nn.Sequential, modules[node.target])))
        if not _calls(node, modules, nn.BatchNorm2d):
            continue
        before = node.args[0]
        shared = max(calls.count(before.target), calls.count(node.target), len(before.users)) > 1
        if _calls(before, modules, nn.Conv2d) and not shared:
            convolution, norm = cast(nn.Conv2d, modules[before.target]), cast(nn.BatchNorm2d, modules[node.target])
            network.set_submodule(before.target, _folded(convolution, norm))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    return fuse_conv_bn_eval(convolution, norm).to(memory_format=torch.channels_last)


def _without_norms(layers: nn.Sequential) -> nn.Sequential:
    """The same layers, with each norm folded into the convolution before it."""
    found: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and found and type(found[-1]) is nn.Conv2d:
            found[-1] = _folded(found[-1], layer)
        else:
            found.append(layer)
    return nn.Sequential(*found)


def _sum_in_place(network: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
    """Make a sum overwrite its first term where one of `modules` computed it and nothing else reads it."""
    for node in network.graph.nodes:
        if node.op == "call_function" and node.target is operator.add:
            first = node.args[0]
            if _calls(first, modules, nn.BatchNorm2d | nn.Conv2d) and len(first.users) == 1:
                node.target = operator.iadd


def _calls(node: Any, modules: dict[str, nn.Module], kind: Any) -> bool:
    """Whether a node of the graph is a call of a module of this type."""
    return isinstance(node, fx.Node) and node.op == "call_module" and isinstance(modules.get(str(node.target)), kind)
