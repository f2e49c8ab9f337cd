"""What one run of a network tells: the order of modules, parameters that are not used, norms after convolutions."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Trace(NamedTuple):
    """Modules and parameters by name."""

    order: list[str]  # modules, in the order of their first calls
    unused: set[str]  # parameters that the output does not depend on
    norms: dict[str, str]  # for each batch norm right after a convolution whose output nothing else reads, that one


def trace(network: nn.Module, run: Callable[[], Tensor]) -> Trace:
    """Call `run`, which runs `network` in eval mode, once; its gradients are followed from the output back.

    Modes and `requires_grad` are as before afterwards.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    parameters = dict(network.named_parameters())
    modes = {module: module.training for module in network.modules()}
    learning = {name: parameter.requires_grad for name, parameter in parameters.items()}
    called: list[str] = []
    made: dict[Any, str] = {}  # the convolution of each of their outputs, by the node in the graph of gradients
    norms: dict[str, str] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            called.append(name)
            if isinstance(module, nn.BatchNorm2d) and inputs and inputs[0].grad_fn in made:
                norms[name] = made[inputs[0].grad_fn]

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            made[output.grad_fn] = name

        return hook

    hooks = [module.register_forward_pre_hook(before(name)) for name, module in modules.items()]
    hooks += [m.register_forward_hook(after(name)) for name, m in modules.items() if isinstance(m, nn.Conv2d)]
    network.eval().requires_grad_(True)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            leaves, readers = _graph(run())
    finally:
        for hook in hooks:
            hook.remove()
        for name, parameter in parameters.items():
            parameter.requires_grad_(learning[name])
        network.train(modes[network])  # some modules of timm then forget, or compute anew, what they keep for eval mode
        for module, mode in modes.items():
            module.training = mode
    calls = Counter(called)
    read_once = {name for node, name in made.items() if readers[node] == 1 and calls[name] == 1}
    return Trace(
        list(dict.fromkeys(called)),
        {name for name, parameter in parameters.items() if parameter not in leaves},
        {norm: source for norm, source in norms.items() if source in read_once and calls[norm] == 1},
    )


def _graph(result: Tensor) -> tuple[set[Tensor], Counter[Any]]:
    """The tensors with gradients that `result` was computed from, and how often each step on the way was read."""
    found: set[Tensor] = set()
    readers: Counter[Any] = Counter([result.grad_fn])
    waiting, seen = [result.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the end of the graph, where the gradient is added
            found.add(node.variable)
        following = [before for before, _ in node.next_functions]
        readers.update(following)
        waiting.extend(following)
    return found, readers
