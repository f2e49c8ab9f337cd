"""Rules for the next word: small functions of the scores of all words, applied one after the other at every step.

A rule gets `scores` (image, beam, word), natural log, of the next word of each beam, and the `tokens` (image, beam,
step) generated so far, without `<start>`. It returns scores of the same shape, and may change its input in place. It
has no other effect. The first, `LogSoftmax`, turns logits into log probabilities; those after it forbid words and leave
the others' probabilities unchanged, or (`sampling_rules`) change those with which a word is sampled.

A new rule is a class here and a line in `rules_of`, or in `sampling_rules` when it only affects sampling.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from showtell.generation.search_params import SearchParams


class Rule:
    """The interface of a rule. It is applied to all images that are still being searched, side by side."""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        raise NotImplementedError


class LogSoftmax(Rule):
    """Turns logits into log probabilities, float32."""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return torch.log_softmax(scores.float(), dim=-1)


class Suppress(Rule):
    """Forbids these words."""

    def __init__(self, words: Sequence[int]):
        self.words = list(words)

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        scores[..., self.words] = -torch.inf
        return scores


class BlockNgrams(Rule):
    """Forbids words that would repeat an n-gram of `size` words (Paulus et al., "A Deep Reinforced Model for
    Abstractive Summarization", ICLR 2018, section 2.5, for trigrams), and a word directly after itself."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return scores.masked_fill_(repeats(tokens, self.size, scores.shape[-1]), -torch.inf)


class BlockAround(Rule):
    """Forbids the same one or two words on both sides of `word`, as "a man and a man" or "a white and white dog" around
    "and"."""

    def __init__(self, word: int):
        self.word = word

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        words = scores.shape[-1]  # also a word that there is not
        a, b, c, d = functional.pad(tokens, (4, 0), value=words)[:, :, -4:].unbind(dim=2)  # the last four words
        after_one = torch.where(d == self.word, c, words)  # "c word" is not followed by "c"
        after_two = torch.where((c == self.word) & (d == a), b, words)  # "a b word a" is not followed by "b"
        return scores.masked_fill_(_marked(torch.stack((after_one, after_two), dim=2), words), -torch.inf)


class LeastLength(Rule):
    """Forbids the end token before `length` tokens (the end counted), unless no other word is allowed."""

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
    """Divides the scores by `value`: below 1 the distribution gets sharper, above 1 flatter."""

    def __init__(self, value: float):
        self.value = value

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        return scores / self.value


class TopK(Rule):
    """Keeps the `count` most probable words, and those equal to the last of them (Fan et al., "Hierarchical Neural
    Story Generation", ACL 2018, section 5.1)."""

    def __init__(self, count: int):
        self.count = count

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        if self.count >= scores.shape[-1]:
            return scores
        least = scores.topk(self.count, dim=-1).values[..., -1:]
        return scores.masked_fill(scores < least, -torch.inf)


class Nucleus(Rule):
    """Keeps the smallest set of most probable words with total probability `mass` or more (Holtzman et al., "The
    Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1)."""

    def __init__(self, mass: float):
        self.mass = mass

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        likeliest, word = torch.softmax(scores, dim=-1).sort(dim=-1, descending=True, stable=True)
        before = likeliest.cumsum(dim=-1) - likeliest  # total probability of the words before each
        outside = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, word, before >= self.mass)
        return scores.masked_fill(outside, -torch.inf)


def repeats(tokens: Tensor, size: int, words: int) -> Tensor:
    """The next words that would complete an n-gram of `size` already in the beam, and its last word: bool (image, beam,
    word)."""
    length, repeated = tokens.shape[2], tokens[:, :, -1:]
    if length >= size:
        windows = tokens.unfold(2, size, 1)  # (image, beam, window, size)
        last = tokens[:, :, length - size + 1 :].unsqueeze(2)  # (image, beam, 1, size - 1)
        same = (windows[..., :-1] == last).all(dim=-1)  # (image, beam, window)
        repeated = torch.cat((repeated, torch.where(same, windows[..., -1], words)), dim=2)
    return _marked(repeated, words)


def _marked(found: Tensor, words: int) -> Tensor:
    """Which of `words` words are in `found` (image, beam, n): bool (image, beam, word); `words` itself is none."""
    marked = torch.zeros(*found.shape[:2], words + 1, dtype=torch.bool, device=found.device)
    return marked.scatter_(2, found, True)[..., :words]


def rules_of(
    search: SearchParams, end: int, suppressed: Sequence[int] = (), around: int | None = None
) -> list[Rule]:
    """The rules of `search`, in the order in which they apply.

    `end`: the end token. `suppressed`: words that are never generated. `around`: the token of `search.block_around`, if
    it has one.
    """
    rules: list[Rule] = [LogSoftmax()]
    if suppressed:
        rules.append(Suppress(suppressed))
    if search.block_ngrams:
        rules.append(BlockNgrams(search.block_ngrams))
    if around is not None:
        rules.append(BlockAround(around))
    if search.min_length > 1:
        rules.append(LeastLength(search.min_length, end))
    return rules


def sampling_rules(search: SearchParams) -> list[Rule]:
    """The further rules of `search` that apply before a word is sampled, in their order."""
    rules: list[Rule] = []
    if search.temperature is not None and search.temperature != 1:
        rules.append(Temperature(search.temperature))
    if search.top_k is not None:
        rules.append(TopK(search.top_k))
    if search.top_p is not None and search.top_p < 1:
        rules.append(Nucleus(search.top_p))
    return rules
