"""One update by several processes, PyTorch's DistributedDataParallel: each has a share of its images."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from showtell.core.processes import rank, world
from showtell.data.batches import Batch

if TYPE_CHECKING:
    from showtell.data.drawn_scenes import LabelledBatch
    from showtell.learning.loop import Counts, TrainingTask

AnyBatch = TypeVar("AnyBatch", Batch, "LabelledBatch")  # what a task learns from


class _Loss(nn.Module):
    """DDP wants a module whose call is the loss."""

    def __init__(self, task: "TrainingTask"):
        super().__init__()
        self.task = task

    def forward(self, part: AnyBatch, whole: "Counts") -> Tensor:
        return self.task.loss(part, whole)


class Parallel:
    """The backward passes of an update. Losses are means over the whole update, so gradients are summed."""

    def __init__(self, task: "TrainingTask"):
        self.loss: _Loss | DistributedDataParallel = _Loss(task)
        if world() > 1:
            # Statistics are averaged at the end of an epoch; sending them around with each update would undo that.
            known = inspect.signature(DistributedDataParallel.__init__).parameters
            name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
            others: dict[str, Any] = {name: False}
            self.loss = DistributedDataParallel(self.loss, gradient_as_bucket_view=True, **others)

    def backward(self, parts: Sequence[AnyBatch], whole: "Counts", scale: Callable[[Tensor], Tensor]) -> Tensor:
        """Add this process's parts' gradients, exchange them with the last, and return the sum of its losses."""
        total = torch.zeros((), device=parts[0].images.device)
        for number, part in enumerate(parts, start=1):
            more = number < len(parts)
            with self.loss.no_sync() if isinstance(self.loss, DistributedDataParallel) and more else nullcontext():
                loss = self.loss(part, whole)
                scale(loss * world()).backward()  # DDP divides by the number of processes
            total += loss.detach()
        return total


def own_share(batch: AnyBatch) -> AnyBatch:
    """This process's images of an update, every `world`-th. Without any it gets one that counts for nothing."""
    if world() == 1:
        return batch
    if len(batch.images) > rank():
        return batch.images_at(slice(rank(), None, world()))
    one = batch.images_at(slice(1))
    return one._replace(mask=torch.zeros_like(one.mask))


def summed(value: Tensor) -> Tensor:
    """The sum of all processes' values."""
    if world() > 1:
        distributed.all_reduce(value)
    return value


def average_statistics(task: nn.Module, averages: dict[str, Tensor]) -> None:
    """Batch norm has seen other images in each process: go on with the mean of what they saw.

    `averages`, of what learns and by its name: those of statistics likewise.
    """
    if world() == 1:
        return
    statistics = {name: buffer for name, buffer in task.named_buffers() if buffer.is_floating_point()}
    for tensor in [*statistics.values(), *(averages[name] for name in statistics if name in averages)]:
        distributed.all_reduce(tensor)
        tensor /= world()
