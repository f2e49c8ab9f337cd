"""BLEU-1..4 as the COCO scorer computes it, and as NLTK's `corpus_bleu` does.

Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", section 2. Both sum clipped
n-gram matches over the corpus and divide once; the reference length is the closest one, ties to the shorter; neither
smooths. They differ in corner cases: the COCO scorer adds tiny constants against division by zero, NLTK counts a
caption of fewer than n words as having one n-gram, and gives 0 when no word matches.

Corpus BLEU is not the mean of image scores, so everything is computed from sufficient statistics, which add up.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from showtell.core.arrays import ragged
from showtell.metrics.ngrams import IMAGES_PER_BLOCK, ORDER, Counts, References, group, lookup, prepared, total

_SMALL, _TINY = 1e-9, 1e-15  # the COCO scorer's guards against division by zero; part of its definition
Words = Sequence[str]
LENGTH, CLOSEST = 0, 1  # columns of the statistics; then ORDER guesses, then ORDER matches


class BleuTargets:
    """References counted once, for comparison with any number of hypotheses of each image."""

    def __init__(self, counts: Sequence[Counts], lengths: np.ndarray, image: np.ndarray, number: np.ndarray) -> None:
        """`counts` by order and `lengths` (reference); `image` (reference), rising; `number` (image) of references."""
        self._lengths, self._number = lengths, number
        self._largest = [Counts(*group(image, of_order)) for of_order in counts]

    def statistics(self, counts: Sequence[Counts], lengths: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Per hypothesis, of the images `image` (hypothesis): words, closest reference length, n-grams of each order,
        matched n-grams of each order. float64 (hypothesis, 2 + 2 * ORDER); rows add up to a corpus."""
        result = np.zeros((len(lengths), 2 + 2 * ORDER))
        result[:, LENGTH] = lengths
        result[:, CLOSEST] = self._closest(lengths, image)
        for order in range(ORDER):
            found, largest = counts[order], self._largest[order]
            clipped = np.minimum(found.count, lookup(largest, largest.count, image[found.caption], found.ngram))
            result[:, 2 + order] = np.maximum(lengths - order, 0)
            result[:, 2 + ORDER + order] = total(found.caption, clipped, len(lengths))
        return result

    def _closest(self, lengths: np.ndarray, image: np.ndarray) -> np.ndarray:
        """The reference length closest to each hypothesis's, the shorter of two."""
        number = self._number[image]
        start, first = np.cumsum(number) - number, (np.cumsum(self._number) - self._number)[image]
        mine = np.repeat(np.arange(len(image)), number)  # (pair) its hypothesis
        candidates = self._lengths[ragged(first, number)]
        order = np.lexsort((candidates, np.abs(candidates - lengths[mine]), mine))
        return candidates[order][start]


class Bleu:
    """BLEU-1..4 against fixed references {image_id: [tokenised caption]}, whose n-grams are counted once."""

    def __init__(self, references: Mapping[Any, Sequence[str]] | References) -> None:
        self.references = r = prepared(references)
        self._targets = BleuTargets(r.counts, r.lengths, r.image, r.number)

    def statistics(self, hypotheses: Mapping[Any, str]) -> np.ndarray:
        """`BleuTargets.statistics` of a hypothesis for each image, in the references' order."""
        counts, lengths = self.references.count(self.references.in_order(hypotheses))
        return self._targets.statistics(counts, lengths, np.arange(len(lengths)))

    def score(self, hypotheses: Mapping[Any, str]) -> tuple[np.ndarray, np.ndarray]:
        """Corpus BLEU-1..4 (order) and per-image BLEU-1..4 (order, image), fractions."""
        statistics = self.statistics(hypotheses)
        return bleu(statistics.sum(axis=0)), bleu(statistics).T


def word_statistics(references: Iterable[Sequence[Words]], hypotheses: Iterable[Words]) -> np.ndarray:
    """`BleuTargets.statistics` of one hypothesis for each image, given as words like its references; some at a time."""
    parts = [np.zeros((0, 2 + 2 * ORDER))]
    pairs = zip(references, hypotheses, strict=True)
    while block := list(islice(pairs, IMAGES_PER_BLOCK)):
        truth = {image: [" ".join(words) for words in said] for image, (said, _) in enumerate(block)}
        parts.append(Bleu(truth).statistics({image: " ".join(words) for image, (_, words) in enumerate(block)}))
    return np.concatenate(parts)


def bleu(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1..4 (..., order) of summed statistics (..., 2 + 2 * ORDER), the COCO scorer's way."""
    guessed, matched = statistics[..., 2 : 2 + ORDER], statistics[..., 2 + ORDER :]
    precisions = np.cumprod((matched + _TINY) / (guessed + _SMALL), axis=-1)
    ratio = (statistics[..., LENGTH] + _TINY) / (statistics[..., CLOSEST] + _SMALL)
    brevity = np.where(ratio < 1, np.exp(np.minimum(1 - 1 / ratio, 0)), 1)
    return precisions ** (1 / np.arange(1, ORDER + 1)) * brevity[..., None]


def nltk_statistics(statistics: np.ndarray) -> np.ndarray:
    """Per-image statistics as NLTK counts them: a caption shorter than n words has one n-gram, unmatched."""
    statistics = statistics.copy()
    statistics[:, 2 : 2 + ORDER] = np.maximum(statistics[:, 2 : 2 + ORDER], 1)
    return statistics


def nltk_bleu(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1..4 (..., order) of summed `nltk_statistics`, equal to NLTK's `corpus_bleu` with weights 1/n."""
    guessed, matched = statistics[..., 2 : 2 + ORDER], statistics[..., 2 + ORDER :]
    # NLTK puts the smallest positive float where nothing matched
    logs = np.log(np.where(matched > 0, matched / np.maximum(guessed, 1), np.finfo(float).tiny))
    means = np.cumsum(logs, axis=-1) / np.arange(1, ORDER + 1)
    length, closest = statistics[..., LENGTH], statistics[..., CLOSEST]
    shortfall = np.where(length > closest, 0, 1 - closest / np.maximum(length, 1))
    return np.where(matched[..., :1] > 0, np.exp(means + shortfall[..., None]), 0)
