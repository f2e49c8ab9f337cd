"""Choosing the next words among all continuations: one class for each method of generation.

An image's beams are divided into `groups`, chosen one after the other, each of `width` beams. A plain beam search has
one group; samples are groups of one beam. A new method is a class here and a line in `choice_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from showtell.generation.rules import Rule, sampling_rules
from showtell.generation.search_params import SearchParams


@dataclass(frozen=True)
class Hypothesis:
    """One generated sequence. `tokens` without start and end; `logprob` includes the end's when `finished`.

    `logprobs`: of each token, the end's last when `finished`; their sum is `logprob`.
    """

    tokens: list[int]
    logprob: float
    score: float
    finished: bool
    logprobs: list[float]


class Choice(Protocol):
    """The interface of a method of choosing."""

    groups: int
    width: int
    ends: int  # beams of a group that may finish
    replaces: bool  # whether a beam that finishes is replaced, so that `width` are live until `ends` have finished

    def __call__(self, totals: Tensor, logprobs: Tensor, vacant: Tensor, tokens: Tensor) -> Tensor:
        """The continuations that are kept: indices into `totals`, best first, (image, group, at most width; where
        finished beams are replaced, twice as many, since as many as are live may end).

        `totals` (image, group, beam x word): value of each continuation, with the tokens before it;
        `logprobs` (image, group, beam, word): of its last word; words with -inf must not be chosen. `vacant` (image,
        group): how many may still finish; without replacement only the first so many of the chosen stay. `tokens`
        (image, beam of all groups, step): generated so far, without start.
        """
        ...

    def merged(self, groups: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        """One image's hypotheses, best first, merged from those of each group, best first."""
        ...

    def keep_images(self, images: Tensor) -> "Choice":
        """The choice for these images only (indices)."""
        ...


class Beam:
    """Beam search: the `width` most probable continuations of all beams; width 1 is greedy.

    With `patience` beams that finish are replaced, and the search ends when `ends` have finished, that many times
    `width`: Kasai et al., "A Call for Clarity in Beam Search: How It Works and When It Stops" (2022).
    """

    groups = 1

    def __init__(self, width: int, ends: int, patient: bool):
        self.width, self.ends, self.replaces = width, ends, patient

    def __call__(self, totals: Tensor, logprobs: Tensor, vacant: Tensor, tokens: Tensor) -> Tensor:
        wanted = 2 * self.width if self.replaces else self.width
        return totals.topk(min(wanted, totals.shape[2]), dim=2).indices

    def merged(self, groups: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        return groups[0]

    def keep_images(self, images: Tensor) -> "Beam":
        return self


class DiverseBeam:
    """Diverse beam search: groups are searched one after the other at every step, and a word costs a group `diversity`
    (nats) for each beam of an earlier group that chooses it at this step.

    Vijayakumar et al., "Diverse Beam Search" (2016), section 4, with Hamming diversity. The cost affects the choice
    only; log probabilities and scores are the model's own.
    """

    replaces = False

    def __init__(self, width: int, groups: int, diversity: float):
        self.width = self.ends = width // groups
        self.groups, self.diversity = groups, diversity

    def __call__(self, totals: Tensor, logprobs: Tensor, vacant: Tensor, tokens: Tensor) -> Tensor:
        images, groups, beams, words = logprobs.shape
        said = torch.zeros(images, words, device=totals.device)  # how many beams of earlier groups choose each word
        places = []
        for group in range(groups):
            cost = self.diversity * said.repeat(1, beams)  # (image, beam x word)
            place = (totals[:, group] - cost).topk(min(self.width, totals.shape[2]), dim=1).indices
            rank = torch.arange(place.shape[1], device=place.device)
            kept = (rank < vacant[:, group, None]) & (totals[:, group].gather(1, place) > -torch.inf)
            said.scatter_add_(1, place % words, kept.float())
            places.append(place)
        return torch.stack(places, dim=1)

    def merged(self, groups: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        """The best of each group by score, then the second of each, and so on; last, those that repeat another."""
        ranks = ([h for h in rank if h is not None] for rank in zip_longest(*groups))
        return repeats_last([h for rank in ranks for h in best_first(rank)])

    def keep_images(self, images: Tensor) -> "DiverseBeam":
        return self


class Sample:
    """Sampling from the word probabilities, after `rules` (temperature, top-k, nucleus); each group is one sample.

    Log probabilities are the model's own, before those rules. Hypotheses are in the order of sampling, not ranked, so
    the first does not depend on the number of samples.
    `draws` (image, sample, step): uniform random numbers from 0 to below 1 that determine the words.
    """

    width = ends = 1
    replaces = False

    def __init__(self, draws: Tensor, rules: Sequence[Rule]):
        self.draws, self.rules, self.groups = draws, rules, draws.shape[1]
        self.step = 0

    def __call__(self, totals: Tensor, logprobs: Tensor, vacant: Tensor, tokens: Tensor) -> Tensor:
        # (image, sample, word): a sample has one beam; a copy, which rules may change in place
        scores = logprobs.flatten(1, 2).clone()
        for rule in self.rules:
            scores = rule(scores, tokens)
        self.step += 1
        return words_drawn(torch.softmax(scores, dim=-1), self.draws[:, :, self.step - 1]).unsqueeze(2)

    def merged(self, groups: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        return [hypothesis for group in groups for hypothesis in group]

    def keep_images(self, images: Tensor) -> "Sample":
        kept = Sample(self.draws[images], self.rules)
        kept.step = self.step
        return kept


def best_first(found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """By score, finished ones before all others."""
    return sorted(found, key=lambda h: (not h.finished, -h.score))


def repeats_last(found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """In the same order, and after all others those that repeat another."""
    return sorted(found, key=lambda h: next(other for other in found if other.tokens == h.tokens) is not h)


def words_drawn(probabilities: Tensor, draws: Tensor) -> Tensor:
    """The words (image, sample) that the uniform numbers `draws` (image, sample) select by `probabilities` (image,
    sample, word): inverse transform sampling. A word of probability 0 is never selected."""
    reached = probabilities.cumsum(dim=-1)
    aim = (draws.unsqueeze(2) * reached[..., -1:]).contiguous()
    return torch.searchsorted(reached, aim, right=True).squeeze(2).clamp(max=reached.shape[-1] - 1)


def draws_of(seed: int, names: Sequence[int], samples: int, steps: int) -> Tensor:
    """Uniform numbers from 0 to below 1, float32 (image, sample, step), that depend on the seed and the image's name
    only: not on other images, the device or the number of processes."""
    drawn = [np.random.default_rng([seed, name]).random((samples, steps), np.float32) for name in names]
    return torch.from_numpy(np.stack(drawn))


def sample_draws(seed: int, names: Sequence[int], samples: int, steps: int) -> Tensor:
    """As `draws_of`, but each sample has numbers of its own: more steps change none of those that it had."""
    of_sample = [[name + (number << 64) for name in names] for number in range(samples)]
    return torch.cat([draws_of(seed, own, 1, steps) for own in of_sample], dim=1)


def choice_of(search: SearchParams, n_best: int, names: Sequence[int], device: torch.device) -> Choice:
    """The method that `search` asks for; `names`: a number for each image, 0 or more, that seeds its samples."""
    if search.method == "sample":
        draws = sample_draws(search.seed or 0, names, n_best, search.max_length)
        return Sample(draws.to(device), sampling_rules(search))
    if search.method == "diverse_beam":
        return DiverseBeam(search.beam or 1, search.groups or 1, search.diversity or 0.0)
    return Beam(search.beam or 1, search.ends, search.patience is not None)
