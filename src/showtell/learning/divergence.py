"""Divergence: training with values that are not finite is stopped, with the place where they first occurred."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, distributed

from showtell.core.errors import UserError
from showtell.core.processes import world

EVERY = 50  # updates between checks: each check waits for the device
NEVER = 2**62  # more updates than any training has
WATCHED = ("a feature of an image", "the loss", "the gradient norm")


class Watch:
    """The first update in which a value was not finite: recorded on the device, checked every `EVERY` updates.

    `stage` and `remedy` are for the message: which stage trains, and which settings to change.
    """

    def __init__(self, stage: str, remedy: str, device: torch.device):
        self.stage, self.remedy = stage, remedy
        self._first = torch.full((len(WATCHED),), NEVER, dtype=torch.int64, device=device)

    def note(self, update: int, images: Sequence[Tensor], loss: Tensor, gradients: Tensor | None) -> None:
        """Record update `update` of the epoch: its images or features, its loss, the norm of its gradients."""
        none = torch.zeros_like(loss)
        given = sum((part.sum(dtype=torch.float32) for part in images if part.is_floating_point()), none)
        values = torch.stack([given, loss, gradients if gradients is not None else none])
        self._first = torch.where(values.isfinite(), NEVER, update).minimum(self._first)

    def look(self, epoch: int, updates: int) -> None:
        """`UserError` if a recorded value was not finite, in any process. All processes check at the same update."""
        if world() > 1:
            distributed.all_reduce(self._first, distributed.ReduceOp.MIN)
        first = self._first.tolist()
        if min(first) < NEVER:
            what, update = WATCHED[first.index(min(first))], min(first)  # the earliest
            self._refuse(f"{what} in epoch {epoch}, update {update} of {updates},", features=what == WATCHED[0])

    def weights(self, epoch: int, tensors: Mapping[str, Tensor]) -> None:
        """`UserError` if a weight or running statistic is not finite after an epoch."""
        floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        if not floats:
            return
        finite = torch.stack([tensor.isfinite().all() for tensor in floats.values()])
        if not finite.all():
            name = list(floats)[int(finite.logical_not().nonzero()[0])]
            self._refuse(f"{name} after epoch {epoch}")

    def row(self, row: Mapping[str, float]) -> None:
        """`UserError` if a metric of an epoch is not finite."""
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                self._refuse(f"{name} of epoch {row['epoch']}")

    def _refuse(self, what: str, features: bool = False) -> None:
        remedy = "run `dvc repro -f features`" if features else f"training has diverged; {self.remedy}"
        raise UserError(f"{self.stage}: {what} is not finite (nan or inf): {remedy}")
