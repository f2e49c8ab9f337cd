"""What may be said next: small rules over the scores of every word, applied one after the other at every step.

A rule is given `scores` (image, beam, word), natural log, of the next word of each beam, and the `tokens` (image, beam,
step) said so far, `<start>` left out; it returns scores of the same shape, and may change those given in place. It
touches nothing else. Up to `LogSoftmax` in the list the scores are logits, from there on log probabilities: a rule that
comes before it changes how likely the other words are, one that comes after it forbids words and leaves the others'.

A new rule is a class here and a line in `rules_of`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from showtell.generation.search_params import SearchParams


class Rule:
    """One rule. It is asked about all images that are still being searched for, side by side."""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def keep_images(self, images: Tensor) -> "Rule":
        """The rule for these images alone (indices): for rules that know something of each image."""
        return self


class LogitBias(Rule):
    """`bias` (image, word), natural log, is added: what an image's detected words make of its scores."""

    def __init__(self, bias: Tensor):
        self.bias = bias

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return scores + self.bias.unsqueeze(1)

    def keep_images(self, images: Tensor) -> "LogitBias":
        return LogitBias(self.bias[images])


class LogSoftmax(Rule):
    """From logits to log probabilities, float32."""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return torch.log_softmax(scores.float(), dim=-1)


class Suppress(Rule):
    """These words are never said."""

    def __init__(self, words: Sequence[int]):
        self.words = list(words)

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        scores[..., self.words] = -torch.inf
        return scores


class BlockNgrams(Rule):
    """No n-gram of `size` words occurs twice (Paulus et al., "A Deep Reinforced Model for Abstractive Summarization",
    ICLR 2018, section 2.5, has it for trigrams)."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return scores.masked_fill_(repeats(tokens, self.size, scores.shape[-1]), -torch.inf)


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


def rules_of(search: SearchParams, suppressed: Sequence[int] = (), logit_bias: Tensor | None = None) -> list[Rule]:
    """The rules that `search` asks for, in the order in which they apply.

    `suppressed`: words that nobody may say. `logit_bias` (image, word): of the words an encoder detects.
    """
    rules: list[Rule] = []
    if logit_bias is not None:
        rules.append(LogitBias(logit_bias))
    rules.append(LogSoftmax())
    if suppressed:
        rules.append(Suppress(suppressed))
    if search.block_ngrams:
        rules.append(BlockNgrams(search.block_ngrams))
    return rules
