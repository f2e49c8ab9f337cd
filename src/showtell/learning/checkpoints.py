"""Training state that survives a kill: one file for the latest epoch, one for the best weights so far.

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
        self._latest, self._best = place / "latest.pt", place / "best.pt"

    def save(self, state: State, weights: State, best: bool) -> None:
        """Save the end of an epoch. After a kill in between, the epoch is repeated and writes the same files again."""
        if best:
            _save(self._best, weights, self._run)
        _save(self._latest, state, self._run)

    def latest(self) -> State | None:
        """The state after the last saved epoch; None, with a log line, when it or the best weights are damaged or
        missing."""
        if not self._latest.exists():
            return None
        for path in (self._best, self._latest):
            content = _intact(path, self._run)
            if content is None:
                log(f"{path} is damaged, missing or of another run: training starts from the beginning")
                return None
        assert content is not None  # the content of the latest, which was read last
        return _loaded(content)

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
