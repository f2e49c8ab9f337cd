"""Runs a stage as a process: one at a time in a folder, with a line at its end that states its result."""

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from showtell.core import errors, paths
from showtell.core.files import sweep
from showtell.core.progress import log
from showtell.core.terminal import one_line
from showtell.core.workplace import held


def run_stage(main: Callable[[], str | None]) -> None:
    """Run a stage and exit with its status. `main` returns a description of its result, for the last line."""
    errors.run(lambda: as_stage(main))


@contextmanager
def naming_memory(stage: str, remedy: str) -> Iterator[None]:
    """Turn running out of memory in `stage` into a `UserError` that says what to lower: `remedy`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not errors.lacks_memory(error):
            raise
        raise errors.UserError(f"{stage}: out of memory ({one_line(error)}); {remedy or errors.LESS_MEMORY}") from None


def as_stage(main: Callable[[], str | None], work: Callable[[], str | None] | None = None) -> None:
    """Run `main`, or `work` in its place, as the stage whose script defines `main`; then log its result and time."""
    name, started = Path(inspect.getfile(main)).stem, time.perf_counter()
    with held(name):
        for folder in (paths.DATA, paths.METRICS):
            sweep(folder)
        made = (work or main)()
    if made is not None:
        line, *more = made.split("\n")
        log("\n".join([f"{name}: {line} ({spent(time.perf_counter() - started)})", *more]))


def spent(seconds: float) -> str:
    """A duration for people: `8.3 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02} min" if hours else f"{minutes} min {rest:02} s"
