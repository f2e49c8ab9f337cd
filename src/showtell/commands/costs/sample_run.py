"""Runs stages on a sample, each in a process of its own, and measures them from inside."""

import os
import pkgutil
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial, wraps
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

import psutil
import torch

from showtell.core.errors import UserError
from showtell.core.files import read_json, write_json
from showtell.core.precision import accelerated

# What stages import that takes long, without modules that import what is measured below
IMPORTED = ("torch", "torchvision", "h5py", "showtell.learning.loop", "showtell.evaluation.judge")
FIT = "showtell.learning.loop.fit"
# Functions that work on images, and how many images a call takes, from its arguments
ENCODE: tuple[str, Callable[..., int]] = "showtell.encoders.features._encode", lambda encoder, images, rows: len(rows)
IMAGE_WORK = {
    "resize": ("showtell.data.resizing.one", lambda *_: 1),
    "features": ENCODE,
    "reinforce": ENCODE,
}
# Parts of stages, and what their time grows with
PARTS = {
    "evaluate": {
        "showtell.evaluation.remember.Memory.of": "train",
        "showtell.evaluation.judge.sweep": "val",
        "showtell.evaluation.judge.evaluate": "test",
        "showtell.metrics.protocol.run_meteor": "meteor",  # most of it is the start of Java
        "showtell.evaluation.attention_pictures.write_attention": "pictures",
        "showtell.evaluation.report.evaluated.report_evaluation": "test",
    },
}


@dataclass
class Times:
    """Seconds of a stage's run; `parts` without the parts that they call."""

    whole: float = 0.0
    processor: float = 0.0  # of its process alone, on all cores
    updates: list[list[float]] = field(default_factory=list)  # of each epoch
    validations: list[float] = field(default_factory=list)
    images: list[tuple[float, int]] = field(default_factory=list)  # of each call that works on images, and how many
    parts: dict[str, float] = field(default_factory=dict)

    def timed_fit(self, fit: Callable[..., Any]) -> Callable[..., Any]:
        """`fit` with the times of its updates and validations noted."""

        def timed(task: Any, epoch_batches: Callable, validate: Callable, *args: Any, **options: Any) -> Any:
            def batches(epoch: int) -> TimedBatches:
                self.updates.append([])
                return TimedBatches(epoch_batches(epoch), self.updates[-1])

            def validated() -> Any:
                started = _now()
                scores = validate()
                self.validations.append(_now() - started)
                return scores

            return fit(task, batches, validated, *args, **options)

        return timed

    def timed_images(self, count: Callable[..., int], function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with the time of each call noted, and the number of images that `count` finds in its arguments."""

        @wraps(function)
        def timed(*args: Any) -> Any:
            started = _now()
            result = function(*args)
            self.images.append((_now() - started, count(*args)))
            return result

        return timed

    def timed_part(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time added to that of `part`."""

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            started, inner = _now(), sum(self.parts.values())
            try:
                return function(*args, **options)
            finally:
                own = _now() - started - (sum(self.parts.values()) - inner)
                self.parts[part] = self.parts.get(part, 0.0) + own

        return timed


@dataclass(frozen=True)
class TimedBatches:
    """Batches; `seconds` gets the time from asking for a batch to asking for the next one."""

    batches: Any
    seconds: list[float]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        started = _now()
        for batch in self.batches:
            yield batch
            self.seconds.append(_now() - started)
            started = _now()


def _now() -> float:
    """Seconds, when all work queued on an accelerator is done."""
    if accelerated():
        torch.accelerator.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Ran:
    """Measurements of a stage's run on a sample."""

    times: Times
    memory: int  # peak of all its processes together, bytes


class Stages:
    """Runs stages one after the other, each in a process that finds torch and the package imported already.

    A stage that DVC runs imports them itself: `start` is what that takes, measured once.
    """

    def __init__(self) -> None:
        forks = "forkserver" in get_all_start_methods()
        self._context: ForkServerContext | SpawnContext = get_context("forkserver") if forks else get_context("spawn")
        self.start = 0.0  # a spawned process imports them itself
        if forks:
            self._context.set_forkserver_preload(list(IMPORTED))
            started = time.perf_counter()
            first = self._context.Process(target=_nothing)  # it waits for the server, which imports
            first.start()
            first.join()
            self.start = time.perf_counter() - started

    def run(self, name: str, folder: Path, one_core: bool = False) -> Ran:
        """Run a stage's script in `folder`; `UserError` with its last line when it fails.

        On `one_core` it starts no workers, which would take longer than the work on few images.
        """
        script, folder = Path("stages").absolute() / f"{name}.py", folder.absolute()
        log, noted = folder / f"{name}.log", folder / f"{name}.times.json"
        stage = self._context.Process(target=_run_script, args=(script, folder, log, noted, one_core))
        memory = 0
        stage.start()
        assert stage.pid is not None  # it has started
        try:
            while stage.is_alive():
                memory = max(memory, _memory(stage.pid))
                stage.join(0.05)
        finally:
            stage.kill()  # where it goes on, this process has been told to end
            stage.join()
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        if stage.exitcode:
            raise UserError(f"{name} on a sample: {(said.strip().splitlines() or ['it ended without a word'])[-1]}")
        times = Times(**read_json(noted))
        times.whole += self.start
        times.processor += self.start
        return Ran(times, memory)


def _run_script(script: Path, folder: Path, log: Path, noted: Path, one_core: bool) -> None:
    """In a process of its own: what `python script` does in `folder`, with its output in `log` and its `Times` in
    `noted`."""
    times, started = Times(), time.perf_counter()
    os.chdir(folder)
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if one_core:  # for `machine.cores`
        setattr(os, "sched_getaffinity", lambda pid: {0})  # noqa: B010  # not everywhere in os
    _replace(FIT, times.timed_fit)
    if script.stem in IMAGE_WORK:
        name, count = IMAGE_WORK[script.stem]
        _replace(name, partial(times.timed_images, count))
    for name, part in PARTS.get(script.stem, {}).items():
        _replace(name, partial(times.timed_part, part))
    sys.argv = [str(script)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        times.whole, times.processor = time.perf_counter() - started, time.process_time()
        write_json(noted, asdict(times))


def _replace(name: str, replacement: Callable[[Callable], Callable]) -> None:
    """Replace a function, or a class's method, by what `replacement` makes of it, for modules that import it from now
    on."""
    owner, _, function = name.rpartition(".")
    place = pkgutil.resolve_name(owner)  # a module, or a class in one
    setattr(place, function, replacement(getattr(place, function)))


def _nothing() -> None:
    """What the first process does."""


def _memory(pid: int) -> int:
    """Resident memory of a process and its descendants, bytes."""
    total = 0
    with suppress(psutil.Error):  # a process has just ended
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    return total
