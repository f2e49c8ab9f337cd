"""Training state that survives a kill: one file for the latest epoch, one for the best weights so far.

Each file ends with the SHA-256 of its content. A file damaged by a power cut or a full disk is detected, which
PyTorch's own format does not do, and counts as missing.
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
        self._latest, self._best = place / "latest.pt", place / "best.pt"

    def save(self, state: State, weights: State, best: bool) -> None:
        """Save the end of an epoch. After a kill in between, the epoch is repeated and writes the same files again."""
        if best:
            _save(self._best, weights)
        _save(self._latest, state)

    def latest(self) -> State | None:
        """The state after the last saved epoch; None, with a log line, when it or the best weights are damaged or
        missing."""
        if not self._latest.exists():
            return None
        for path in (self._best, self._latest):
            content = _intact(path)
            if content is None:
                log(f"{path} is damaged or missing: training starts from the beginning")
                return None
        assert content is not None  # the content of the latest, which was read last
        return _loaded(content)

    def best(self) -> State:
        """The weights of the best epoch."""
        content = _intact(self._best)
        if content is None:
            raise UserError(f"{self._best} was damaged or removed while training went on; run the same command again")
        return _loaded(content)


def _save(path: Path, content: State) -> None:
    # Serialised in memory first: on a full disk PyTorch's writer raises an error that does not name the cause.
    file = io.BytesIO()
    torch.save(content, file)
    file.write(hashlib.sha256(file.getbuffer()).digest())
    write_bytes(path, file.getbuffer())


def _intact(path: Path) -> bytes | None:
    """The content that `_save` wrote to `path`; None when it is damaged or missing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = hashlib.sha256(memoryview(content)[:-DIGEST]).digest() == content[-DIGEST:]
    return content[:-DIGEST] if whole else None


def _loaded(content: bytes) -> State:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
