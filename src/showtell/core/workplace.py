"""A stage's working folder: state that must survive a kill is kept here, outside DVC's outputs, until the stage ends.

DVC deletes a stage's outputs before it runs the stage, so unfinished downloads, half-filled stores and training state
cannot be kept there. A workplace is named after everything that determines the result (parameters, inputs and code).
Other parameters give another folder, so a stage never resumes from state that was made with others.
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
        """Remove the folder: the stage's outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def held(stage: str) -> Iterator[None]:
    """Hold the lock of `stage` in this folder: two runs would write the same outputs, whatever their parameters.

    Stopping the pipeline can leave a stage running, and the next `dvc repro` would start it a second time. The lock
    makes the second one stop with an error. The kernel releases the lock when its process ends, however that happens.
    A process that holds the lock may take it again.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    holder = ROOT / f"{stage}.pid"  # not in the lock file itself: older versions of filelock truncate that
    lock = FileLock(ROOT.resolve() / f"{stage}.lock", is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            process = holder.read_text()
        except OSError:  # the holder has not written it yet
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
    """The locked workplace of the stage `script`, for this `identity`: parameter sections, hashes of inputs.

    State that the same stage left for the same identity with other code is deleted.
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
