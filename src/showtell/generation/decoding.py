"""A decoder under the search: captions of encoded images, and where the decoder looked for each word."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from showtell.data.vocabulary import END, PAD, START, UNK
from showtell.decoders import Decoder
from showtell.generation.choices import Hypothesis
from showtell.generation.rules import rules_of
from showtell.generation.search import generate
from showtell.generation.search_params import SearchParams


def search_captions(
    decoder: Decoder, features: Tensor, search: SearchParams, n_best: int = 1, logit_bias: Tensor | None = None
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses of each image of `features`, best first; `logit_bias` (image, word).

    In the arithmetic of the caller's autocast: `search.precision` is the caller's to see to.
    """
    start = torch.full((len(features),), START, device=features.device)
    never = (PAD, START) if search.allow_unknown else (PAD, START, UNK)
    rules = rules_of(search, never, logit_bias)
    return generate(decoder.steps(), decoder.start(features), start, END, search, rules, n_best)


def attention_of(
    decoder: Decoder, features: Tensor, best: Sequence[Hypothesis], head: int | None = None
) -> list[np.ndarray] | None:
    """Attention (word, cell) of each image's hypothesis, the mean of its heads or one `head`; None if the decoder does
    not attend.

    The hypothesis is read to the decoder again: that costs one pass, and spares the search the maps of every beam that
    it drops.
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
    # Copies: a view would keep the padded maps of the whole batch in memory.
    return [maps[image, 0, : len(hypothesis.tokens)].copy() for image, hypothesis in enumerate(best)]
