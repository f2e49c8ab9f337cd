"""Training state that survives a kill: one file for where training stands, one for the best weights so far."""

from pathlib import Path
from typing import Any

import torch

from showtell.core.files import atomic
from showtell.core.workplace import Workplace

State = dict[str, Any]


class Checkpoints:
    """Checkpoints in a workplace, whose name already ties them to parameters and data."""

    def __init__(self, place: Workplace):
        self._latest, self._best = place / "latest.pt", place / "best.pt"

    def save(self, state: State, weights: State, best: bool) -> None:
        """Record the end of an epoch. A kill in between repeats the epoch, which writes the same files again."""
        if best:
            _save(self._best, weights)
        _save(self._latest, state)

    def latest(self) -> State | None:
        return _load(self._latest) if self._latest.exists() else None

    def best(self) -> State:
        return _load(self._best)


def _save(path: Path, content: State) -> None:
    with atomic(path) as temporary:
        torch.save(content, temporary)


def _load(path: Path) -> State:
    return torch.load(path, map_location="cpu", weights_only=True)
