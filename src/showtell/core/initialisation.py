"""Building networks whose weights are read from a file next, or never needed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Of torch's initialisations those that a function mode sees as a whole.
_FILLING = {nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}
_RANDOM = {Tensor.uniform_, Tensor.normal_}


class Uninitialised(TorchFunctionMode):
    """While active, torch's layers are built without drawing random weights: theirs are any.

    On the meta device no random number is drawn at all; torch would import its compiler for each kind of them.
    Elsewhere those are drawn that an initialisation asks for itself: it may draw again until it likes the values.
    """

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
