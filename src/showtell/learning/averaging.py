"""Exponential moving average of the weights during training. The average is validated and saved, not the last weights.

Single updates make the weights fluctuate. Their average has a lower loss, as if the learning rate had been lowered.
Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992); with a decay as in Szegedy et al.,
"Rethinking the Inception architecture for computer vision" (CVPR 2016), section 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """The average of the tensors `live`, which training changes in place; batch-norm statistics are averaged as well.

    With `decay` 0 there is no average: all methods use the tensors themselves.
    """

    def __init__(self, live: dict[str, Tensor], decay: float):
        self.live = {name: tensor.detach() for name, tensor in live.items()}
        self.decay = decay
        self.mean = {name: tensor.clone() for name, tensor in self.live.items() if decay and tensor.is_floating_point()}

    def update(self, updates: int) -> None:
        """Add the tensors after `updates` updates. The decay rises at first, so that initial weights are soon
        forgotten."""
        if self.mean:
            decay = min(self.decay, (1 + updates) / (10 + updates))
            get_ema_multi_avg_fn(decay)(list(self.mean.values()), [self.live[name] for name in self.mean], None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the tensors by their averages within this context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def weights(self) -> dict[str, Tensor]:
        """The tensors to save: the averages, and those tensors that are not averaged."""
        return self.live | self.mean

    def load(self, mean: dict[str, Tensor]) -> None:
        """Continue with the averages of an earlier run."""
        for name, tensor in mean.items():
            self.mean[name].copy_(tensor)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.mean.items():
            live = self.live[name]
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)
