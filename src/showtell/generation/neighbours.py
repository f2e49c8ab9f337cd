"""Training images that resemble an image: their captions help to choose among those that a search has found.

Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning" (2015): the caption that agrees most with
those of the nearest training images, the consensus caption, is a good one. There it is one of theirs; here it is one of
the search's, as Fang et al., "From Captions to Visual Concepts and Back" (CVPR 2015), section 5, rank a beam again by
similarity to the image. Agreement is CIDEr-D; document frequencies are of the training captions.

Agreement with captions of the image itself, which are not known, is estimated from agreement with those of all training
images, by two regressions on the images' features, half each: the mean over the most similar ones, weighted by their
similarity (Nadaraya 1964, Watson 1964), and ridge regression (Hoerl and Kennard 1970). Both are sums over the training
images, weighted by what the features alone decide.

Similarity is the cosine of whitened features: what differs among most images, as day and night, would outweigh what is
shown in them. Ridge regression weighs an image by the scalar product of the same features.

A model without a detector takes the words in an image from them as well (`neighbour_words.py`), and they can have a
share in every next word (`neighbour_ngrams.py`); words can get a bonus for their part of the agreement while the search
goes on (`neighbour_bonus.py`). The bundle that `evaluate` writes holds them as `neighbours.safetensors`, and names the
file in `config.json`, where the search uses them. Other models have none.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from showtell.core.arrays import distinct_pairs, evenly_spaced, ragged
from showtell.core.errors import UserError
from showtell.core.processes import all_gather, share
from showtell.core.progress import track
from showtell.core.tensor_files import load_tensors, save_tensors
from showtell.data.store import RowReader
from showtell.data.vocabulary import END
from showtell.generation.choices import Hypothesis, best_first, repeats_last
from showtell.metrics.cider import SCALE, DocumentFrequencies, Vectors, WeightedReferences
from showtell.metrics.ngrams import ORDER, Counts, NgramIds, flat

NEIGHBOURS = "neighbours.safetensors"  # file name in the bundle
NEAREST = 60  # the most similar training images
TEMPERATURE = 0.07  # of the softmax over their similarity: the first of them count most
RIDGE = 0.5  # share of ridge regression in the weights; that of the most similar images is the rest
SHRINKAGE = 0.1  # added to every variance before whitening, as a share of their mean: small ones are mostly noise
COMPARED = 20_000  # images among which `nearest_others` looks, evenly spaced: its time grows with this number
RECENT = 128  # images whose weights are kept: a search asks for them up to three times
ROWS_AT_ONCE = 256  # images read, or compared with all, together; bounds memory, does not change results


class Remembered(NamedTuple):
    """Training images and their captions, as they are stored."""

    centre: Tensor  # float32 (channel,): the mean of the images' features
    whitening: Tensor  # float32 (channel, channel): features less that mean, times this, are uncorrelated
    whitened: Tensor  # float16 (image, channel): the images' features so whitened
    number: Tensor  # int32 (image,): captions of each image
    lengths: Tensor  # int32 (caption,): tokens of each caption
    tokens: Tensor  # int32 (token,): of all captions, each without its start and with its end


def pooled(features: Tensor) -> np.ndarray:
    """The mean over the cells of a grid (image, cell, channel), or a vector (image, channel) as it is: float32 (image,
    channel)."""
    features = features.float()
    return (features.mean(dim=1) if features.dim() == 3 else features).cpu().numpy()


class Nearest(NamedTuple):
    """The training images that are most similar to each of some images, the most similar first."""

    rows: np.ndarray  # ints (image, neighbour): of training images
    weights: np.ndarray  # floats (image, neighbour): softmax of their similarity, 0 for one that is not to count

    @classmethod
    def of(cls, similarity: np.ndarray) -> "Nearest":
        """From cosines (image, training image); -inf where a training image is not to count."""
        rows = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
        found = np.take_along_axis(similarity, rows, axis=1).astype(np.float64)
        weights = np.exp((found - found[:, :1]) / TEMPERATURE)
        return cls(rows, weights / weights.sum(axis=1, keepdims=True))


class SimilarCaptions(NamedTuple):
    """The captions of the training images that are most similar to an image."""

    captions: np.ndarray  # ints (caption,): which of the training images' captions
    weights: np.ndarray  # floats (caption,): their images', shared by the captions of each; they sum to 1
    lengths: np.ndarray  # ints (caption,): their tokens
    tokens: np.ndarray  # ints (token,): of all of them, one caption after the other


class Neighbours:
    """The remembered images as an index."""

    def __init__(self, remembered: Remembered):
        """`UserError` for fewer than two images, in which no document frequencies can be counted, and for arrays that
        do not fit together."""
        self.remembered = remembered
        if reason := _misfit(remembered):
            raise UserError(f"the remembered training images cannot be used: {reason}")
        self._centre, self._whitening, self._whitened = (x.float().numpy() for x in remembered[:3])
        self._number, self._lengths, self._tokens = (x.numpy().astype(np.int64) for x in remembered[3:])
        self._norms = _norms(self._whitened)
        self._recent = lru_cache(RECENT)(lambda content: self._weights(np.frombuffer(content, np.float32)))

    def __len__(self) -> int:
        return len(self._number)

    @classmethod
    def of(cls, features: np.ndarray, number: np.ndarray, lengths: np.ndarray, tokens: np.ndarray) -> "Neighbours":
        """From `features` of images, float32 (image, channel); `number`, `lengths` and `tokens` as in `Remembered`."""
        centre, whitening, whitened = _whiten(features)
        captions = (x.astype(np.int32) for x in (number, lengths, tokens))
        return cls(Remembered(*map(torch.from_numpy, (centre, whitening, whitened.astype(np.float16), *captions))))

    @classmethod
    def load(cls, path: Path, channels: int, words: int) -> "Neighbours":
        """Those in a file; `UserError` for one that is not for features of `channels` channels and a vocabulary of
        `words` words."""
        tensors = load_tensors(path)
        try:
            found = cls(Remembered(**tensors))
        except (TypeError, UserError) as error:
            raise UserError(f"{path} does not hold training images: {error}; run `dvc repro`") from None
        if len(found.remembered.centre) != channels:
            told = f"features of {len(found.remembered.centre)} channels, the encoder gives {channels}"
        elif int(found.remembered.tokens.max()) >= words:
            told = f"words that the vocabulary of {words} does not have"
        else:
            return found
        raise UserError(f"{path} belongs to another model: it has {told}; run `dvc repro`")

    def save(self, path: Path) -> None:
        save_tensors(path, self.remembered._asdict())

    def ranked(self, features: Tensor, found: Sequence[list[Hypothesis]], weight: float) -> list[list[Hypothesis]]:
        """`found` [image][hypothesis], best first, with `weight` times their agreement with captions of images like
        `features` (image, ...) added to their scores; finished ones still come first, and repeats last."""
        chosen = []
        for vector, hypotheses in zip(pooled(features), found, strict=True):
            agreement = (weight * self.agreement(vector, hypotheses)).tolist()
            raised = [replace(h, score=h.score + more) for h, more in zip(hypotheses, agreement, strict=True)]
            chosen.append(repeats_last(best_first(raised)))
        return chosen

    def agreement(self, vector: np.ndarray, hypotheses: Sequence[Hypothesis]) -> np.ndarray:
        """The estimated CIDEr-D (hypothesis) of captions with those of an image with these features (channel,)."""
        weights = np.repeat(self.weights(vector) / self._number, self._number)  # (caption)
        words, lengths = flat([h.tokens + [END] * h.finished for h in hypotheses])
        said = Vectors.of(self._ids.count(words, lengths), lengths, self._frequencies)
        return self._references.scores(said, weights)

    def weights(self, vector: np.ndarray) -> np.ndarray:
        """The weights (image) of the training images for one with these features (channel,), which sum to 1; ridge
        regression makes some negative. They are kept for a while, and cannot be written to.

        One image at a time, so that others beside it cannot change rounding.
        """
        return self._recent(vector.astype(np.float32, copy=False).tobytes())

    def forget(self) -> None:
        """Keep no weights: the next ones are computed."""
        self._recent.cache_clear()

    def _weights(self, vector: np.ndarray) -> np.ndarray:
        white = (vector - self._centre) @ self._whitening
        product = self._whitened @ white
        nearest = Nearest.of((product / (self._norms * _norms(white)))[None])
        # Features are whitened and have mean 0: the inverse covariance is in the product, the constant term is 1.
        weights = RIDGE * (1 + product.astype(np.float64)) / len(product)
        weights[nearest.rows[0]] += (1 - RIDGE) * nearest.weights[0]
        weights.flags.writeable = False
        return weights

    def similar_captions(self, vector: np.ndarray) -> SimilarCaptions:
        """The captions of the `NEAREST` training images with the greatest weights above 0 for one with these features
        (channel,)."""
        weights = self.weights(vector)
        rows = np.argsort(-weights, kind="stable")[:NEAREST]
        rows = rows[weights[rows] > 0]
        captions = ragged((np.cumsum(self._number) - self._number)[rows], self._number[rows])
        of_caption = np.repeat(weights[rows] / weights[rows].sum() / self._number[rows], self._number[rows])
        lengths = self._lengths[captions]
        tokens = self._tokens[ragged((np.cumsum(self._lengths) - self._lengths)[captions], lengths)]
        return SimilarCaptions(captions, of_caption, lengths, tokens)

    def similar_ngrams(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens (token,) of `similar_captions`, and for each order of n-grams what the one that ends with a token
        adds to a caption's agreement with these, (order, token); 0 where none ends.

        For an n-gram that both say CIDEr-D has the product of their tf-idf weights, divided by their norms; that of the
        caption, which is not complete, is taken to be the mean of these captions' norms. Agreement is then a sum over
        n-grams, as Tromble et al., "Lattice Minimum Bayes-Risk Decoding for Statistical Machine Translation" (EMNLP
        2008), make one of BLEU. Differences in length do not count.
        """
        captions, weights, lengths, tokens = self.similar_captions(vector)
        mine = np.repeat(np.arange(len(captions)), lengths)  # (token): its caption
        parts = np.zeros((ORDER, len(tokens)))
        for order, (ids, begin) in enumerate(self._ids.occurrences(tokens, lengths)):
            norms = self._references.norms[order][captions]
            scale = norms * (weights @ norms)
            shares = np.divide(SCALE / ORDER * weights, scale, out=np.zeros_like(scale), where=scale > 0)  # (caption)
            caption = mine[begin]
            said = self._frequencies.weigh(order, Counts(caption, ids, np.ones_like(ids)))
            parts[order, begin + order] = shares[caption] * said**2
        return tokens, parts

    def words(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and token, ints (pair) each, of every word of the images' captions; once for each image that has it."""
        image = np.repeat(np.repeat(np.arange(len(self)), self._number), self._lengths)
        return distinct_pairs(image, self._tokens)

    @cached_property
    def _ids(self) -> NgramIds:
        return NgramIds(self._tokens, self._lengths)

    @cached_property
    def _frequencies(self) -> DocumentFrequencies:
        return DocumentFrequencies(self._ids.counts, np.repeat(np.arange(len(self._number)), self._number))

    @cached_property
    def _references(self) -> WeightedReferences:
        return WeightedReferences(Vectors.of(self._ids.counts, self._lengths, self._frequencies))


def nearest_others(features: RowReader) -> Nearest:
    """For each of the training images with these features, the others that are most similar; every n-th is looked at
    where there are more than `COMPARED`.

    The processes share the images. `UserError` for fewer than two.
    """
    if len(features) < 2:
        raise UserError(
            f"reinforce.consensus compares a training image with others, and here is {len(features)}; add images, or "
            "set it to 0"
        )
    compared = evenly_spaced(len(features), COMPARED)
    centre, whitening, whitened = _whiten(_read(features, compared))
    units = whitened / _norms(whitened)[:, None]

    def of_rows(rows: np.ndarray) -> Nearest:
        white = (_read(features, rows) - centre) @ whitening
        similarity = white / _norms(white)[:, None] @ units.T
        similarity[rows[:, None] == compared] = -np.inf
        found = Nearest.of(similarity)
        return Nearest(compared[found.rows].astype(np.int32), found.weights.astype(np.float32))

    parts = all_gather([of_rows(block) for block in track(share(_blocks(np.arange(len(features)))), "similar images")])
    return Nearest(*map(np.concatenate, zip(*parts, strict=True)))


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE)]


def _read(features: RowReader, rows: np.ndarray) -> np.ndarray:
    """These rows of a store, `pooled`."""
    return np.concatenate([pooled(torch.from_numpy(features.rows(block.tolist()))) for block in _blocks(rows)])


def _whiten(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and whitening matrix of features (image, channel), as in `Remembered`, and the whitened features, float32
    (image, channel)."""
    centre = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    away = features - centre
    whitening = _whitening(away)
    return centre, whitening, away @ whitening


def _whitening(vectors: np.ndarray) -> np.ndarray:
    """The matrix that whitens centred vectors (image, channel): float32 (channel, channel).

    Any root of the inverse covariance gives the same cosines. The Cholesky factor's does not depend on the signs and
    the order of eigenvectors, which differ between machines.
    """
    vectors = vectors.astype(np.float64)
    covariance = vectors.T @ vectors / len(vectors)
    floor = SHRINKAGE * covariance.trace() / len(covariance) or 1.0  # 1: all vectors are alike, nothing to whiten
    factor = np.linalg.cholesky(covariance + floor * np.eye(len(covariance)))
    return np.linalg.inv(factor).T.astype(np.float32, order="C")


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Lengths along the last dimension; 1 for zero vectors, which so keep cosines of 0."""
    length = np.linalg.norm(vectors, axis=-1)
    return np.where(length > 0, length, 1)


def _misfit(r: Remembered) -> str:
    """Why the arrays do not fit together; empty when they do."""
    kinds = zip(r, (1, 2, 2, 1, 1, 1), (True, True, True, False, False, False), strict=True)
    if any(tensor.dim() != dimensions or tensor.is_floating_point() != real for tensor, dimensions, real in kinds):
        return "a tensor has another shape or type"
    channels = len(r.centre)
    if r.whitened.shape != (len(r.number), channels) or r.whitening.shape != (channels, channels):
        return "sizes differ"
    if len(r.number) < 2:
        return f"there are {len(r.number)}, document frequencies need two"
    for counts, of in ((r.number, r.lengths), (r.lengths, r.tokens)):
        if len(counts) == 0 or int(counts.min()) < 1 or int(counts.sum()) != len(of):
            return "captions are incomplete"
    return "" if int(r.tokens.min()) >= 0 else "tokens are negative"
