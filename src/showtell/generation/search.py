"""Finding the best caption under a step function. Knows nothing of pictures, networks or words.

Shapes: image = independent searches run side by side, beam = those kept of each, step = tokens so far.
Log probabilities are natural logs. A *finished* beam has produced the end token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from showtell.core.params import Section
from showtell.core.precision import Precision

BeamWidth = Annotated[int, Field(ge=1, le=100, description="beams kept while searching; 1 is greedy")]

# Finished searches are dropped from the batch when they are at least this share of it: dropping copies what remains.
DROP_AT = 0.25


class SearchParams(Section):
    """How captions are generated, apart from the beam's width."""

    max_length: int = Field(ge=1, description="tokens generated at most, the end token counted")
    length_penalty: float = Field(ge=0, le=5, description="score = logprob / length ** penalty; 0 = plain sum")
    block_ngrams: int = Field(ge=0, description="no n-gram of this size occurs twice; 0 = no blocking")
    allow_unknown: bool = Field(description="whether captions may hold <unk>")
    detection_weight: float = Field(ge=0, le=10, description="weight of the words the encoder detects; 0 = none")
    precision: Precision = Field(description="arithmetic of the decoder while it generates")


class SweepParams(Section):
    """The decodings that `evaluate` compares on val."""

    beams: list[BeamWidth] = Field(min_length=1, description="widths to try")
    length_penalties: list[Annotated[float, Field(ge=0, le=5)]] = Field(min_length=1, description="penalties to try")


class State(Protocol):
    """What the step function carries along: reordered when beams are, and cut when searches are over."""

    def select(self, beams: Tensor) -> "State": ...

    def keep_images(self, images: Tensor) -> "State": ...


AnyState = TypeVar("AnyState", bound=State)
Step = Callable[[AnyState, Tensor], tuple[Tensor, AnyState]]


@dataclass(frozen=True)
class Hypothesis:
    """One generated sequence. `tokens` without start and end; `logprob` includes the end's when `finished`."""

    tokens: list[int]
    logprob: float
    score: float
    finished: bool


def beam_search(
    step: Step,
    state: AnyState,
    start: Tensor,
    end: int,
    width: int,
    max_length: int,
    length_penalty: float = 0.0,
    block_ngrams: int = 0,
    suppressed: Sequence[int] = (),
    n_best: int = 1,
    logit_bias: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` best-scoring hypotheses of each image, best first.

    `start` (image,) holds the tokens to begin with; `end` is the token that finishes.
    `step(state, tokens (image, beam)) -> (logits (image, beam, word), state)`. A beam that finishes leaves its place
    empty, as in the tutorials' one-image loop (Xu et al. 2015 code and its descendants), so `width` beams finish at
    most. Finished hypotheses come before unfinished ones; an image none of whose beams finishes within `max_length`
    tokens gets its best unfinished ones. The score is logprob / length ** length_penalty, the end counted in length.
    `logit_bias` (image, word), natural logs, is added to the logits of every step.
    """
    beams = _Beams(start, width, max_length)
    for length in range(1, max_length + 1):
        logits, state = step(state, beams.tokens[:, :, -1])
        if logit_bias is not None:
            logits = logits + logit_bias.unsqueeze(1)
        logprobs = torch.log_softmax(logits.float(), dim=-1)  # (image, beam, word)
        if suppressed:
            logprobs[..., list(suppressed)] = -torch.inf
        if block_ngrams:
            logprobs.masked_fill_(repeats(beams.tokens[:, :, 1:], block_ngrams, logprobs.shape[-1]), -torch.inf)
        state = state.select(beams.extend(logprobs, end))
        done = beams.done(length, length_penalty, n_best)
        if done.all():
            break
        if done.float().mean() >= DROP_AT:
            going = (~done).nonzero().squeeze(1)
            beams.retire(done, going)
            state = state.keep_images(going)
            logit_bias = logit_bias[going] if logit_bias is not None else None
    return beams.best(length_penalty, n_best)


def repeats(tokens: Tensor, size: int, words: int) -> Tensor:
    """Which next words would complete an n-gram of `size` that the beam already holds: bool (image, beam, word)."""
    images, beams, length = tokens.shape
    blocked = torch.zeros(images, beams, words + 1, dtype=torch.bool, device=tokens.device)
    if length >= size:
        windows = tokens.unfold(2, size, 1)  # (image, beam, window, size)
        last = tokens[:, :, length - size + 1 :].unsqueeze(2)  # (image, beam, 1, size - 1)
        same = (windows[..., :-1] == last).all(dim=-1)  # (image, beam, window)
        blocked.scatter_(2, torch.where(same, windows[..., -1], words), True)  # `words`: a column that is thrown away
    return blocked[..., :words]


class _Beams:
    """The living and the finished beams of all images, as tensors."""

    def __init__(self, start: Tensor, width: int, max_length: int):
        images, device = len(start), start.device
        self.width, self.max_length = width, max_length
        self.tokens = start.view(images, 1, 1)  # (image, beam, step), start included
        self.logprob = torch.zeros(images, 1, device=device)  # (image, beam); -inf: an empty place
        self.vacant = torch.full((images,), width, device=device)  # (image,) beams that may still live or finish
        # One place more than can finish: what is not to be kept is written there.
        self.finished_tokens = torch.zeros(images, width + 1, max_length, dtype=torch.long, device=device)
        self.finished_logprob = torch.full((images, width + 1), -torch.inf, device=device)
        self.finished_length = torch.ones(images, width + 1, dtype=torch.long, device=device)
        self.rows = torch.arange(images, device=device)  # which image each row searches for
        self._retired: dict[int, tuple[Tensor, ...]] = {}

    def extend(self, logprobs: Tensor, end: int) -> Tensor:
        """Take the best continuations of each image; returns which beam each continues, (image, beam)."""
        words = logprobs.shape[2]
        candidates = (self.logprob.unsqueeze(2) + logprobs).flatten(1)  # (image, beam x word)
        logprob, place = candidates.topk(min(self.width, candidates.shape[1]), dim=1)
        beam, word = place // words, place % words
        rank = torch.arange(logprob.shape[1], device=place.device)
        logprob = logprob.masked_fill(rank >= self.vacant.unsqueeze(1), -torch.inf)
        history = self.tokens.gather(1, beam.unsqueeze(2).expand(-1, -1, self.tokens.shape[2]))
        self.tokens = torch.cat([history, word.unsqueeze(2)], dim=2)
        self._finish((word == end) & (logprob > -torch.inf), logprob)
        self.logprob = logprob.masked_fill(word == end, -torch.inf)
        return beam

    def _finish(self, ended: Tensor, logprob: Tensor) -> None:
        """Move the beams where `ended` (image, beam) to the finished ones."""
        before = (self.width - self.vacant).unsqueeze(1)
        place = torch.where(ended, before + ended.cumsum(1) - 1, self.width)
        length = self.tokens.shape[2] - 1
        words = torch.nn.functional.pad(self.tokens[:, :, 1:], (0, self.max_length - length))
        self.finished_tokens.scatter_(1, place.unsqueeze(2).expand_as(words), words)
        self.finished_logprob.scatter_(1, place, logprob)
        self.finished_logprob[:, self.width] = -torch.inf
        self.finished_length.scatter_(1, place, length)
        self.vacant = self.vacant - ended.sum(1)

    def done(self, length: int, penalty: float, n_best: int) -> Tensor:
        """Where no living beam can still be among the best: bool (image,).

        A log probability only falls as a beam grows, and dividing it by the greatest length is the kindest.
        """
        best_possible_score = self.logprob.max(dim=1).values / self.max_length**penalty
        scores = self.finished_logprob / self.finished_length**penalty
        if n_best > scores.shape[1]:
            return self.vacant == 0
        worst_of_best = scores.topk(n_best, dim=1).values[:, -1]
        return (best_possible_score <= worst_of_best) | (self.vacant == 0) | (best_possible_score == -torch.inf)

    def retire(self, done: Tensor, going: Tensor) -> None:
        """Set the images that are `done` aside and go on with the others."""
        for row in done.nonzero().squeeze(1).tolist():
            self._retired[int(self.rows[row])] = self._row(row)
        for name in ("tokens", "logprob", "vacant", "finished_tokens", "finished_logprob", "finished_length", "rows"):
            setattr(self, name, getattr(self, name)[going])

    def _row(self, row: int) -> tuple[Tensor, ...]:
        finished = self.finished_tokens[row], self.finished_logprob[row], self.finished_length[row]
        return *finished, self.tokens[row, :, 1:], self.logprob[row]

    def best(self, penalty: float, n_best: int) -> list[list[Hypothesis]]:
        rows = self._retired | {int(image): self._row(row) for row, image in enumerate(self.rows)}
        return [self._hypotheses(rows[image], penalty)[:n_best] for image in sorted(rows)]

    def _hypotheses(self, row: tuple[Tensor, ...], penalty: float) -> list[Hypothesis]:
        """Finished ones by falling score, then unfinished ones."""
        finished_tokens, finished_logprob, finished_length, tokens, logprob = (x.tolist() for x in row)
        finished = [
            Hypothesis(words[: length - 1], value, value / length**penalty, True)
            for words, value, length in zip(finished_tokens, finished_logprob, finished_length, strict=True)
            if value > -torch.inf
        ]
        unfinished = [
            Hypothesis(words, value, value / max(len(words), 1) ** penalty, False)
            for words, value in zip(tokens, logprob, strict=True)
            if value > -torch.inf
        ]
        return [hypothesis for group in (finished, unfinished) for hypothesis in sorted(group, key=lambda h: -h.score)]
