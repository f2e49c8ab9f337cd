"""Rewards of sampled captions: CIDEr-D, optionally with BLEU-4, agreement with the captions of similar images, and the
truth about known objects.

References and document frequencies of CIDEr-D come from the training captions, in the vocabulary's words. Document
frequencies from other data or other words are the most common mistake of this method. The end token counts as a word in
hypotheses and references: without it in the reward, captions learn to break off ("a man riding a").
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from showtell.core.arrays import ragged
from showtell.core.errors import UserError
from showtell.core.texts import Index
from showtell.data.captions import CaptionFile
from showtell.data.vocabulary import Vocabulary
from showtell.generation.neighbours import Nearest
from showtell.metrics.annotations import Annotations
from showtell.metrics.behaviour import FUNCTION_WORDS
from showtell.metrics.bleu import BleuTargets, bleu
from showtell.metrics.cider import DocumentFrequencies, Targets, Vectors
from showtell.metrics.ngrams import Counts, NgramIds, flat
from showtell.metrics.objects import chair_counts, kinds
from showtell.metrics.statements import number_there, right_number


class Weights(NamedTuple):
    """Weights of a reward's terms."""

    cider: float  # of CIDEr-D, 0 to 10
    bleu4: float = 0.0  # of sentence BLEU-4, 0 to 1
    chair: float = 0.0  # taken off for the share of mentioned objects that are not in the image, 0 to 1
    truth: float = 0.0  # of the share of the image's objects that are named rightly, less that of untrue mentions
    odd_pairs: float = 0.0  # taken off for each function word before a word that no training caption has after it
    consensus: float = 0.0  # of CIDEr-D with the captions of the most similar other training images, 0 to 10
    length: float = 0.0  # taken off for each word above or below the mean of the image's references

    @property
    def needs_objects(self) -> bool:
        """Whether the image's objects must be known."""
        return bool(self.chair or self.truth)


class Rewards:
    """Rewards of captions of the training images."""

    def __init__(
        self, captions: CaptionFile, vocabulary: Vocabulary, weights: Weights,
        known: Annotations | None = None, similar: Nearest | None = None,
    ) -> None:  # fmt: skip
        """`captions` of the training images, two or more; `known`: what is in them, needed by `chair` and `truth`;
        `similar`: the training images most similar to each, needed by `consensus`."""
        if len(captions) < 2:
            raise UserError(f"rewards need two training images or more, here is {len(captions)}: CIDEr-D compares them")
        if weights.consensus and similar is None:
            raise ValueError("a reward for consensus needs the similar images")
        self.weights, self._vocabulary, self._captions, self._similar = weights, vocabulary, captions, similar
        self._rows = Index(captions.image_ids)
        tokens, lengths = self._references(ragged(captions.first, captions.number))
        self._ids = NgramIds(tokens, lengths)
        self._frequencies = DocumentFrequencies(self._ids.counts, np.repeat(np.arange(len(captions)), captions.number))
        del self._ids.counts  # n-grams of all training captions; those of a batch are counted again
        self._pairs = _FunctionPairs(vocabulary, tokens) if weights.odd_pairs else None
        self._known = _Known(known or Annotations(), captions.image_ids) if weights.needs_objects else None

    def _references(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (token) and lengths (reference) of training captions, without the start token."""
        tokens, lengths = self._captions.flat(places, skip=1)
        return tokens.astype(np.int64), lengths

    def __call__(self, image_ids: Sequence[str], captions: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
        """Rewards (image, sample) of `captions` [image][sample], tokens without start, with the end where it was
        generated.

        All images have the same number of samples. `UserError` for an image that is not a training image.
        """
        rows = np.array([self._row_of(image_id) for image_id in image_ids], np.int64)
        samples = [caption for of_image in captions for caption in of_image]
        image = np.repeat(np.arange(len(rows)), [len(of_image) for of_image in captions])  # (sample) its image
        words, lengths = flat(samples)
        total = self._by_references(rows, image, words, lengths)
        if self._similar is not None and self.weights.consensus:
            total += self.weights.consensus * self._agreement(self._similar, rows, image, words, lengths)
        if self._pairs is not None:
            total -= self.weights.odd_pairs * self._pairs.odd(words, lengths)
        if self._known is not None:
            said = zip(image.tolist(), samples, strict=True)
            total += [self._by_objects(image_ids[i], self._vocabulary.decode(caption)) for i, caption in said]
        return total.reshape(len(rows), -1)

    def _by_references(self, rows: np.ndarray, image: np.ndarray, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The terms of samples (sample) of the training images `rows` that their references decide, weighted."""
        known, theirs, layout, said = self._counted(rows[:, None], words, lengths)
        result = np.zeros(len(lengths))
        if self.weights.cider:
            targets = Targets(Vectors.of(known, theirs, self._frequencies), *layout)
            result += self.weights.cider * targets.scores(Vectors.of(said, lengths, self._frequencies), image)
        if self.weights.bleu4:
            result += self.weights.bleu4 * _bleu4(BleuTargets(known, theirs, *layout), said, lengths, image)
        if self.weights.length:
            of_reference, number = layout
            result -= self.weights.length * np.abs(lengths - (np.bincount(of_reference, theirs) / number)[image])
        return result

    def _agreement(
        self, similar: Nearest, rows: np.ndarray, image: np.ndarray, words: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """CIDEr-D of samples (sample) with the captions of images that are similar to theirs, by weight."""
        near = similar.rows[rows]  # (image, neighbour)
        known, theirs, layout, said = self._counted(near, words, lengths)
        targets = Targets(Vectors.of(known, theirs, self._frequencies), *layout)
        number = self._captions.number[near]
        share = similar.weights[rows] / np.maximum(number, 1)  # of each caption; some images may have none
        weights = np.repeat(share.ravel(), number.ravel())  # (reference)
        return targets.scores(Vectors.of(said, lengths, self._frequencies), image, weights)

    def _counted(
        self, near: np.ndarray, words: np.ndarray, lengths: np.ndarray
    ) -> tuple[list[Counts], np.ndarray, tuple[np.ndarray, np.ndarray], list[Counts]]:
        """Each image has the captions of the training images `near` (image, any number) as its references: their
        counts, lengths, and layout as in `Targets`; and the counts of samples."""
        number = self._captions.number[near]
        tokens, theirs = self._references(ragged(self._captions.first[near].ravel(), number.ravel()))
        known, said = self._ids.count_both((tokens, theirs), (words, lengths))
        of_image = number.sum(axis=1)
        return known, theirs, (np.repeat(np.arange(len(near)), of_image), of_image), said

    def _row_of(self, image_id: str) -> int:
        for row in self._rows.find(image_id):
            if self._captions.image_ids[row] == image_id:
                return row
        raise UserError(f"image {image_id} is none of the training images, so its captions have no references")

    def _by_objects(self, image_id: str, words: Sequence[str]) -> float:
        """The terms of a caption's reward that its image's objects decide."""
        assert self._known is not None  # given whenever one of these weights is not 0
        found = self._known.outcome(image_id, words)
        return self.weights.truth * (found.told - found.untrue) - self.weights.chair * found.absent


def _bleu4(targets: BleuTargets, said: Sequence[Counts], lengths: np.ndarray, image: np.ndarray) -> np.ndarray:
    return bleu(targets.statistics(said, lengths, image))[:, 3]


class _FunctionPairs:
    """The pairs of a function word and the token after it, the end token included, in the training captions.

    Other pairs ("a orange", "in a <end>") are mistakes of grammar, which scores of n-grams hardly notice. Pairs of two
    content words may be new: "purple umbrella".
    """

    def __init__(self, vocabulary: Vocabulary, tokens: np.ndarray) -> None:
        """`tokens` (token) of the training captions, concatenated, each with its end."""
        function = [number for number, word in enumerate(vocabulary.words) if word in FUNCTION_WORDS]
        self._function = np.array(function, np.int64)
        self._known = np.unique(self._pairs(tokens)[np.isin(tokens[:-1], self._function)])

    @staticmethod
    def _pairs(tokens: np.ndarray) -> np.ndarray:
        return tokens[:-1] << 32 | tokens[1:]

    def odd(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """How many other such pairs each caption has (caption); tokens (token) and lengths (caption) as in `flat`."""
        caption = np.repeat(np.arange(len(lengths)), lengths)
        within = (caption[:-1] == caption[1:]) & np.isin(tokens[:-1], self._function)
        odd = within & ~np.isin(self._pairs(tokens), self._known)
        return np.bincount(caption[:-1][odd], minlength=len(lengths))


class _Outcome(NamedTuple):
    """Of one caption, each from 0 to 1."""

    absent: float  # CHAIR: the share of its mentions of objects that are not in the image
    untrue: float  # the share of its mentions that are absent, of another colour or number, or of more than are left
    told: float  # the share of the image's objects, equal ones as one, that it names with their colour and in number


class _Known:
    """The known objects of the training images."""

    def __init__(self, annotations: Annotations, wanted: Sequence[str]) -> None:
        missing = next((image_id for image_id in wanted if image_id not in annotations.images), None)
        if missing is not None:
            raise UserError(
                "reinforce.chair and reinforce.truth need to know what is in the pictures, and nothing is known of "
                f"image {missing}; set them to 0 for this dataset"
            )
        self._annotations = annotations

    def outcome(self, image_id: str, words: Sequence[str]) -> _Outcome:
        objects, said = self._annotations.objects(image_id), self._annotations.statements(words)
        absent = chair_counts([statement.mention for statement in said], kinds(objects)).absent
        groups = {(item["kind"], item["colour"]) for item in objects}  # equal ones are told together: "two red balls"
        left = Counter((item["kind"], colour) for item in objects for colour in {None, item["colour"]})  # None: any
        told: set[tuple[str, str | None]] = set()
        false = 0
        for statement in said:
            kind, colour = statement.mention.kind, statement.colour
            number = statement.number or (number_there(statement, objects) if statement.mention.plural else 1)
            named = {(kind, None), (kind, colour)}
            # "a dog and a white dog" of one dog: more are named than are there
            if min(left[things] for things in named) >= number and right_number(statement, objects):
                told.add((kind, colour))
            else:
                false += 1
            left.subtract(dict.fromkeys(named, number))
        number = max(len(said), 1)
        return _Outcome(absent / number, false / number, len(told & groups) / max(len(groups), 1))
