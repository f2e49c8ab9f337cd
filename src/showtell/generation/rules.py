"""What may be said next: small rules over the scores of every word, applied one after the other at every step.

A rule is given `scores` (image, beam, word), natural log, of the next word of each beam, and the `tokens` (image, beam,
step) said so far, `<start>` left out; it returns scores of the same shape, and may change those given in place. It
touches nothing else. Up to `LogSoftmax` in the list the scores are logits, from there on log probabilities: a rule that
comes before it changes how likely the other words are, one that comes after it forbids words and leaves the others'.

A new rule is a class here and a line in `rules_of`, or in `sampling_rules` when it only says what is drawn from.
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


class LeastLength(Rule):
    """The end is not said before the caption has `length` tokens, the end counted; unless nothing else may be said."""

    def __init__(self, length: int, end: int):
        self.length, self.end = length, end

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        if tokens.shape[2] + 1 >= self.length:
            return scores
        ending = scores[..., self.end].clone()
        scores[..., self.end] = -torch.inf
        stuck = scores.amax(dim=-1) == -torch.inf
        scores[..., self.end] = torch.where(stuck, ending, -torch.inf)
        return scores


class Temperature(Rule):
    """Scores divided by `value`: below 1 likely words become likelier still, above 1 all become more alike."""

    def __init__(self, value: float):
        self.value = value

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return scores / self.value


class TopK(Rule):
    """Only the `count` likeliest words, and those as likely as the last of them (Fan et al., "Hierarchical Neural Story
    Generation", ACL 2018, section 5.1)."""

    def __init__(self, count: int):
        self.count = count

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        if self.count >= scores.shape[-1]:
            return scores
        least = scores.topk(self.count, dim=-1).values[..., -1:]
        return scores.masked_fill(scores < least, -torch.inf)


class Nucleus(Rule):
    """Only the smallest set of likeliest words that together have probability `mass` or more (Holtzman et al., "The
    Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1)."""

    def __init__(self, mass: float):
        self.mass = mass

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        likeliest, word = torch.softmax(scores, dim=-1).sort(dim=-1, descending=True, stable=True)
        before = likeliest.cumsum(dim=-1) - likeliest  # the mass of all likelier ones
        outside = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, word, before >= self.mass)
        return scores.masked_fill(outside, -torch.inf)


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


def rules_of(
    search: SearchParams, end: int, suppressed: Sequence[int] = (), logit_bias: Tensor | None = None
) -> list[Rule]:
    """The rules that `search` asks for, in the order in which they apply.

    `end`: the token that finishes. `suppressed`: words that nobody may say. `logit_bias` (image, word): of the words an
    encoder detects.
    """
    rules: list[Rule] = []
    if logit_bias is not None:
        rules.append(LogitBias(logit_bias))
    rules.append(LogSoftmax())
    if suppressed:
        rules.append(Suppress(suppressed))
    if search.block_ngrams:
        rules.append(BlockNgrams(search.block_ngrams))
    if search.min_length > 1:
        rules.append(LeastLength(search.min_length, end))
    return rules


def sampling_rules(search: SearchParams) -> list[Rule]:
    """What further rules make of the log probabilities before a word is drawn from them, in their order."""
    rules: list[Rule] = []
    if search.temperature is not None and search.temperature != 1:
        rules.append(Temperature(search.temperature))
    if search.top_k is not None:
        rules.append(TopK(search.top_k))
    if search.top_p is not None and search.top_p < 1:
        rules.append(Nucleus(search.top_p))
    return rules
