"""One update by several processes with PyTorch's DistributedDataParallel: each process has a share of the images."""

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
    from showtell.learning.training_task import Counts, TrainingTask

AnyBatch = TypeVar("AnyBatch", Batch, "LabelledBatch")  # batches of a task


class _Loss(nn.Module):
    """A module whose forward is the loss, as DDP requires."""

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
            # Running statistics are averaged at the end of an epoch; broadcasting buffers with each update would undo
            # that.
            known = inspect.signature(DistributedDataParallel.__init__).parameters
            name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
            others: dict[str, Any] = {name: False}
            self.loss = DistributedDataParallel(self.loss, gradient_as_bucket_view=True, **others)

    def backward(self, parts: Sequence[AnyBatch], whole: "Counts", scale: Callable[[Tensor], Tensor]) -> Tensor:
        """Accumulate the gradients of this process's parts, all-reduce them with the last, and return the sum of its
        losses."""
        total = torch.zeros((), device=parts[0].images.device)
        for number, part in enumerate(parts, start=1):
            more = number < len(parts)
            with self.loss.no_sync() if isinstance(self.loss, DistributedDataParallel) and more else nullcontext():
                loss = self.loss(part, whole)
                scale(loss * world()).backward()  # DDP divides by the number of processes
            total += loss.detach()
        return total


def own_share(batch: AnyBatch) -> AnyBatch:
    """This process's images of an update, every `world`-th. A process without any gets one that is fully masked."""
    if world() == 1:
        return batch
    if len(batch.images) > rank():
        return batch.images_at(slice(rank(), None, world()))
    one = batch.images_at(slice(1))
    return one._replace(mask=torch.zeros_like(one.mask))


def summed(value: Tensor) -> Tensor:
    """The sum of `value` over all processes."""
    if world() > 1:
        distributed.all_reduce(value)
    return value


def average_statistics(task: nn.Module, averages: dict[str, Tensor]) -> None:
    """Replace batch-norm statistics, which differ between processes, by their mean over the processes.

    `averages` holds moving averages by tensor name; those of statistics are treated likewise.
    """
    if world() == 1:
        return
    statistics = {name: buffer for name, buffer in task.named_buffers() if buffer.is_floating_point()}
    for tensor in [*statistics.values(), *(averages[name] for name in statistics if name in averages)]:
        total = tensor.double()  # in which the mean of equal values is that value, so that what is frozen stays
        distributed.all_reduce(total)
        tensor.copy_(total / world())
