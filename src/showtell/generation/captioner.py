"""The captioner: images in, captions out, with a model loaded from a bundle."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from showtell.core.errors import UserError
from showtell.core.files import fingerprint
from showtell.core.precision import autocast, device
from showtell.core.tensor_files import tensors_hash
from showtell.data.transform import load_image
from showtell.generation.bundle import load_bundle, load_models
from showtell.generation.choices import Hypothesis
from showtell.generation.confidence import Confidence, reason_against
from showtell.generation.decoding import attention_of, search_together
from showtell.generation.image_inputs import Picture, as_picture, is_single
from showtell.generation.model import Model, check_detector
from showtell.generation.neighbour_words import NeighbourWords
from showtell.generation.neighbours import Neighbours
from showtell.generation.search_params import PLAIN, SearchParams

IMAGES_PER_BATCH = 32  # image files captioned together; bounds memory, does not change results


@dataclass(frozen=True)
class Caption:
    """One generated caption. `words` are those of `text`; `attention` (word, cell) is the attention for each word.

    The centre of a cell's receptive field is offset from the cell's middle by `shift`, right and down, a fraction of
    the image. `confidence`: the probability that it is at least as good as the model's median caption of val (CIDEr-D);
    `truth`: the probability that all it states of objects and colours is true; None where no caption of val is as
    unlikely as this one. Both are None where the model was not calibrated, or with other search settings than it was
    calibrated for. `abstained`: why the caption was withheld (then text and words are empty); None when it was not. Of
    an image's several captions only the first has attention and confidence.
    """

    text: str
    words: list[str] = field(hash=False)
    logprob: float  # natural log, the end of the caption included when `finished`
    score: float  # (logprob + bonuses) / length ** penalty, with `search.consensus` more: beams are ranked by it
    finished: bool
    attention: np.ndarray | None = field(compare=False)
    shift: float = 0.0
    probabilities: Sequence[float] = field(default=(), hash=False)  # of each word, by the model
    confidence: float | None = None
    truth: float | None = None
    abstained: str | None = None

    @property
    def length(self) -> int:
        """Number of tokens, the end token counted."""
        return len(self.words) + self.finished

    def unless_unsure(self, least: float | None) -> "Caption":
        """This caption; if its confidence is below `least`, an empty one with the reason."""
        if least is None or self.confidence is None or (reason := reason_against(self.confidence, least)) is None:
            return self
        return replace(self, text="", words=[], probabilities=[], attention=None, abstained=reason)


class Encoded(NamedTuple):
    """Encoded images, the input of `decode`."""

    features: tuple[Tensor, ...]  # of each model, (image, ...)
    names: tuple[int, ...]  # a hash of each image's pixels: with the seed it determines what is sampled


class Captioner:
    """Captions images. `Captioner.load(folder).caption([path, ...])`.

    `search`: the search settings, which single calls can override; `load` uses those that the model was scored with.
    `others`: further models with the same vocabulary (an ensemble). Each encodes the images itself; a word's log
    probability is the mean over the models, normalised; attention is the first model's.
    `confidence`: the calibration for captions of these models with the settings of `search`.
    `neighbours`: training images as `model` encodes them, which `search.consensus`, `search.neighbour_ngrams` and
    `search.neighbour_bonus` need, and `search.detection_weight` where `model` has no detector of words.
    """

    def __init__(
        self, model: Model, search: SearchParams = PLAIN, others: Sequence[Model] = (),
        confidence: Confidence | None = None, neighbours: Neighbours | None = None,
    ):  # fmt: skip
        self.model, self.search, self.models = model, search, (model, *others)
        self.confidence, self.neighbours = confidence, neighbours
        self.head: int | None = None  # head whose attention captions have; None: the mean over heads
        for other in others:
            if other.vocabulary.hash != model.vocabulary.hash:
                theirs, ours = other.vocabulary, model.vocabulary
                raise UserError(
                    f"models of an ensemble need one vocabulary: {ours.hash} has {len(ours)} words, {theirs.hash} "
                    f"has {len(theirs)}"
                )

    @classmethod
    def load(cls, folder: Path | str, *others: Path | str) -> "Captioner":
        """The bundle in `folder`, with its settings, and all models of further bundles; `UserError` when one is not a
        bundle, or parts do not fit each other."""
        bundle = load_bundle(folder)
        confidence = None if others else bundle.confidence  # it was calibrated without them
        together = [*bundle.others, *(model for other in others for model in load_models(other))]
        return cls(bundle.model, bundle.search, together, confidence, bundle.neighbours)

    def searching(self, search: SearchParams) -> "Captioner":
        """The same models with other settings, and without a calibration, which would not be theirs."""
        return Captioner(self.model, search, self.models[1:], neighbours=self.neighbours)

    @property
    def neighbours_in_use(self) -> Neighbours | None:
        """The training images, if the settings of `search` use them."""
        return self.neighbours if self.search.uses_images(self.model.detector is not None) else None

    def settings_hash(self) -> str:
        """A hash of what determines its captions beside the models: settings of the search (but precision, which
        changes rounding alone), and the training images that they use."""
        settings, used = self.search.model_dump(exclude={"precision"}), self.neighbours_in_use
        return fingerprint(settings, tensors_hash(used.remembered._asdict()) if used is not None else None)

    def show_head(self, head: int | None) -> None:
        """Give captions the attention of one head, counted from 0, or (None) the mean over all.

        `UserError` for a head that does not exist.
        """
        heads = self.model.decoder.heads
        if head is not None and not 0 <= head < heads:
            raise UserError(f"attention head {head}: this model has {heads}, counted from 0")
        self.head = head

    def check_confidence(self, least: float | None, **settings: Any) -> None:
        """`UserError` when captions cannot be withheld below a confidence of `least` with these `settings` of the
        search; with None no check is made."""
        if least is None:
            return
        if not isinstance(least, int | float) or not 0 <= least <= 1:
            raise UserError(f"min_confidence = {least!r}: must be 0 to 1")
        if self.confidence is None and len(self.models) > 1:
            raise UserError("min_confidence: it is not known of models that were not scored together")
        if self.confidence is None:
            raise UserError("min_confidence: this model does not know its own; `dvc repro` measures it (evaluate)")
        asked = self.search.override(**settings)
        if not self._measured(asked):
            known = self.search.model_dump().items()
            own = {key: value for key, value in known if key in settings and value != getattr(asked, key)}
            told = ", ".join(f"{key} = {'null' if value is None else value}" for key, value in own.items())
            raise UserError(f"min_confidence: it was measured with {told}; leave those settings as they are")

    def _measured(self, search: SearchParams) -> bool:
        """Whether the confidence was calibrated for captions of `search`; precision does not count."""
        return search.model_copy(update={"precision": self.search.precision}) == self.search

    def caption(
        self, images: Iterable[Picture], attention: bool = True, min_confidence: float | None = None, **settings: Any
    ) -> list[Caption]:
        """The best caption of each image; `settings` are fields of `SearchParams` that replace the model's own.

        With `min_confidence` (0 to 1) captions with less confidence are withheld: `abstained` says why.

        An image is a path, the bytes of a file, a Pillow image, an array (height, width[, 3]) or a tensor
        (3 or 1, height, width), RGB: uint8 0-255, or floating point 0-1. `UserError` for one that cannot be read.
        """
        return [best[0] for best in self.n_best(images, 1, attention, min_confidence, **settings)]

    def n_best(
        self, images: Iterable[Picture], n_best: int = 5, attention: bool = True, min_confidence: float | None = None,
        **settings: Any,
    ) -> list[list[Caption]]:  # fmt: skip
        """The `n_best` best captions of each image, best first, or as many samples; otherwise as `caption`.

        Where the best is withheld, it is the only one.
        """
        return list(self.stream(images, n_best, attention, min_confidence, **settings))

    def stream(
        self, images: Iterable[Picture], n_best: int = 1, attention: bool = True, min_confidence: float | None = None,
        **settings: Any,
    ) -> Iterator[list[Caption]]:  # fmt: skip
        """As `n_best`, one image after the other. Few images are taken from `images` at a time, since all together may
        not fit into memory."""
        if is_single(images):
            raise UserError("caption takes several images: put a single one in a list, caption([image])")
        self.check_confidence(min_confidence, **settings)
        self._check_used(settings, self._settings(n_best, settings))
        squares = (self._squares(load_image(as_picture(image))) for image in images)
        while batch := list(islice(squares, IMAGES_PER_BATCH)):
            pixels = [torch.from_numpy(np.stack(column)) for column in zip(*batch, strict=True)]
            for first, *more in self.decode(self.encode(*pixels), n_best, attention, **settings):
                first = first.unless_unsure(min_confidence)
                yield [first, *more] if first.abstained is None else [first]

    def _settings(self, n_best: int, settings: Mapping[str, Any]) -> SearchParams:
        """Those of the search with `settings` replaced; `UserError` where it cannot run with them, or not find `n_best`
        captions."""
        search = self.search.override(**settings)
        search.check_n_best(n_best)
        if (key := search.needs_images) is not None and self.neighbours is None:
            value = getattr(search, key)
            raise UserError(f"{key} = {value:g}: this model remembers no training images; set it to 0")
        return search

    def _check_used(self, settings: Mapping[str, Any], search: SearchParams) -> None:
        """`UserError` for weights among `settings` that would change nothing, with these models or this method."""
        if settings.get("detection_weight") and self.neighbours is None:
            check_detector(self.models, search.detection_weight)
        for key, reason in search.unread.items():
            if settings.get(key):
                raise UserError(f"{key} = {settings[key]:g}: {reason}")

    def _squares(self, picture: Image.Image) -> list[np.ndarray]:
        """The image transformed for each model."""
        made = {transform: transform(picture) for transform in {model.transform for model in self.models}}
        return [made[model.transform] for model in self.models]

    def encode(self, *pixels: Tensor) -> Encoded:
        """Transformed images uint8 (image, 3, height, width), one tensor per model or one for all, encoded for
        `decode`."""
        if len(pixels) == 1:
            pixels *= len(self.models)
            for model in self.models:
                if model.transform != self.model.transform:
                    ours, theirs = self.model.transform, model.transform
                    raise UserError(f"the models take different images: {ours.to_dict()} and {theirs.to_dict()}")
        features = tuple(model.encode(own) for model, own in zip(self.models, pixels, strict=True))
        return Encoded(features, tuple(map(_name, pixels[0].cpu().numpy())))

    @torch.inference_mode()
    def decode(self, encoded: Encoded, n_best: int = 1, attention: bool = True, **settings: Any) -> list[list[Caption]]:
        """Captions of encoded images, the `n_best` best of each, best first. `settings` as in `caption`."""
        search = self._settings(n_best, settings)
        features, weight = encoded.features, search.detection_weight
        similar = self._similar_words if weight and self.model.detector is None else None
        decoders = [self.model.speaking(weight, similar), *(model.speaking(weight) for model in self.models[1:])]
        with autocast(search.precision):
            wanted = search.most if search.compares_images else n_best
            around = self.model.vocabulary.token(search.block_around)
            found = search_together(decoders, features, search, wanted, encoded.names, self.neighbours, around)
            if search.compares_images and self.neighbours is not None:
                chosen = self.neighbours.ranked(features[0], found, search.consensus)
                found = [hypotheses[:n_best] for hypotheses in chosen]
            best = [first for first, *_ in found]
            seen = attention_of(decoders[0], features[0], best, self.head) if attention else None
        confidence = self.confidence if self._measured(search) else None
        return [
            [self._caption(first, seen[image] if seen else None, confidence), *(self._caption(h) for h in more)]
            for image, (first, *more) in enumerate(found)
        ]

    @cached_property
    def _similar_words(self) -> NeighbourWords | None:
        if self.neighbours is None:
            return None
        return NeighbourWords(self.neighbours, len(self.model.vocabulary)).to(device())

    def _caption(
        self, hypothesis: Hypothesis, attention: np.ndarray | None = None, confidence: Confidence | None = None
    ) -> Caption:
        h, vocabulary = hypothesis, self.model.vocabulary
        words, text = vocabulary.decode(h.tokens), vocabulary.caption(h.tokens)
        probabilities = [min(1.0, math.exp(logprob)) for logprob in h.logprobs[: len(words)]]
        shift = self.model.encoder.shift
        caption = Caption(text, words, h.logprob, h.score, h.finished, attention, shift, probabilities)
        if confidence is None:
            return caption
        good, true = confidence.good.chance(h.logprob, caption.length), confidence.true
        if true is not None and true.covers(h.logprob, caption.length):
            caption = replace(caption, truth=true.chance(h.logprob, caption.length))
        return replace(caption, confidence=good)


def _name(pixels: np.ndarray) -> int:
    """A number that depends on the image's pixels alone."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=7).digest())
