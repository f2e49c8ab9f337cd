"""CIDEr-D, the "CIDEr" of the COCO scorer.

Vedantam et al. 2015, "CIDEr: Consensus-based Image Description Evaluation", section 4 (CIDEr-D): clipped tf-idf cosine
similarity of one- to four-grams, times a Gaussian of the difference in length with sigma 6, averaged over orders and
references, times 10. Following the scorer that everyone compares with, length counts bigrams, and document frequencies
come from the references of the very set being scored: so scores of shards must not be averaged.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from showtell.metrics.ngrams import ORDER, Counts, References, group, lookup, prepared, total

SIGMA = 6.0  # of the length term, in words; the paper's value
SCALE = 10.0  # the scorer's factor


class CiderD:
    """CIDEr-D against fixed references {image_id: [tokenised caption]}.

    Document frequencies and reference vectors are computed once, so that scoring hypotheses again (after every epoch)
    costs little. `ValueError` for fewer than two images: there every idf is log(1/1) = 0 and so is every score.
    """

    def __init__(self, references: Mapping[Hashable, Sequence[str]] | References) -> None:
        self.references = prepared(references)
        images = len(self.references.image_ids)
        if images < 2:
            raise ValueError("CIDEr-D needs at least two images: with one, every idf is log(1/1) = 0")
        self._log_images = np.log(float(images))
        self._idf: list[np.ndarray] = []  # per order, by n-gram id
        for counts in self.references.counts:
            _, ngram, _ = group(self.references.image, counts)
            frequency = np.bincount(ngram)
            self._idf.append(self._log_images - np.log(np.maximum(frequency, 1.0)))
        self._vectors = [self._weigh(order, counts) for order, counts in enumerate(self.references.counts)]
        captions = len(self.references.image)
        self._norms = [_norms(c, v, captions) for c, v in zip(self.references.counts, self._vectors, strict=True)]

    def score(self, hypotheses: Mapping[Hashable, str]) -> tuple[float, np.ndarray]:
        """The corpus score (the mean) and the score of each image (image), in the references' order; 0 to 10."""
        found, lengths = self.references.count(self.references.in_order(hypotheses))
        image, number = self.references.image, self.references.number
        similarity = np.zeros(len(image))  # (reference)
        for order in range(ORDER):
            counts = self.references.counts[order]
            vector = self._weigh(order, found[order])
            norms = _norms(found[order], vector, len(lengths))
            other, mine = lookup(found[order], vector, image[counts.caption], counts.ngram), self._vectors[order]
            product = total(counts.caption, np.minimum(other, mine) * mine, len(image))
            scale = self._norms[order] * norms[image]
            similarity += np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
        difference = np.maximum(lengths - 1, 0)[image] - np.maximum(self.references.lengths - 1, 0)
        similarity *= np.exp(-(difference**2) / (2 * SIGMA**2))
        per_image = SCALE / ORDER * total(image, similarity, len(number)) / number
        return float(per_image.mean()), per_image

    def _weigh(self, order: int, counts: Counts) -> np.ndarray:
        """tf-idf of every entry; an n-gram that no reference has counts as if one image's references had it."""
        idf = self._idf[order]
        known = counts.ngram < len(idf)
        weights = np.full(len(counts.ngram), self._log_images)
        weights[known] = idf[counts.ngram[known]]
        return weights * counts.count


def _norms(counts: Counts, vector: np.ndarray, captions: int) -> np.ndarray:
    return np.sqrt(total(counts.caption, vector**2, captions))
