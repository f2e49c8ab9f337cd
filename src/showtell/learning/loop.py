"""The training loop: learning-rate schedule, early stopping, and resuming after a kill. Independent of captions.

Every epoch has a seed of its own, so it is a function of (seed, epoch) and of the weights and optimiser state that it
starts with. No random state has to be saved, and a resumed run gives the same result as one that was not interrupted.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from showtell.core.params import Section, fits_choice
from showtell.core.precision import Precision, device
from showtell.core.processes import broadcast, is_main, rank
from showtell.core.progress import log, track
from showtell.data.batches import Batch
from showtell.learning.averaging import MovingAverage
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.divergence import EVERY, Watch
from showtell.learning.parallel import AnyBatch, Parallel, average_statistics, own_share, summed
from showtell.learning.selection import Row, fallback, standing

if TYPE_CHECKING:
    from showtell.data.drawn_scenes import LabelledBatch


class LoopParams(Section):
    """Parameters of every training: epochs, batch size, learning rate, precision."""

    model_config = ConfigDict(validate_default=True)  # keys that are left out are checked against the choices as well

    seed: int = Field(ge=0, lt=2**32, description="of initial weights, order and dropout")
    epochs: int = Field(ge=0, le=100_000, description="passes over the training images at most; 0: nothing is learnt")
    images_per_update: int = Field(ge=1, le=100_000, description="images in one update, each with its captions")
    accumulate: int = Field(ge=1, le=10_000, description="parts of an update, one after another: less memory")
    learning_rate: float = Field(gt=0, lt=1, description="at its highest; fine-tuning has another for the encoder")
    optimizer: Literal["adam", "adamw"] = Field(description="optimiser")
    weight_decay: float = Field(ge=0, lt=1, description="decoupled weight decay (adamw), L2 (adam)")
    schedule: Literal["plateau", "step", "cosine"] = Field(description="x decay when stuck | regularly | a cosine")
    warmup_updates: int = Field(ge=0, description="updates over which the learning rate rises from 0")
    decay: float | None = Field(None, gt=0, le=1, description="plateau, step: factor on the learning rate")
    patience: int | None = Field(None, ge=1, description="plateau: epochs without improvement before the factor")
    step_epochs: int | None = Field(None, ge=1, description="step: epochs between factors")
    cosine_end: float | None = Field(None, ge=0, le=1, description="cosine: share of the learning rate at the end")
    stop_after: int = Field(ge=1, description="epochs without improvement before training stops")
    clip: Literal["none", "value", "norm"] = Field(description="how gradients are clipped")
    clip_at: float | None = Field(None, gt=0, description="value, norm: largest gradient value or norm")
    ema: float = Field(ge=0, lt=1, description="decay of the moving average of weights that is validated and kept")
    precision: Precision = Field(description="arithmetic of training")

    @field_validator("decay", "patience", "step_epochs", "cosine_end", "clip_at")
    @classmethod
    def _fits_choice(cls, value: float | None, info: ValidationInfo) -> float | None:
        key, choices = _USED_BY[str(info.field_name)]
        return fits_choice(value, info, key, choices)


# Keys that only some choices use, and those choices.
_USED_BY = {
    "decay": ("schedule", ("plateau", "step")),
    "patience": ("schedule", ("plateau",)),
    "step_epochs": ("schedule", ("step",)),
    "cosine_end": ("schedule", ("cosine",)),
    "clip_at": ("clip", ("value", "norm")),
}


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


@dataclass
class TrainingProgress:
    """Progress of a training at the end of an epoch."""

    epoch: int = 0  # epochs done
    update: int = 0  # updates done
    best: tuple[float, float] | None = None  # `standing` of the best epoch
    since_best: int = 0  # epochs since the best
    decays: int = 0  # times the plateau has lowered the learning rate


def fit(
    task: TrainingTask[AnyBatch],
    epoch_batches: Callable[[int], Iterable[AnyBatch]],
    validate: Callable[[], dict[str, float]],
    params: LoopParams,
    select: str,
    checkpoints: Checkpoints,
    judge_first: bool = False,
) -> list[dict[str, float]]:
    """Train until `epochs` or early stop, load the best epoch's weights into `task`, and return a row for each epoch.

    With `judge_first` the task is validated before training, as epoch 0, which is kept if no later epoch is better.

    `epoch_batches(epoch)` gives the batches (and has a length), `validate()` the metrics of the task in its present
    state; the epoch with the greatest `select` is the best (`selection.py` decides between equal ones).
    """
    training, history = _Training(task, params, checkpoints.stage), []
    state = broadcast(checkpoints.latest)
    if state is not None:
        training.load_state_dict(state)
        history = state["history"]
        log(f"going on after epoch {training.progress.epoch}")
    progress = training.progress
    if judge_first and not history:
        history.append(training.judged_first(validate, select, checkpoints))
    while progress.epoch < params.epochs and progress.since_best < params.stop_after:
        started = time.perf_counter()
        torch.manual_seed(params.seed * 1_000_003 + progress.epoch + rank() * 2**32)
        task.begin_epoch(progress.epoch + 1)
        loss = training.epoch(epoch_batches(progress.epoch))
        with training.average.in_place():
            row = {"epoch": progress.epoch + 1, "loss": loss, **validate()}
        training.watch.row(row)
        improved = _count_epoch(progress, standing(row, select), params)
        history.append(row)
        log(_line(row, params, time.perf_counter() - started, improved))
        training.save(checkpoints, history, improved)
    if told := fallback(history, select):
        log(told)
    if history:
        task.load_state_dict(broadcast(checkpoints.best), strict=False)
    return history


def seed_weights(seed: int) -> None:
    """Seed the generator from which the initial weights of modules built next are drawn."""
    torch.manual_seed(seed)


class _Training:
    """The state that updates change (weights, optimiser, average, progress), and the pass over an epoch."""

    def __init__(self, task: TrainingTask, params: LoopParams, stage: str):
        self.task, self.params, self.progress = task, params, TrainingProgress()
        self.optimizer, self.scaler = build_optimizer(task, params), build_scaler(params)
        self.watch = Watch(stage, _remedy(self.optimizer, params), device())
        self.average = MovingAverage(task.weights(), params.ema)

    def judged_first(self, validate: Callable[[], dict[str, float]], select: str, checkpoints: Checkpoints) -> Row:
        """The row of the task before training, which is the best so far."""
        row = {"epoch": 0, **validate()}
        self.watch.row(row)
        self.progress.best = standing(row, select)
        log("before  " + _numbers(row))
        self.save(checkpoints, [row], best=True)
        return row

    def save(self, checkpoints: Checkpoints, history: list[Row], best: bool) -> None:
        """Save the end of an epoch."""
        if is_main():
            checkpoints.save(self.state_dict() | {"history": history}, self.average.weights(), best)

    def state_dict(self) -> dict[str, Any]:
        return {
            "progress": vars(self.progress),
            "weights": self.average.live,
            "average": self.average.mean,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.progress = TrainingProgress(**state["progress"])
        self.task.load_state_dict(state["weights"], strict=False)
        self.average.load(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def epoch(self, batches: Any) -> float:
        """One pass over the batches; returns the mean loss of its updates, summed on the device to avoid waiting for
        it.

        `UserError` when a value is not finite.
        """
        task, params, progress = self.task, self.params, self.progress
        parallel = Parallel(task)  # built anew: other parameters may be trainable than before
        task.train()
        where, total, updates = device(), torch.zeros((), device=device()), len(batches)
        for number, batch in enumerate(track(batches, f"epoch {progress.epoch + 1}", total=updates), start=1):
            scale = rate_scale(progress, params, updates * params.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = group["highest"] * scale
            self.optimizer.zero_grad(set_to_none=True)
            whole = Counts.of(batch)
            mine = [part.to(where) for part in parts(own_share(batch), params.accumulate)]
            total += (loss := parallel.backward(mine, whole, self.scaler.scale))
            self.scaler.unscale_(self.optimizer)
            norm = _clip_gradients(task, params)
            # The scaler skips updates whose fp16 gradients overflow, and lowers its scale.
            self.watch.note(number, [p.images for p in mine], loss, None if self.scaler.is_enabled() else norm)
            if number % EVERY == 0 or number == updates:
                self.watch.look(progress.epoch + 1, updates)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            progress.update += 1
            self.average.update(progress.update)
        average_statistics(task, self.average.mean)
        self.watch.weights(progress.epoch + 1, self.average.weights())
        return float(summed(total)) / updates


def parts(batch: AnyBatch, count: int) -> list[AnyBatch]:
    """The images of `batch` divided into `count` batches; each keeps their order, long captions first."""
    count = min(count, len(batch.images))
    return [batch.images_at(slice(start, None, count)) for start in range(count)] if count > 1 else [batch]


def _count_epoch(progress: TrainingProgress, value: tuple[float, float], params: LoopParams) -> bool:
    """Count the epoch; True when its `standing` is the best so far."""
    improved = progress.best is None or value > tuple(progress.best)
    progress.epoch += 1
    progress.best = value if improved else progress.best
    progress.since_best = 0 if improved else progress.since_best + 1
    if params.patience is not None and progress.since_best and progress.since_best % params.patience == 0:
        progress.decays += 1
    return improved


def _line(row: dict[str, float], params: LoopParams, seconds: float, improved: bool) -> str:
    return f"epoch {row['epoch']:>3}/{params.epochs}  {_numbers(row)}  {seconds:.1f} s{'  best' if improved else ''}"


def _numbers(row: Row) -> str:
    return "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "epoch")


def rate_scale(progress: TrainingProgress, params: LoopParams, updates: int) -> float:
    """Factor on the highest learning rates at the present update, of `updates` in all."""
    rise = min(1.0, (progress.update + 1) / max(1, params.warmup_updates))
    if params.schedule == "plateau":
        assert params.decay is not None  # checked by LoopParams, here and below
        return rise * params.decay**progress.decays
    if params.schedule == "step":
        assert params.decay is not None and params.step_epochs is not None
        return rise * params.decay ** (progress.epoch // params.step_epochs)
    assert params.cosine_end is not None
    passed = max(0, progress.update - params.warmup_updates) / max(1, updates - params.warmup_updates)
    fall = 0.5 * (1 - math.cos(math.pi * min(1.0, passed)))
    return rise * (1 - (1 - params.cosine_end) * fall)


def build_optimizer(task: TrainingTask, params: LoopParams) -> torch.optim.Optimizer:
    """The task's groups, each with its highest learning rate under "highest".

    Fused: one call for all tensors, on processors and accelerators; the unfused optimiser takes ten calls for each.
    """
    groups = [
        {
            "params": group.parameters,
            "highest": group.rate,
            "weight_decay": params.weight_decay if group.decays else 0.0,
        }
        for group in task.groups()
    ]
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[params.optimizer]
    return optimizer(groups, lr=params.learning_rate, fused=True)


def build_scaler(params: LoopParams) -> torch.amp.GradScaler:
    """Loss scaling for fp16 gradients; disabled in other precisions."""
    return torch.amp.GradScaler(device().type, enabled=params.precision == "fp16")


def _clip_gradients(task: nn.Module, params: LoopParams) -> Tensor:
    """Clip the gradients and return their norm (with clip: value, the norm after clipping)."""
    learning = [p for p in task.parameters() if p.grad is not None]
    if params.clip == "value" and params.clip_at is not None:
        nn.utils.clip_grad_value_(learning, params.clip_at)
    norm = nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
    if params.clip == "norm" and params.clip_at is not None:
        nn.utils.clip_grads_with_norm_(learning, params.clip_at, norm)
    return norm


def _remedy(optimizer: torch.optim.Optimizer, params: LoopParams) -> str:
    """Settings to change when training diverges, with their present values."""
    rates = " and ".join(f"{rate:g}" for rate in sorted({group["highest"] for group in optimizer.param_groups}))
    clip = f"lower clip_at ({params.clip_at:g})" if params.clip == "norm" else f"set clip: norm ({params.clip})"
    precision = "" if params.precision == "fp32" else f", or set precision: fp32 ({params.precision})"
    return f"lower the learning rate ({rates}), raise warmup_updates ({params.warmup_updates}), {clip}{precision}"
