"""Diversity of an image's several captions."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from showtell.metrics.ngram_table import NgramTable, in_blocks
from showtell.metrics.ngrams import IMAGES_PER_BLOCK, ORDER

Words = Sequence[str]


def diversity(captions: Sequence[Sequence[Words]], references: Iterable[Sequence[Words]]) -> dict[str, float | None]:
    """Means over images of their captions (image, caption, word); all None where images have one caption.

    `references` are read once and not stored; `captions` may compute its items at each access.

    `captions_an_image` (a number); `distinct_words` and `distinct_pairs`: different words, and different pairs of
    neighbouring words, per word (Div-1, Div-2 of Shetty et al., "Speaking the Same Language", ICCV 2017, section 5);
    `self_cider`: 0 where all captions are the same, 1 where no two share an n-gram. `references` (image, caption, word)
    give the document frequencies.
    """
    keys = ("captions_an_image", "distinct_words", "distinct_pairs", "self_cider")
    if not captions or max(map(len, captions)) < 2:
        return dict.fromkeys(keys)
    table = NgramTable([" ".join(words) for words in of_image] for of_image in references)
    parts = []
    for block in in_blocks(captions, IMAGES_PER_BLOCK):
        weights = _idf(block, table)
        rows = [(len(c), _distinct(c, 1), _distinct(c, 2), _self_cider(c, weights, table.images)) for c in block]
        parts.append(np.array(rows))
    return dict(zip(keys, np.concatenate(parts).mean(axis=0).tolist(), strict=True))


def _ngrams(words: Words, order: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def _distinct(captions: Sequence[Words], order: int) -> float:
    found = {ngram for words in captions for ngram in _ngrams(words, order)}
    return len(found) / max(sum(map(len, captions)), 1)


def _idf(images: Sequence[Sequence[Words]], table: NgramTable) -> dict[tuple[str, ...], float]:
    """log(images / images whose references have the n-gram), as in CIDEr, for the n-grams of these captions."""
    weights: dict[tuple[str, ...], float] = {}
    for order in range(1, ORDER + 1):
        ngrams = list({g for captions in images for words in captions for g in _ngrams(words, order)})
        found = zip(ngrams, table.images_with(order, ngrams).tolist(), strict=True)
        weights |= {ngram: math.log(table.images / count) for ngram, count in found if count}
    return weights


def _self_cider(captions: Sequence[Words], idf: dict[tuple[str, ...], float], images: int) -> float:
    """Wang and Chan, "Describing like Humans: on Diversity in Image Captioning" (CVPR 2019), section 3.3: from the
    singular values of the captions' tf-idf vectors, which are roots of the eigenvalues of the matrix of their mutual
    CIDEr (mean cosine of one- to four-grams, no length term)."""
    if len(captions) < 2:
        return 0.0
    kernel = np.zeros((len(captions), len(captions)))
    for order in range(1, ORDER + 1):
        counts = [Counter(_ngrams(words, order)) for words in captions]
        column = {ngram: number for number, ngram in enumerate(sorted({g for count in counts for g in count}))}
        vectors = np.zeros((len(captions), len(column)))
        for row, count in enumerate(counts):
            for ngram, times in count.items():
                vectors[row, column[ngram]] = times * idf.get(ngram, math.log(max(images, 2)))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        kernel += unit @ unit.T / ORDER
    spread = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0, None))  # ascending
    if not spread[-1]:  # all tf-idf weights are 0
        return 0.0
    return float(-math.log(spread[-1] / spread.sum()) / math.log(len(captions))) + 0.0
