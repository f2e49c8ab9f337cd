"""Building networks whose weights are read from a file next, or never needed."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

N = TypeVar("N", bound=nn.Module)

# Of torch's initialisations those that a function mode sees as a whole.
_FILLING = {nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}
_RANDOM = {Tensor.uniform_, Tensor.normal_}


class _Here(threading.local):
    """Of this thread, as function modes are."""

    active = 0  # how many `Uninitialised` are


_here = _Here()


class Uninitialised(TorchFunctionMode):
    """While active, torch's layers are built without drawing random weights: theirs are any.

    On the meta device no random number is drawn at all; torch would import its compiler for each kind of them.
    Elsewhere those are drawn that an initialisation asks for itself: it may draw again until it likes the values.
    """

    def __enter__(self) -> "Uninitialised":
        _here.active += 1
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _here.active -= 1
        super().__exit__(*error)

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _FILLING:
            return args[0] if args else kwargs["tensor"]
        if function in _RANDOM and args[0].is_meta:
            return args[0]
        return function(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build networks without weights, on the meta device, whatever their size."""
    with torch.device("meta"), Uninitialised():
        yield


def built(build: Callable[[], N]) -> N:
    """The network that `build` gives. While `Uninitialised` is active, only its shapes are computed, and its tensors
    allocated then: those of floating-point numbers have any values, the others are 0."""
    if not _here.active or torch.get_default_device().type == "meta":
        return build()
    try:
        with shapes_only():
            network = build()
    except RuntimeError:  # some networks read values of tensors while they are built
        return build()
    if _computed(network):
        return build()
    return network._apply(_allocated)  # Module.to_empty imports torch's symbolic shapes


def _allocated(tensor: Tensor) -> Tensor:
    make = torch.empty if tensor.is_floating_point() else torch.zeros
    return make(tensor.shape, dtype=tensor.dtype)


def _computed(network: nn.Module) -> bool:
    """Whether `network` has tensors that are computed when it is built, and that its state dict does not have."""
    stored = network.state_dict().keys()
    others = (value for module in network.modules() for value in vars(module).values())
    return any(name not in stored for name, _ in network.named_buffers()) or any(isinstance(o, Tensor) for o in others)
