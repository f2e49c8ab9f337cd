"""CIDEr-D, the "CIDEr" of the COCO scorer.

Vedantam et al. 2015, "CIDEr: Consensus-based Image Description Evaluation", section 4 (CIDEr-D): clipped tf-idf cosine
similarity of one- to four-grams, times a Gaussian of the difference in length with sigma 6, averaged over orders and
references, times 10. As in the COCO scorer, length counts bigrams, and document frequencies come from the references of
the evaluated set, unless others are given: scores of shards must not be averaged.

Shapes: hypothesis and reference = captions, entry = a distinct n-gram of a caption, pair = a hypothesis with one of its
image's references.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from showtell.core.arrays import ragged
from showtell.metrics.ngrams import ORDER, Counts, References, group, keyed, prepared, total

SIGMA = 6.0  # of the length term, in words; the paper's value
SCALE = 10.0  # the scorer's factor


class DocumentFrequencies:
    """The number of images whose references contain each n-gram, and the tf-idf weights computed from it.

    `counts` by order, their captions' images in `image` (caption), rows from 0. `ValueError` for fewer than two images:
    there every idf is log(1/1) = 0 and so is every score.
    """

    def __init__(self, counts: Sequence[Counts], image: np.ndarray) -> None:
        images = int(image.max()) + 1 if len(image) else 0
        if images < 2:
            raise ValueError("CIDEr-D needs at least two images: with one, every idf is log(1/1) = 0")
        self._log_images = np.log(float(images))
        self._idf: list[np.ndarray] = []  # per order, by n-gram id
        for of_order in counts:
            _, ngram, _ = group(image, of_order)
            self._idf.append(self._log_images - np.log(np.maximum(np.bincount(ngram), 1.0)))

    @classmethod
    def of(cls, references: References) -> "DocumentFrequencies":
        """From reference captions; in their n-gram ids."""
        return cls(references.counts, references.image)

    def weigh(self, order: int, counts: Counts) -> np.ndarray:
        """tf-idf of every entry; an n-gram that no reference has counts as if one image's references had it."""
        idf = self._idf[order]
        known = counts.ngram < len(idf)
        weights = np.full(len(counts.ngram), self._log_images)
        weights[known] = idf[counts.ngram[known]]
        return weights * counts.count


class Frequencies(Protocol):
    """The interface of n-gram weighting."""

    def weigh(self, order: int, counts: Counts) -> np.ndarray: ...


class Vectors(NamedTuple):
    """Captions as tf-idf vectors: `counts` and `weights` by order (entry), `norms` by order (caption), `lengths`."""

    counts: Sequence[Counts]
    weights: list[np.ndarray]
    norms: list[np.ndarray]
    lengths: np.ndarray

    @classmethod
    def of(cls, counts: Sequence[Counts], lengths: np.ndarray, frequencies: Frequencies) -> "Vectors":
        weights = [frequencies.weigh(order, of_order) for order, of_order in enumerate(counts)]
        norms = [np.sqrt(total(c.caption, w**2, len(lengths))) for c, w in zip(counts, weights, strict=True)]
        return cls(counts, weights, norms, lengths)


class Targets:
    """Reference vectors grouped by image, for comparison with any number of hypotheses of each image."""

    def __init__(self, vectors: Vectors, image: np.ndarray, number: np.ndarray) -> None:
        """`image` (reference), rising; `number` (image) of references."""
        self.vectors, self.number = vectors, number
        self.first = np.cumsum(number) - number  # (image) its first reference
        self._entries = []
        for counts, weights in zip(vectors.counts, vectors.weights, strict=True):
            keys = keyed(image[counts.caption], counts.ngram)  # (entry)
            by_key = np.argsort(keys, kind="stable")
            self._entries.append((keys[by_key], counts.caption[by_key], weights[by_key]))

    def scores(self, hypotheses: Vectors, image: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """CIDEr-D (hypothesis) of hypotheses of the images `image` (hypothesis). `weights` (reference): of an image's
        references, which sum to 1, instead of the same for each."""
        number = self.number[image]
        start = np.cumsum(number) - number  # (hypothesis) its first pair
        mine = np.repeat(np.arange(len(image)), number)  # (pair) its hypothesis
        other = ragged(self.first[image], number)  # (pair) its reference
        similarity = np.zeros(len(mine))  # (pair)
        for order in range(ORDER):
            product = self._products(order, hypotheses, image, start, len(mine))
            scale = self.vectors.norms[order][other] * hypotheses.norms[order][mine]
            similarity += np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
        similarity *= _closeness(_bigrams(hypotheses.lengths)[mine] - _bigrams(self.vectors.lengths)[other])
        if weights is not None:
            return SCALE / ORDER * total(mine, similarity * weights[other], len(image))
        return SCALE / ORDER * total(mine, similarity, len(image)) / number

    def _products(
        self, order: int, hypotheses: Vectors, image: np.ndarray, start: np.ndarray, pairs: int
    ) -> np.ndarray:
        """Clipped dot products (pair), over the n-grams that hypotheses share with references of their images."""
        keys, reference, weight = self._entries[order]
        counts, own = hypotheses.counts[order], hypotheses.weights[order]
        wanted = keyed(image[counts.caption], counts.ngram)
        begin = np.searchsorted(keys, wanted)
        shared = np.searchsorted(keys, wanted, side="right") - begin  # (entry of a hypothesis): references that have it
        entry = np.repeat(np.arange(len(wanted)), shared)  # (match)
        there = ragged(begin, shared)
        caption, theirs = counts.caption[entry], weight[there]
        pair = start[caption] + reference[there] - self.first[image[caption]]
        return total(pair, np.minimum(own[entry], theirs) * theirs, pairs)


class WeightedReferences:
    """References of which each has a weight, compared with captions of any number.

    As `Targets` of one image, which has all of them, without a number for each pair: matches of an n-gram are summed
    over the references first, once for all captions that have it and each length of a caption.
    """

    def __init__(self, vectors: Vectors) -> None:
        self.norms = vectors.norms  # by order (reference)
        self._bigrams = _bigrams(vectors.lengths)  # (reference) its length
        self._entries = []
        for counts, weights, norms in zip(vectors.counts, vectors.weights, vectors.norms, strict=True):
            by_ngram = np.argsort(counts.ngram, kind="stable")
            reference, weight = counts.caption[by_ngram], weights[by_ngram]
            norm = norms[reference]
            scaled = np.divide(weight, norm, out=np.zeros_like(weight), where=norm > 0)
            self._entries.append((counts.ngram[by_ngram], reference, weight, scaled))

    def scores(self, captions: Vectors, weights: np.ndarray) -> np.ndarray:
        """The sum over the references of their `weights` (reference), of any sign, times CIDEr-D: (caption)."""
        lengths, own_length = np.unique(_bigrams(captions.lengths), return_inverse=True)
        weights = _closeness(lengths[:, None] - self._bigrams) * weights  # (length, reference)
        result = np.zeros(len(captions.lengths))
        for order, (ngrams, reference, weight, scaled) in enumerate(self._entries):
            counts, own, norms = captions.counts[order], captions.weights[order], captions.norms[order]
            _, first, of_entry = np.unique(keyed(counts.count, counts.ngram), return_index=True, return_inverse=True)
            wanted, mine = counts.ngram[first], own[first]  # (distinct): what captions say, and how often
            begin = np.searchsorted(ngrams, wanted)
            shared = np.searchsorted(ngrams, wanted, side="right") - begin  # (distinct): references that have it
            there = ragged(begin, shared)  # (match)
            product = np.minimum(np.repeat(mine, shared), weight[there]) * scaled[there]
            of_length = [_sums(product * row[reference[there]], shared) for row in weights]
            entries = np.array(of_length)[own_length[counts.caption], of_entry]
            result += np.divide(
                total(counts.caption, entries, len(result)), norms, out=np.zeros_like(result), where=norms > 0
            )
        return SCALE / ORDER * result


def _bigrams(lengths: np.ndarray) -> np.ndarray:
    """Length as the scorer counts it, in bigrams."""
    return np.maximum(lengths - 1, 0)


def _closeness(difference: np.ndarray) -> np.ndarray:
    """The Gaussian of a difference in length."""
    return np.exp(-(difference**2) / (2 * SIGMA**2))


def _sums(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The sum of each of consecutive parts of `values` with these `sizes` (part), 0 for empty ones."""
    result, some = np.zeros(len(sizes)), sizes > 0
    if len(values):
        result[some] = np.add.reduceat(values, (np.cumsum(sizes) - sizes)[some])
    return result


class CiderD:
    """CIDEr-D against fixed references {image_id: [tokenised caption]}.

    Document frequencies are theirs, or those of `others`: then the images may be a part of a larger set, or a single
    one. What does not depend on hypotheses is computed once, so that repeated scoring (after every epoch) is fast.
    """

    def __init__(
        self, references: Mapping[Any, Sequence[str]] | References, others: References | None = None
    ) -> None:
        """`ValueError` for fewer than two images to count document frequencies in."""
        self.references = prepared(references)
        self._others = others
        self._frequencies = DocumentFrequencies.of(others if others is not None else self.references)
        if others is None:
            self._targets = self._as_targets(self.references.counts)

    def score(self, hypotheses: Mapping[Any, str]) -> tuple[float, np.ndarray]:
        """The corpus score (the mean) and the score of each image (image), in the references' order; 0 to 10."""
        captions = self.references.in_order(hypotheses)
        if self._others is None:
            targets = self._targets
            found, lengths = self.references.count(captions)
        else:
            texts = (text for of_image in self.references.captions for text in of_image)
            known, found, lengths = self._others.count_both(texts, captions)
            targets = self._as_targets(known)
        vectors = Vectors.of(found, lengths, self._frequencies)
        per_image = targets.scores(vectors, np.arange(len(captions)))
        return float(per_image.mean()), per_image

    def _as_targets(self, counts: Sequence[Counts]) -> Targets:
        vectors = Vectors.of(counts, self.references.lengths, self._frequencies)
        return Targets(vectors, self.references.image, self.references.number)
