"""ROUGE-L as the COCO scorer computes it.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3: an F-measure of the longest common
subsequence. Following the scorer: the largest precision and the largest recall are taken over references separately,
beta is 1.2, and words are what lies between single spaces (an empty caption is one empty word).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from showtell.metrics.ngrams import References

BETA = 1.2  # the scorer's weight of recall against precision


def rouge_l(
    references: Mapping[Any, Sequence[str]] | References, hypotheses: Mapping[Any, str]
) -> tuple[float, np.ndarray]:
    """The corpus score (the mean) and each image's score (image), fractions, in the references' order."""
    prepared = references if isinstance(references, References) else References(references)
    captions = prepared.in_order(hypotheses)
    per_image = np.array([rouge_l_of(h, r) for h, r in zip(captions, prepared.captions, strict=True)])
    return float(per_image.mean()), per_image


def rouge_l_of(hypothesis: str, references: Sequence[str]) -> float:
    """The score of one caption, a fraction."""
    words = hypothesis.split(" ")
    places: dict[str, int] = {}  # word -> bit mask of its places in the hypothesis
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        other = reference.split(" ")
        common = _common(places, len(words), other)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(other))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common(places: dict[str, int], length: int, other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table per word in one integer.

    Hyyro 2004, "Bit-parallel LCS-length computation revisited": zeros in `row` mark where the table's row steps up.
    """
    full = (1 << length) - 1
    row = full
    for word in other:
        matches = places.get(word)
        if matches:
            matches &= row
            row = (row + matches | row - matches) & full
    return length - row.bit_count()
