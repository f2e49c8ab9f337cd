"""Properties of a model's captions apart from correctness: variety, copying, repetition, endings."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

# Words with which a complete English caption hardly ever ends.
_CUT_OFF = """a an the and or but nor of in on at by to from with without into onto near beside between against toward
towards as than while is are was were be being been has have had its their who which"""
FUNCTION_WORDS = frozenset(_CUT_OFF.split())


def behaviour(
    captions: Sequence[Sequence[str]],
    train: Iterable[Sequence[str]],
    vocabulary: Iterable[str],
    unfinished: Sequence[bool] | None = None,
) -> dict[str, float | int]:
    """Statistics of generated captions (words each); shares are fractions, the rest counts.

    `captions`, `distinct` (share of captions that are unlike all others), `distinct_captions` (number), `copied`
    (share that occur word for word among the `train` captions), `words_used` and `vocabulary_used` (share of
    `vocabulary`), `mean_length` (words), `function_word_endings`, `repeated_ngrams` (share of captions where some
    pair of words occurs twice or a word follows itself), `empty`, `unknown` (`<unk>` per word) and `unfinished`
    (share that never reached `<end>`; 0 where `unfinished` is not given).
    """
    number = max(len(captions), 1)
    texts = [" ".join(words) for words in captions]
    counts = Counter(texts)
    # only those that were generated: there may be millions
    known = {text for words in train if (text := " ".join(words)) in counts}
    used = {word for words in captions for word in words}
    possible = set(vocabulary)
    length = sum(len(words) for words in captions)
    return {
        "captions": len(captions),
        "distinct_captions": len(counts),
        "distinct": sum(counts[text] == 1 for text in texts) / number,
        "copied": sum(text in known for text in texts) / number,
        "words_used": len(used),
        "vocabulary_used": len(used & possible) / max(len(possible), 1),
        "mean_length": length / number,
        "function_word_endings": sum(bool(words) and words[-1] in FUNCTION_WORDS for words in captions) / number,
        "repeated_ngrams": sum(map(repeats, captions)) / number,
        "empty": sum(not words for words in captions) / number,
        "unknown": sum(word == "<unk>" for words in captions for word in words) / max(length, 1),
        "unfinished": sum(unfinished) / number if unfinished is not None else 0.0,
    }


def repeats(words: Sequence[str]) -> bool:
    """Whether a word follows itself or a pair of words occurs twice."""
    pairs = list(pairwise(words))
    return any(first == second for first, second in pairs) or len(set(pairs)) < len(pairs)
