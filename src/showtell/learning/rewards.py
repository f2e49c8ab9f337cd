"""What a caption that the decoder drew is worth: CIDEr-D, and on request BLEU-4 and CHAIR, of tokens as they are.

References are the training captions in the vocabulary's words, and so are the document frequencies of CIDEr-D: a table
made elsewhere, of other words, is the commonest fault of this kind of learning. The end token is a word like any other,
in hypotheses and references alike; left out of the reward, captions learn to break off ("a man riding a").
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from showtell.core.errors import UserError
from showtell.core.texts import Index, ragged
from showtell.data.captions import CaptionFile
from showtell.data.vocabulary import Vocabulary
from showtell.metrics.bleu import BleuTargets, bleu
from showtell.metrics.cider import DocumentFrequencies, Targets, Vectors
from showtell.metrics.ngrams import Counts, NgramIds
from showtell.metrics.objects import Names, chair_counts, kinds
from showtell.metrics.statements import is_true, statements


class Weights(NamedTuple):
    """Of the parts of a reward: CIDEr-D (0 to 10), sentence BLEU-4 (0 to 1), and what is subtracted for the share of
    things mentioned that are not in the picture (0 to 1)."""

    cider: float
    bleu4: float = 0.0
    chair: float = 0.0
    untrue: float = 0.0  # likewise for things not there in the colour they are said to have, or named before


class Rewards:
    """Rewards of captions of the training images. `objects`: `objects.json`, needed where CHAIR has a weight."""

    def __init__(
        self, captions: CaptionFile, vocabulary: Vocabulary, weights: Weights,
        objects: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`captions` of the training images; `UserError` for fewer than two, or where CHAIR knows no things."""
        if len(captions) < 2:
            raise UserError(f"rewards need two training images or more, here is {len(captions)}: CIDEr-D compares them")
        self.weights, self._vocabulary, self._captions = weights, vocabulary, captions
        self._rows = Index(captions.image_ids)
        self._ids = NgramIds(*self._references(ragged(captions.first, captions.number)))
        self._frequencies = DocumentFrequencies(self._ids.counts, np.repeat(np.arange(len(captions)), captions.number))
        del self._ids.counts  # of all training captions: what is needed of them is counted again
        self._known = _Known(objects or {}, captions.image_ids) if weights.chair or weights.untrue else None

    def _references(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (token) and lengths (reference) of training captions; the start says nothing and is left out."""
        tokens, lengths = self._captions.flat(places, skip=1)
        return tokens.astype(np.int64), lengths

    def __call__(self, image_ids: Sequence[str], captions: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
        """Rewards (image, sample) of `captions` [image][sample], tokens without start, with the end where it was said.

        Every image has as many samples. `UserError` for an image that is none of the training images.
        """
        rows = np.array([self._row_of(image_id) for image_id in image_ids], np.int64)
        samples = [caption for of_image in captions for caption in of_image]
        image = np.repeat(np.arange(len(rows)), [len(of_image) for of_image in captions])  # (sample) its image
        total = self._by_references(rows, image, *flat(samples))
        if self._known is not None:
            said = zip(image.tolist(), samples, strict=True)
            total -= [self._false(image_ids[i], self._vocabulary.decode(caption)) for i, caption in said]
        return total.reshape(len(rows), -1)

    def _by_references(self, rows: np.ndarray, image: np.ndarray, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """CIDEr-D and BLEU-4, weighted, of samples (sample) of the training images `rows`."""
        number = self._captions.number[rows]
        own, theirs = self._references(ragged(self._captions.first[rows], number))
        # Counted in one call: an n-gram that no training caption has gets the same id wherever it occurs.
        counts = self._ids.count(np.concatenate([own, words]), np.concatenate([theirs, lengths]))
        parts = [of_order.split(len(theirs)) for of_order in counts]
        known, said = [known for known, _ in parts], [said for _, said in parts]
        layout = np.repeat(np.arange(len(rows)), number), number
        result = np.zeros(len(lengths))
        if self.weights.cider:
            targets = Targets(Vectors.of(known, theirs, self._frequencies), *layout)
            result += self.weights.cider * targets.scores(Vectors.of(said, lengths, self._frequencies), image)
        if self.weights.bleu4:
            result += self.weights.bleu4 * _bleu4(BleuTargets(known, theirs, *layout), said, lengths, image)
        return result

    def _row_of(self, image_id: str) -> int:
        for row in self._rows.find(image_id):
            if self._captions.image_ids[row] == image_id:
                return row
        raise UserError(f"image {image_id} is none of the training images, so its captions have no references")

    def _false(self, image_id: str, words: Sequence[str]) -> float:
        """What is taken off for what a caption says that is not so."""
        assert self._known is not None  # with a weight for it things are known
        taken, weights = 0.0, self.weights
        if weights.chair:
            taken += weights.chair * self._known.absent(image_id, words)
        if weights.untrue:
            taken += weights.untrue * self._known.untrue(image_id, words)
        return taken


def _bleu4(targets: BleuTargets, said: Sequence[Counts], lengths: np.ndarray, image: np.ndarray) -> np.ndarray:
    return bleu(targets.statistics(said, lengths, image))[:, 3]


class _Known:
    """What is known of the training images."""

    def __init__(self, objects: Mapping[str, Any], wanted: Sequence[str]) -> None:
        images = objects.get("images") or {}
        missing = next((image_id for image_id in wanted if image_id not in images), None)
        if missing is not None:
            raise UserError(
                "reinforce.chair and reinforce.untrue need to know what is in the pictures, and nothing is known of "
                f"image {missing}; set them to 0 for this dataset"
            )
        self._names, self._colours = Names(objects["names"]), objects.get("colours", {})
        self._things = {image_id: images[image_id]["objects"] for image_id in wanted}

    def absent(self, image_id: str, words: Sequence[str]) -> float:
        """CHAIR of one caption: the share of its mentions of things that are not in the picture."""
        counts = chair_counts(self._names.mentions(words), kinds(self._things[image_id]))
        return counts.absent / counts.mentions if counts.mentions else 0.0

    def untrue(self, image_id: str, words: Sequence[str]) -> float:
        """The share of its mentions of things that are not in the picture, not in the colour said, or named before."""
        said = statements(words, self._names.mentions(words), self._colours)
        named: set[str] = set()
        false = 0
        for statement in said:  # "a dog and a white dog": nobody names one thing twice, and two are "two dogs"
            false += statement.mention.kind in named or not is_true(statement, self._things[image_id])
            named.add(statement.mention.kind)
        return false / len(said) if said else 0.0


def flat(captions: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens one after another (token) and the lengths (caption), int64."""
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    return np.fromiter(chain.from_iterable(captions), np.int64, int(lengths.sum())), lengths
