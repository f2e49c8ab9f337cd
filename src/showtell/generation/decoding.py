"""Runs the search with a decoder, or several as an ensemble: captions of encoded images, and their attention."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from showtell.data.vocabulary import END, PAD, START, UNK
from showtell.decoders import Decoder, DecoderStep
from showtell.generation.choices import Hypothesis
from showtell.generation.neighbour_bonus import NeighbourBonus
from showtell.generation.neighbour_ngrams import with_ngrams
from showtell.generation.neighbours import Neighbours
from showtell.generation.rules import rules_of
from showtell.generation.search import JointState, Step, generate
from showtell.generation.search_params import SearchParams


def search_captions(decoder: Decoder, features: Tensor, search: SearchParams) -> list[list[Hypothesis]]:
    """The best hypothesis of each image of `features`, in a list.

    The precision is that of the caller's autocast context: the caller applies `search.precision`.
    """
    return search_together([decoder], [features], search)


def search_together(
    decoders: Sequence[Decoder], features: Sequence[Tensor], search: SearchParams, n_best: int = 1,
    names: Sequence[int] | None = None, neighbours: Neighbours | None = None, around: int | None = None,
) -> list[list[Hypothesis]]:  # fmt: skip
    """The `n_best` best hypotheses of each image, best first, by several decoders with one vocabulary, each with its
    own features of the same images.

    The next word's log probability is the mean over the decoders, normalised; then n-grams of those of `neighbours`
    that are like the first features have the share `search.neighbour_ngrams`, and `search.neighbour_bonus` is what they
    add to scores. `names` as in `generate`, `around` as in `rules_of`.
    """
    start = torch.full((len(features[0]),), START, device=features[0].device)
    rules = rules_of(search, END, never_generated(search.allow_unknown), around)
    states = [decoder.start(own) for decoder, own in zip(decoders, features, strict=True)]
    steps = [decoder.steps() for decoder in decoders]
    step, state = (steps[0], states[0]) if len(steps) == 1 else (_mean_step(steps), JointState(tuple(states)))
    if search.neighbour_ngrams and neighbours is not None:
        step, state = with_ngrams(step, state, neighbours, features[0], search.neighbour_ngrams)
    bonus = None
    if search.gives_bonuses and neighbours is not None:
        bonus = NeighbourBonus.of(neighbours, features[0], search.neighbour_bonus)
    return generate(step, state, start, END, search, rules, n_best, names, bonus)


def never_generated(allow_unknown: bool) -> list[int]:
    """The tokens that no generated caption has."""
    return [PAD, START] if allow_unknown else [PAD, START, UNK]


def _mean_step(steps: Sequence[DecoderStep]) -> Step:
    def step(joint: JointState, tokens: Tensor) -> tuple[Tensor, JointState]:
        taken = [one(state, tokens) for one, state in zip(steps, joint.states, strict=True)]
        logprobs = [torch.log_softmax(logits.float(), dim=-1) for logits, _ in taken]
        return torch.stack(logprobs).mean(dim=0), JointState(tuple(state for _, state in taken))

    return step


def attention_of(
    decoder: Decoder, features: Tensor, best: Sequence[Hypothesis], head: int | None = None
) -> list[np.ndarray] | None:
    """Attention (word, cell) of each image's hypothesis, the mean over heads or one `head`; None without attention.

    The hypothesis is decoded once more by teacher forcing. That costs one pass, and the search does not have to store
    the attention of beams that it drops.
    """
    longest = max(len(hypothesis.tokens) for hypothesis in best)
    inputs = torch.full((len(best), 1, max(longest, 1)), PAD)
    mask = torch.zeros(inputs.shape, dtype=torch.bool)  # (image, 1, step)
    inputs[:, :, 0] = START
    for image, hypothesis in enumerate(best):
        inputs[image, 0, 1 : len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens[:-1])
        mask[image, 0, : len(hypothesis.tokens)] = True
    attention = decoder.attend(features, inputs.to(features.device), mask, head)
    if attention is None:
        return None
    maps = attention.float().cpu().numpy()
    # Cloned: a view would keep the padded maps of the whole batch in memory.
    return [maps[image, 0, : len(hypothesis.tokens)].copy() for image, hypothesis in enumerate(best)]
