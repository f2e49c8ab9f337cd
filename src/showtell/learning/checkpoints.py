"""Training state that survives a kill: one file for the latest epoch, and the best weights so far in another.

The first names the second: weights of an epoch whose end was not saved any more do not count, since its repetition may
give others.

Each file ends with a SHA-256 of its content and of the workplace's name. A file damaged by a power cut or a full disk
is detected, which PyTorch's own format does not do, and so is one copied from another run; both count as missing.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from showtell.core.errors import UserError
from showtell.core.files import write_bytes
from showtell.core.progress import log
from showtell.core.workplace import Workplace

State = dict[str, Any]
DIGEST = hashlib.sha256().digest_size  # bytes


class Checkpoints:
    """Checkpoints in a workplace, whose name ties them to parameters, data and code."""

    def __init__(self, place: Workplace):
        self.stage = place.stage
        self._run = place.folder.name
        self._place, self._latest, self._best = place.folder, place / "latest.pt", place / "best.pt"

    def save(self, state: State, weights: State, best: bool) -> None:
        """Save the end of an epoch, of the number `state["progress"]["epoch"]`."""
        if best:
            self._best = self._place / f"best-{state['progress']['epoch']}.pt"
            _save(self._best, weights, self._run)
        _save(self._latest, state | {"best": self._best.name}, self._run)
        for old in self._place.glob("best-*.pt"):
            if old != self._best:
                old.unlink()

    def latest(self) -> State | None:
        """The state after the last saved epoch; None, with a log line, when it or the best weights are damaged or
        missing."""
        if not self._latest.exists():
            return None
        content = _intact(self._latest, self._run)
        state = None if content is None else _loaded(content)
        if state is not None:
            self._best = self._place / state["best"]
        if state is None or _intact(self._best, self._run) is None:
            damaged = self._latest if state is None else self._best
            log(f"{damaged} is damaged, missing or of another run: training starts from the beginning")
            return None
        return state

    def best(self) -> State:
        """The weights of the best epoch."""
        content = _intact(self._best, self._run)
        if content is None:
            raise UserError(f"{self._best} was damaged or removed while training went on; run the same command again")
        return _loaded(content)


def _save(path: Path, content: State, run: str) -> None:
    # Serialised in memory first: on a full disk PyTorch's writer raises an error that does not name the cause.
    file = io.BytesIO()
    torch.save(content, file)
    file.write(_digest(file.getbuffer(), run))
    write_bytes(path, file.getbuffer())


def _digest(content: memoryview, run: str) -> bytes:
    digest = hashlib.sha256(run.encode())
    digest.update(content)
    return digest.digest()


def _intact(path: Path, run: str) -> bytes | None:
    """The content that `_save` wrote to `path` in the same run; None when it is damaged or missing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = _digest(memoryview(content)[:-DIGEST], run) == content[-DIGEST:]
    return content[:-DIGEST] if whole else None


def _loaded(content: bytes) -> State:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
