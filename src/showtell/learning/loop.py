"""The training loop: epochs, early stopping, and resuming after a kill. Independent of captions.

Every epoch has a seed of its own, so it is a function of (seed, epoch) and of the weights and optimiser state that it
starts with. No random state has to be saved, and a resumed run gives the same result as one that was not interrupted.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from showtell.core.precision import device
from showtell.core.processes import broadcast, is_main, rank, world
from showtell.core.progress import log, track
from showtell.learning.averaging import MovingAverage
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.divergence import EVERY, Watch
from showtell.learning.optimisation import (
    SEEDS,
    LoopParams,
    TrainingProgress,
    build_optimizer,
    build_scaler,
    clip_gradients,
    rate_scale,
    remedy,
)
from showtell.learning.parallel import AnyBatch, Parallel, average_statistics, own_share, summed
from showtell.learning.selection import Row, fallback, standing
from showtell.learning.training_task import Counts, TrainingTask


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
        if state["processes"] != world():
            log(f"{state['processes']} processes began and {world()} go on: the result is that of neither number")
    progress = training.progress
    if judge_first and not history:
        history.append(training.judged_first(validate, select, checkpoints))
    while progress.epoch < params.epochs and progress.since_best < params.stop_after:
        started = time.perf_counter()
        torch.manual_seed(params.seed * SEEDS + progress.epoch + rank() * 2**32)
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
        self.watch = Watch(stage, remedy(self.optimizer, params), device())
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
            "processes": world(),
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
        if not progress.update and updates * params.epochs <= params.warmup_updates:
            log(f"the learning rate rises for {params.warmup_updates} updates, and there are {updates * params.epochs}")
        for number, batch in enumerate(track(batches, f"epoch {progress.epoch + 1}", total=updates), start=1):
            scale = rate_scale(progress, params, updates * params.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = group["highest"] * scale
            self.optimizer.zero_grad(set_to_none=True)
            whole = Counts.of(batch)
            mine = [part.to(where) for part in parts(own_share(batch), params.accumulate)]
            total += (loss := parallel.backward(mine, whole, self.scaler.scale))
            self.scaler.unscale_(self.optimizer)
            norm = clip_gradients(task, params)
            # The scaler skips updates whose fp16 gradients overflow, and halves its scale: at 1 it is not the cause.
            scaled = self.scaler.is_enabled() and self.scaler.get_scale() > 1
            self.watch.note(number, [p.images for p in mine], loss, None if scaled else norm)
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
