"""Captioners for `evaluate`, with the training images that they remember for the search."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from showtell.core.arrays import evenly_spaced, ragged
from showtell.core.processes import all_gather, share
from showtell.core.progress import track
from showtell.data.batches import CaptionedImages
from showtell.data.store import RowReader
from showtell.encoders.features import ENCODED_PER_BATCH, feature_attrs, feature_name
from showtell.generation.bundle import load_model
from showtell.generation.captioner import Captioner
from showtell.generation.model import Model
from showtell.generation.neighbours import Neighbours, pooled
from showtell.generation.search_params import SearchParams


@dataclass
class Memory:
    """What can be remembered. Models with the same encoder share what they remember."""

    train: CaptionedImages  # images
    stored: Path  # a store of their features, by the encoder before fine-tuning
    most: int  # images that are remembered at most
    made: dict[str, Neighbours] = field(default_factory=dict, init=False)  # by the hash of the encoder

    def captioner(
        self, folder: Path, search: SearchParams, others: Iterable[Path] = (), tried: Sequence[SearchParams] = ()
    ) -> Captioner:
        """The model in `folder`, an ensemble with those in `others`; it remembers training images if `search`, or one
        of the settings that are `tried`, uses them."""
        model, neighbours = load_model(folder), None
        if any(settings.uses_images(model.detector is not None) for settings in (search, *tried)):
            encoder = model.encoder.hash()
            neighbours = self.made[encoder] = self.made.get(encoder) or self.of(model)
        return Captioner(model, search, [load_model(other) for other in others], neighbours=neighbours)

    def of(self, model: Model) -> Neighbours:
        """The training images that have captions, or as many as allowed, evenly spaced, as `model` encodes them.

        Their features are read from the store if it is of the same encoder, and computed otherwise. The processes share
        the images.
        """
        entries, images = self.train.entries, self.train.store
        rows = np.flatnonzero(entries.number)
        rows = rows[evenly_spaced(len(rows), self.most)]
        features = RowReader(self.stored, feature_name(model.encoder))
        there = features.attrs == feature_attrs(model.encoder, images)

        def encoded(block: list[int]) -> np.ndarray:
            read = torch.from_numpy((features if there else images).rows(block))
            return pooled(read if there else model.encode(read))

        blocks = [rows[start : start + ENCODED_PER_BATCH].tolist() for start in range(0, len(rows), ENCODED_PER_BATCH)]
        vectors = all_gather([encoded(block) for block in track(share(blocks), "remember")])
        tokens, lengths = entries.flat(ragged(entries.first[rows], entries.number[rows]), skip=1)
        return Neighbours.of(np.concatenate(vectors), entries.number[rows], lengths, tokens)
