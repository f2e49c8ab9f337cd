"""A stage's private folder: what must survive a kill lives here, outside DVC's outputs, until the stage is done.

DVC deletes a stage's outputs before it runs the stage, so unfinished downloads, half-filled stores and training state
cannot live there. A workplace is named after everything that decides the result (parameters and inputs): another
parameter, another folder, and state that belongs to something else can never be picked up by mistake.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from showtell.core.errors import UserError
from showtell.core.files import fingerprint

ROOT = Path("work")


class Workplace:
    """`work/<stage>-<fingerprint>/`, held by one process at a time."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def finish(self) -> None:
        """The stage's outputs are in place: nothing here is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def workplace(stage: str, *identity: Any) -> Iterator[Workplace]:
    """Hold the workplace of `stage` for this `identity` (parameter sections and hashes of the inputs).

    Stopping the pipeline can leave a stage running behind it, and the next run would start its twin: the lock makes
    the twin say so and stop. The kernel drops the lock with its process, however that ends.
    """
    folder = ROOT / f"{stage}-{fingerprint(*identity)}"
    folder.mkdir(parents=True, exist_ok=True)
    lock_path = ROOT / f"{folder.name}.lock"
    with open(lock_path, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UserError(
                f"stage {stage} is already running here (process {holder} holds {lock_path}); "
                f"wait for it, or stop it with `kill {holder}`"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        place = Workplace(folder)
        yield place
        if not folder.exists():
            lock_path.unlink(missing_ok=True)
