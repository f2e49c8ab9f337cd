"""What people use: photographs in, captions out, by a bundle that was loaded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from showtell.core.errors import UserError
from showtell.core.precision import autocast
from showtell.data.transform import load_image
from showtell.generation.bundle import load_bundle
from showtell.generation.choices import Hypothesis
from showtell.generation.decoding import attention_of, search_captions
from showtell.generation.model import Model
from showtell.generation.pictures import Picture, as_picture, is_single
from showtell.generation.search_params import PLAIN, SearchParams

BATCH = 32  # photographs described side by side; bounds memory, changes no result


@dataclass(frozen=True)
class Caption:
    """One generated caption. `words` are those of `text`; `attention` (word, cell) is where each was looked for.

    What a cell sees lies around its middle, moved right and down by `shift`, a share of the picture.
    Of an image's several captions only the first knows its attention.
    """

    text: str
    words: list[str]
    logprob: float  # natural log, the end of the caption included when `finished`
    score: float  # logprob / length ** penalty: what ranks the beams
    finished: bool
    attention: np.ndarray | None
    shift: float = 0.0


class Captioner:
    """Describes images. `Captioner.load(folder).caption([path, ...])`.

    `search`: how, unless single settings are given with a call; `load` takes those that the model was scored with.
    """

    def __init__(self, model: Model, search: SearchParams = PLAIN):
        self.model, self.search = model, search
        self.head: int | None = None  # of the attention that captions carry; None: the mean of all heads

    @classmethod
    def load(cls, folder: Path | str) -> "Captioner":
        """The bundle in `folder`, with its settings; `UserError` when it is none or its parts do not fit."""
        return cls(*load_bundle(folder))

    def show_head(self, head: int | None) -> None:
        """Let captions carry the attention of one head, counted from 0, or (None) the mean of all.

        `UserError` for a head that there is not.
        """
        heads = self.model.decoder.heads
        if head is not None and not 0 <= head < heads:
            raise UserError(f"attention head {head}: this model has {heads}, counted from 0")
        self.head = head

    def caption(self, images: Iterable[Picture], attention: bool = True, **settings: Any) -> list[Caption]:
        """The best caption of each image; `settings` are fields of `SearchParams` that replace the model's own.

        An image is a path, the bytes of a file, a Pillow image, an array (height, width[, 3]) or a tensor
        (3 or 1, height, width), RGB: uint8 0-255, or floating point 0-1. `UserError` for one that cannot be read.
        """
        return [best[0] for best in self.n_best(images, 1, attention, **settings)]

    def n_best(
        self, images: Iterable[Picture], n_best: int = 5, attention: bool = True, **settings: Any
    ) -> list[list[Caption]]:
        """The `n_best` best captions of each image, best first; as `caption` otherwise."""
        return list(self.stream(images, n_best, attention, **settings))

    def stream(
        self, images: Iterable[Picture], n_best: int = 1, attention: bool = True, **settings: Any
    ) -> Iterator[list[Caption]]:
        """As `n_best`, one image's captions after the other. Few images are taken from `images` at a time: together
        they may be more than the memory holds."""
        if is_single(images):
            raise UserError("caption takes several images: put a single one in a list, caption([image])")
        squares = (self.model.transform(load_image(as_picture(image))) for image in images)
        while batch := list(islice(squares, BATCH)):
            yield from self.generate(torch.from_numpy(np.stack(batch)), n_best, attention, **settings)

    def generate(self, pixels: Tensor, n_best: int = 1, attention: bool = True, **settings: Any) -> list[list[Caption]]:
        """Captions of transformed images uint8 (image, 3, height, width)."""
        return self.decode(self.encode(pixels), n_best, attention, **settings)

    def encode(self, pixels: Tensor) -> Tensor:
        """Transformed images uint8 (image, 3, height, width) -> features, for `decode`."""
        return self.model.encode(pixels)

    @torch.inference_mode()
    def decode(self, features: Tensor, n_best: int = 1, attention: bool = True, **settings: Any) -> list[list[Caption]]:
        """Captions of encoded images, the `n_best` best of each, best first. `settings` as in `caption`."""
        search, decoder = self.search.override(**settings), self.model.decoder
        search.check_n_best(n_best)
        logit_bias = self.model.logit_bias(features, search.detection_weight)
        with autocast(search.precision):
            found = search_captions(decoder, features, search, n_best, logit_bias)
            best = [first for first, *_ in found]
            seen = attention_of(decoder, features, best, self.head) if attention else None
        return [
            [self._caption(h, seen[image] if seen and h is hypotheses[0] else None) for h in hypotheses]
            for image, hypotheses in enumerate(found)
        ]

    def _caption(self, hypothesis: Hypothesis, attention: np.ndarray | None) -> Caption:
        h, vocabulary = hypothesis, self.model.vocabulary
        words, text = vocabulary.decode(h.tokens), vocabulary.caption(h.tokens)
        return Caption(text, words, h.logprob, h.score, h.finished, attention, self.model.encoder.shift)
