"""Training images that resemble an image: their captions help to choose among those that a search has found.

Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning" (2015): the caption that agrees most with
those of the nearest training images, the consensus caption, is a good one. There it is one of theirs; here it is one of
the search's, as Fang et al., "From Captions to Visual Concepts and Back" (CVPR 2015), section 5, rank a beam again by
similarity to the image. Agreement is CIDEr-D; document frequencies are of the training captions.

Similarity is the cosine of whitened features: what differs among most images, as day and night, would outweigh what is
shown in them.

The bundle that `evaluate` writes holds them as `neighbours.safetensors` and names the file in `config.json`, where
`search.consensus` is not 0. Other models have none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from showtell.core.errors import UserError
from showtell.core.tensor_files import load_tensors, save_tensors
from showtell.core.texts import ragged
from showtell.data.vocabulary import END
from showtell.generation.choices import Hypothesis
from showtell.metrics.cider import DocumentFrequencies, Targets, Vectors
from showtell.metrics.ngrams import NgramIds, flat

NEIGHBOURS = "neighbours.safetensors"  # file name in the bundle
NEAREST = 60  # training images that an image is compared with
TEMPERATURE = 0.07  # of the softmax over their similarity: the first of them count most
SHRINKAGE = 1.0  # added to every variance before whitening, as a share of their mean: small ones are mostly noise
IMAGES_AT_ONCE = 16  # images whose captions are compared together; bounds memory, does not change results


class Remembered(NamedTuple):
    """Training images and their captions, as they are stored."""

    centre: Tensor  # float32 (channel,): the mean of the images' features
    whitening: Tensor  # float32 (channel, channel): features less that mean, times this, are uncorrelated
    images: Tensor  # float16 (image, channel): the images' features so whitened, of length 1
    number: Tensor  # int32 (image,): captions of each image
    lengths: Tensor  # int32 (caption,): tokens of each caption
    tokens: Tensor  # int32 (token,): of all captions, each without its start and with its end


def pooled(features: Tensor) -> np.ndarray:
    """The mean over the cells of a grid (image, cell, channel), or a vector (image, channel) as it is: float32 (image,
    channel)."""
    features = features.float()
    return (features.mean(dim=1) if features.dim() == 3 else features).cpu().numpy()


class Neighbours:
    """The remembered images as an index."""

    def __init__(self, remembered: Remembered):
        """`UserError` for fewer than two images, in which no document frequencies can be counted, and for arrays that
        do not fit together."""
        self.remembered = remembered
        if reason := _misfit(remembered):
            raise UserError(f"the remembered training images cannot be used: {reason}")
        self._centre, self._whitening, self._images = (x.float().numpy() for x in remembered[:3])
        self._number, self._lengths, self._tokens = (x.numpy().astype(np.int64) for x in remembered[3:])
        self._first = np.cumsum(self._number) - self._number  # (image) its first caption
        self._start = np.cumsum(self._lengths) - self._lengths  # (caption) its first token

    @classmethod
    def of(cls, features: np.ndarray, number: np.ndarray, lengths: np.ndarray, tokens: np.ndarray) -> "Neighbours":
        """From `features` of images, float32 (image, channel); `number`, `lengths` and `tokens` as in `Remembered`."""
        centre = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        away = features - centre
        whitening = _whitening(away)
        images = _unit(away @ whitening).astype(np.float16)
        captions = (x.astype(np.int32) for x in (number, lengths, tokens))
        return cls(Remembered(*map(torch.from_numpy, (centre, whitening, images, *captions))))

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

    def chosen(self, features: Tensor, found: Sequence[list[Hypothesis]], weight: float) -> list[list[Hypothesis]]:
        """`found` [image][hypothesis], best first, with `weight` times their agreement with the captions of the
        neighbours of `features` (image, ...) added to their scores; finished ones still come first."""
        vectors = pooled(features)
        return [again for part in _parts(len(found)) for again in self._chosen(vectors[part], found[part], weight)]

    def _chosen(
        self, vectors: np.ndarray, found: Sequence[list[Hypothesis]], weight: float
    ) -> Iterator[list[Hypothesis]]:
        agreement = iter(weight * self._agreement(vectors, found))
        for hypotheses in found:
            raised = [replace(h, score=h.score + float(next(agreement))) for h in hypotheses]
            yield sorted(raised, key=lambda h: (not h.finished, -h.score))

    def _agreement(self, vectors: np.ndarray, found: Sequence[list[Hypothesis]]) -> np.ndarray:
        """CIDEr-D (hypothesis of all images), 0 to 10, of hypotheses with the captions of their images' neighbours."""
        near = [self._nearest(vector) for vector in vectors]
        nearest, weights = (np.concatenate(x) for x in zip(*near, strict=True))  # (neighbour of each image)
        captions = ragged(self._first[nearest], self._number[nearest])  # of all neighbours of one image after another
        theirs = self._lengths[captions]
        references = self._tokens[ragged(self._start[captions], theirs)], theirs
        ours = flat([h.tokens + [END] * h.finished for hypotheses in found for h in hypotheses])
        known, said = self._ids.count_both(references, ours)
        images = np.arange(len(found))
        number = self._number[nearest].reshape(len(found), -1).sum(axis=1)  # (image) of references
        targets = Targets(Vectors.of(known, theirs, self._frequencies), np.repeat(images, number), number)
        share = np.repeat(weights / self._number[nearest], self._number[nearest])  # (reference)
        hypotheses = Vectors.of(said, ours[1], self._frequencies)
        return targets.scores(hypotheses, np.repeat(images, [len(of_image) for of_image in found]), share)

    def _nearest(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The images that are most similar to one with these features (channel,), and their weights, which sum to 1.

        One image at a time, so that others beside it cannot change rounding.
        """
        similarity = self._images @ _unit((vector - self._centre) @ self._whitening)
        nearest = np.argsort(-similarity, kind="stable")[:NEAREST]
        weights = np.exp((similarity[nearest] - similarity[nearest[0]]).astype(np.float64) / TEMPERATURE)
        return nearest, weights / weights.sum()

    @cached_property
    def _ids(self) -> NgramIds:
        return NgramIds(self._tokens, self._lengths)

    @cached_property
    def _frequencies(self) -> DocumentFrequencies:
        return DocumentFrequencies(self._ids.counts, np.repeat(np.arange(len(self._number)), self._number))


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


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Of length 1 along the last dimension; zero vectors stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _parts(images: int) -> list[slice]:
    return [slice(start, start + IMAGES_AT_ONCE) for start in range(0, images, IMAGES_AT_ONCE)]


def _misfit(r: Remembered) -> str:
    """Why the arrays do not fit together; empty when they do."""
    kinds = zip(r, (1, 2, 2, 1, 1, 1), (True, True, True, False, False, False), strict=True)
    if any(tensor.dim() != dimensions or tensor.is_floating_point() != real for tensor, dimensions, real in kinds):
        return "a tensor has another shape or type"
    channels = len(r.centre)
    if r.images.shape != (len(r.number), channels) or r.whitening.shape != (channels, channels):
        return "sizes differ"
    if len(r.number) < 2:
        return f"there are {len(r.number)}, document frequencies need two"
    for counts, of in ((r.number, r.lengths), (r.lengths, r.tokens)):
        if len(counts) == 0 or int(counts.min()) < 1 or int(counts.sum()) != len(of):
            return "captions are incomplete"
    return "" if int(r.tokens.min()) >= 0 else "tokens are negative"
