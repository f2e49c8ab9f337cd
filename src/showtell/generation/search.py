"""The search loop over a step function. Independent of images, networks and words.

Four more files: `search_params` (settings), `rules` (which words are allowed next), `choices` (how to choose among
them), `beams` (the state). Shapes: image = independent searches run side by side.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from showtell.generation.beams import Beams
from showtell.generation.choices import Hypothesis, choice_of
from showtell.generation.rules import Rule
from showtell.generation.search_params import SearchParams

# Finished searches are removed from the batch when they are at least this share of it: removing copies the rest.
DROP_AT = 0.25


class State(Protocol):
    """The step function's state: reordered with the beams, and cut when searches are finished."""

    def select(self, beams: Tensor) -> Self: ...

    def keep_images(self, images: Tensor) -> Self: ...


class Bonus(Protocol):
    """What words add to the score of a beam beside their log probability."""

    def __call__(self, tokens: Tensor, words: int) -> Tensor:
        """The bonus of each next word, nats, finite (image, beam, word), after `tokens` (image, beam, step), without
        start; `words` in all."""
        ...

    def keep_images(self, images: Tensor) -> Self: ...


class JointState(NamedTuple):
    """Several states that get the same tokens."""

    states: tuple[Any, ...]  # each a `State`

    def select(self, beams: Tensor) -> "JointState":
        return JointState(tuple(state.select(beams) for state in self.states))

    def keep_images(self, images: Tensor) -> "JointState":
        return JointState(tuple(state.keep_images(images) for state in self.states))


AnyState = TypeVar("AnyState", bound=State)
Step = Callable[[AnyState, Tensor], tuple[Tensor, AnyState]]


def generate(
    step: Step, state: AnyState, start: Tensor, end: int, search: SearchParams, rules: Sequence[Rule], n_best: int = 1,
    names: Sequence[int] | None = None, bonus: Bonus | None = None,
) -> list[list[Hypothesis]]:  # fmt: skip
    """The `n_best` best hypotheses by score of each image, best first; samples in the order of sampling.

    `start` (image,) holds the start tokens; `end` is the token that finishes a beam.
    `step(state, tokens (image, beam)) -> (logits (image, beam, word), state)`. A finished beam is not replaced, as in
    the tutorials' one-image loop (Xu et al. 2015 code and its descendants), unless there is `search.patience`. Finished
    hypotheses come before unfinished ones; an image none of whose beams finishes within `search.max_length` tokens gets
    its best unfinished ones. The score is (logprob + bonuses) / length ** search.length_penalty, with the end token
    counted in length.
    `rules` (`rules_of`) turn logits into log probabilities and forbid words. `names`: a number for each image, which
    determines its samples together with the seed; by default its index.
    """
    choice = choice_of(search, n_best, range(len(start)) if names is None else names, start.device)
    beams = Beams(start, end, choice, search.max_length)
    if choice.groups > 1:
        state = state.select(torch.zeros(len(start), choice.groups, dtype=torch.long, device=start.device))
    for _ in range(search.max_length):
        said = beams.said()
        scores, state = step(state, said[:, :, -1])
        for rule in rules:
            scores = rule(scores, said[:, :, 1:])
        bonuses = bonus(said[:, :, 1:], scores.shape[2]) if bonus is not None else None
        state = state.select(beams.extend(scores, bonuses))
        done = beams.done(search.length_penalty, n_best)
        if done.all():
            break
        if done.float().mean() >= DROP_AT:
            going = (~done).nonzero().squeeze(1)
            beams.retire(done, going)
            state = state.keep_images(going)
            bonus = bonus.keep_images(going) if bonus is not None else None
    return beams.best(search.length_penalty, n_best)
