"""How to choose what is said next among everything that may be: one function for each way to generate.

An image's beams come in `groups` that are chosen one after the other, each of `width` beams; a plain beam search has
one group. A new way to choose is a class here and a line in `choice_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from showtell.generation.search_params import SearchParams


@dataclass(frozen=True)
class Hypothesis:
    """One generated sequence. `tokens` without start and end; `logprob` includes the end's when `finished`."""

    tokens: list[int]
    logprob: float
    score: float
    finished: bool


class Choice(Protocol):
    """A way to choose."""

    groups: int
    width: int

    def __call__(self, totals: Tensor, logprobs: Tensor) -> Tensor:
        """Which continuations are kept: places in `totals`, the preferred first, (image, group, at most width).

        `totals` (image, group, beam x word): log probability of each continuation, what was said before included;
        `logprobs` (image, group, beam, word): of its last word alone. -inf: must not be chosen.
        """
        ...

    def merged(self, groups: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        """One image's hypotheses, best first, from those of each group, best first."""
        ...

    def keep_images(self, images: Tensor) -> "Choice":
        """The choice for these images alone (indices)."""
        ...


class Beam:
    """The `width` likeliest continuations of all beams together; width 1 is greedy."""

    groups = 1

    def __init__(self, width: int):
        self.width = width

    def __call__(self, totals: Tensor, logprobs: Tensor) -> Tensor:
        return totals.topk(min(self.width, totals.shape[2]), dim=2).indices

    def merged(self, groups: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        return groups[0]

    def keep_images(self, images: Tensor) -> "Beam":
        return self


def choice_of(search: SearchParams) -> Choice:
    """The way to choose that `search` asks for."""
    return Beam(search.beam)
