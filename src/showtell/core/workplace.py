"""A stage's private folder: what must survive a kill lives here, outside DVC's outputs, until the stage is done.

DVC deletes a stage's outputs before it runs the stage, so unfinished downloads, half-filled stores and training state
cannot live there. A workplace is named after everything that decides the result (parameters, inputs and code): another
parameter, another folder, and state that belongs to something else can never be picked up by mistake.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from showtell.core.code import code_fingerprint
from showtell.core.errors import UserError
from showtell.core.files import fingerprint
from showtell.core.progress import log

ROOT = Path("work")


class Workplace:
    """`work/<stage>-<fingerprint of parameters and inputs>-<fingerprint of code>/`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def stage(self) -> str:
        return self.folder.name.partition("-")[0]

    def finish(self) -> None:
        """The stage's outputs are in place: nothing here is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def held(stage: str) -> Iterator[None]:
    """Hold `stage` in this folder: two runs would write the same outputs, whatever their parameters.

    Stopping the pipeline can leave a stage running behind it, and the next run would start its twin: the lock makes
    the twin say so and stop. The kernel drops the lock with its process, however that ends. A process that holds the
    stage already may hold it again.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    holder = ROOT / f"{stage}.pid"  # not in the lock's own file: older versions of filelock empty that
    lock = FileLock(ROOT.resolve() / f"{stage}.lock", is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            process = holder.read_text()
        except OSError:  # it has only just begun
            process = "unknown"
        raise UserError(
            f"stage {stage} is already running here (process {process} holds {ROOT / stage}.lock); "
            f"wait for it, or stop it with `kill {process}`"
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        if lock.lock_counter == 1:
            holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def workplace(script: Path | str, *identity: Any) -> Iterator[Workplace]:
    """Hold the workplace of the stage that `script` is, for this `identity`: parameter sections, hashes of inputs.

    What the same stage has left for the same identity, with other code, is thrown away.
    """
    stage = Path(script).stem
    with held(stage):
        name = f"{stage}-{fingerprint(*identity)}"
        folder = ROOT / f"{name}-{code_fingerprint(Path(script))}"
        for old in sorted(ROOT.glob(f"{name}-*")):
            if old != folder:
                log(f"{stage}: the code has changed since {old} was begun; that unfinished work is thrown away")
                shutil.rmtree(old)
        folder.mkdir(exist_ok=True)
        yield Workplace(folder)
