"""The exponential moving average of the weights while they learn, validated and kept in place of the last ones.

Single updates pull weights to and fro. Their mean lies where the loss is lower, as if the learning rate had fallen,
while it need not fall as far. Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992);
with a decay as in Szegedy et al., "Rethinking the Inception architecture for computer vision" (CVPR 2016), section 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Of the tensors `live` that training changes in place; statistics of batch norms are averaged like weights.

    With `decay` 0 there is no average: everything below speaks of the tensors themselves.
    """

    def __init__(self, live: dict[str, Tensor], decay: float):
        self.live = {name: tensor.detach() for name, tensor in live.items()}
        self.decay = decay
        self.mean = {name: tensor.clone() for name, tensor in self.live.items() if decay and tensor.is_floating_point()}

    def update(self, updates: int) -> None:
        """Take in the tensors after so many updates. The first ones count for more: initial weights mean nothing."""
        if self.mean:
            decay = min(self.decay, (1 + updates) / (10 + updates))
            get_ema_multi_avg_fn(decay)(list(self.mean.values()), [self.live[name] for name in self.mean], None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages stand where the tensors themselves stood."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def weights(self) -> dict[str, Tensor]:
        """What is to be kept: the averages, and what has none."""
        return self.live | self.mean

    def load(self, mean: dict[str, Tensor]) -> None:
        """Go on with averages of an earlier run."""
        for name, tensor in mean.items():
            self.mean[name].copy_(tensor)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.mean.items():
            live = self.live[name]
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)
