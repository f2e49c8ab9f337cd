"""The interface of what the training loop trains: loss, parameter groups, weights. Independent of captions."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from showtell.core.precision import device
from showtell.core.processes import all_gather
from showtell.data.batches import Batch, Images, every_image
from showtell.learning.parallel import AnyBatch

if TYPE_CHECKING:
    from showtell.data.drawn_scenes import LabelledBatch

T = TypeVar("T")


class Counts(NamedTuple):
    """The numbers of images, captions and positions that an update's losses are means over."""

    images: int
    captions: int
    positions: int

    @classmethod
    def of(cls, batch: "Batch | LabelledBatch") -> "Counts":
        return cls(len(batch.mask), int(batch.mask.any(dim=2).sum()), int(batch.mask.sum()))


class ParameterGroup(NamedTuple):
    """Parameters with the same learning rate and weight decay."""

    parameters: list[nn.Parameter]
    rate: float  # the highest learning rate
    decays: bool = True  # False: no weight decay

    @classmethod
    def of(cls, module: nn.Module, rate: float, without_decay: Iterable[nn.Parameter] = ()) -> "list[ParameterGroup]":
        """The trainable parameters of `module`; those in `without_decay`, if any, in a group of their own."""
        apart = {id(parameter) for parameter in without_decay}
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        decaying = [parameter for parameter in learning if id(parameter) not in apart]
        others = [parameter for parameter in learning if id(parameter) in apart]
        return [cls(decaying, rate), *([cls(others, rate, decays=False)] if others else [])]


class TrainingTask(nn.Module, Generic[AnyBatch]):
    """A module that `fit` trains: its loss and its parameter groups."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before each epoch; epochs count from 1."""

    def loss(self, batch: AnyBatch, whole: Counts | None = None) -> Tensor:
        """The loss of a batch, or of its part in an update of `whole`: the losses of the parts add up to the
        update's."""
        raise NotImplementedError

    def groups(self) -> list[ParameterGroup]:
        """The trainable parameters, each in one group."""
        raise NotImplementedError

    def weights(self) -> dict[str, Tensor]:
        """The trainable tensors and their running statistics, a part of the state dict."""
        raise NotImplementedError

    @torch.inference_mode()
    def measure(self, dataset: Images, of_batch: Callable[[AnyBatch], T], at_once: int = 64) -> list[T]:
        """`of_batch` of every batch of `dataset`, in eval mode: the results of all processes, in order.

        `at_once`: images per batch; bounds memory.
        """
        self.eval()
        return all_gather([of_batch(batch.to(device())) for batch in every_image(dataset, at_once)])
