"""Next words that are mixed with those which captions of similar training images have in the same place.

Khandelwal et al., "Generalization through Memorization: Nearest Neighbor Language Models" (ICLR 2020): a model's
probabilities are interpolated with those of the words that followed the most similar contexts in training. There a
context is a hidden state. Here it is the last word, or the last two, in a caption of a similar image; both orders are
interpolated, by how often they are found (Jelinek and Mercer, "Interpolated Estimation of Markov Source Parameters from
Sparse Data", 1980).
"""

import numpy as np
import torch
from torch import Tensor

from showtell.data.vocabulary import PAD, START
from showtell.decoders import State
from showtell.generation import search
from showtell.generation.neighbours import Neighbours, pooled
from showtell.generation.search import JointState, Step

UNSURE = 0.02  # occurrences in a caption of a similar image at which a context has half of its greatest influence
LONGEST_SHARE = 0.5  # of the words after the last two, at most; the rest is of those after the last one


def with_ngrams(
    step: Step, state: search.State, neighbours: Neighbours, features: Tensor, share: float
) -> tuple[Step, JointState]:
    """`step` and the state that it begins with, with a share of the next word's probability taken by captions of
    training images like `features` (image, ...).

    The words after a context that occurs n times in one of their captions, on average, take share * n / (n + UNSURE):
    where they do not know the last word, nothing changes. The new step gives log probabilities.
    """

    def mixed(joint: JointState, tokens: Tensor) -> tuple[Tensor, JointState]:
        inner, (captions, (before,)) = joint.states
        logits, inner = step(inner, tokens)
        probability = torch.softmax(logits.float(), dim=2)
        _mix(probability, captions, before, tokens, share)
        return probability.log(), JointState((inner, State(captions, (tokens,))))

    return mixed, JointState((state, _captions(neighbours, features)))


def _captions(neighbours: Neighbours, features: Tensor) -> State:
    """The captions of similar images before the first step. Of each image: their words, the word before each and the
    one before that, and the words' weights, each (image, position); of each beam: the word before the last one."""
    found = [neighbours.similar_captions(vector) for vector in pooled(features)]
    longest = max(len(similar.tokens) for similar in found)
    words = np.full((3, len(found), longest), PAD)
    weights = np.zeros((len(found), longest), np.float32)
    for image, (_, weight, lengths, tokens) in enumerate(found):
        first = np.cumsum(lengths) - lengths
        weights[image, : len(tokens)] = np.repeat(weight, lengths)
        for back in range(3):
            words[back, image, : len(tokens)] = tokens
            tokens = np.roll(tokens, 1)
            tokens[first] = START
    arrays = tuple(torch.from_numpy(array).to(features.device) for array in (*words, weights))
    return State(arrays, (torch.full((len(features), 1), START, device=features.device),))


def _mix(probability: Tensor, captions: tuple[Tensor, ...], before: Tensor, last: Tensor, share: float) -> None:
    """Mix `probability` (image, beam, word) in place; `before` and `last` are words (image, beam)."""
    words, previous, earlier, weights = captions
    after_one = weights.unsqueeze(1) * (previous.unsqueeze(1) == last.unsqueeze(2))  # (image, beam, position)
    after_two = after_one * (earlier.unsqueeze(1) == before.unsqueeze(2))
    one, two = (x.sum(dim=2, keepdim=True) for x in (after_one, after_two))  # occurrences in a caption
    longer = LONGEST_SHARE * two / (two + UNSURE)
    tiny = torch.finfo(weights.dtype).tiny  # instead of 0, which cannot divide and has no logarithm
    mixed = after_one * ((1 - longer) / one.clamp_min(tiny)) + after_two * (longer / two.clamp_min(tiny))
    taken = share * one / (one + UNSURE)
    probability.mul_(1 - taken).scatter_add_(2, words.unsqueeze(1).expand_as(mixed), taken * mixed).clamp_min_(tiny)
