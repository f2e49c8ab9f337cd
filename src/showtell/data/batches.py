"""Images with all their captions, as padded batches.

An image and all its captions stay together: its features are read, projected and attended to once for all of them.
"""

import copy
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from showtell.core import paths
from showtell.core.arrays import ragged
from showtell.core.errors import UserError
from showtell.core.files import fingerprint
from showtell.core.precision import accelerated
from showtell.core.processes import fair, share
from showtell.data.captions import CaptionFile
from showtell.data.store import RowReader
from showtell.data.vocabulary import PAD


class Batch(NamedTuple):
    """`images`: rows of the store, uint8 pictures or float16 features (image, ...); tokens (image, caption, step).

    The first dimension of every field is the image, so that a part of a batch is the same slice of each.

    The mask stays in processor memory: networks read it to choose what to compute, and reading a tensor from an
    accelerator waits for all its queued work.
    """

    images: Tensor
    inputs: Tensor  # tokens without the last
    targets: Tensor  # tokens without the first
    mask: Tensor  # True where the input is real; False throughout for a caption that an image does not have
    image_ids: Sequence[str] = ()  # as in the store

    def to(self, device: torch.device) -> "Batch":
        images, inputs, targets = (tensor.to(device, non_blocking=True) for tensor in self[:3])
        return Batch(images, inputs, targets, self.mask, self.image_ids)

    def images_at(self, rows: slice) -> "Batch":
        """Only these images."""
        of_each = self.inputs[rows], self.targets[rows], self.mask[rows], self.image_ids[rows]
        return Batch(self.images[rows], *of_each)


class Images(Dataset):
    """A dataset of images with a length."""

    def __len__(self) -> int:
        raise NotImplementedError


class CaptionedImages(Images):
    """The images of one split that the store holds, with their captions."""

    def __init__(self, captions: Path, store: RowReader, mirrored: RowReader | None = None):
        """`mirrored`: rows of the same images, mirrored; in `drawn` half of the images have these."""
        entries = CaptionFile(captions)
        self.store, self.mirrored = store, mirrored
        self._flipped: np.ndarray | None = None  # (image) whether its row is the mirrored one; None: of no image
        self.entries = entries if entries.image_ids == store.ids else entries.only(_rows(entries, store))
        self._first, self._number = self.entries.first, self.entries.number  # (image) in `_places`
        self._places: np.ndarray | None = None  # (caption) in the file, where some are sampled; None: all in order

    @property
    def fingerprint(self) -> str:
        """A hash of the images, their features or pixels, and their captions, tokens and texts."""
        content = hashlib.sha256(self.entries.image_ids.content.data)
        content.update(self.entries.text_sums.astype(np.uint32).data)
        for block in self.entries.blocks():
            for part, kind in zip(block, (np.uint32, np.int64, np.int64), strict=True):
                content.update(part.astype(kind).data)
        return fingerprint(dict(self.store.attrs), content.hexdigest())

    def __len__(self) -> int:
        return len(self.store)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The images at `indices`, in that order, each with its captions, longest first."""
        rows = self.store.rows(indices)
        if self._flipped is not None and self.mirrored is not None:
            flipped = self._flipped[indices]
            rows[flipped] = self.mirrored.rows(np.asarray(indices)[flipped].tolist())
        captions = [sorted(self.captions(index), key=len, reverse=True) for index in indices]
        return Batch(torch.from_numpy(rows), *pad(captions), [self.store.ids[index] for index in indices])

    def captions(self, image: int) -> list[np.ndarray]:
        """Tokens (token), with start and end, of each caption of an image."""
        places = range(self._first[image], self._first[image] + self._number[image])
        return self.entries.tokens(places if self._places is None else self._places[places])

    def drawn(self, captions: int | None, seed: int, epoch: int) -> "CaptionedImages":
        """The same images with at most `captions` of their captions, sampled for every epoch; None: with all.

        With `mirrored` half of the images are mirrored, sampled likewise.
        """
        if captions is None and self.mirrored is None:
            return self
        few = copy.copy(self)
        if self.mirrored is not None:
            few._flipped = np.random.default_rng([seed, epoch]).random(len(self)) < 0.5
        if captions is None:
            return few
        rng = np.random.default_rng([seed, epoch, captions])
        few._number = np.minimum(self._number, captions)
        few._first = np.cumsum(few._number) - few._number
        few._places = ragged(self._first, few._number)
        for image in np.flatnonzero(self._number > captions):
            start, chosen = few._first[image], rng.permutation(self._number[image])[:captions]
            few._places[start : start + captions] = self._first[image] + chosen
        return few

    def longest(self) -> np.ndarray:
        """Tokens of the longest caption of each image (image)."""
        places = ragged(self._first, self._number)
        lengths = self.entries.lengths(places if self._places is None else self._places[places])
        return np.maximum.reduceat(lengths, np.cumsum(self._number) - self._number)


def captioned_images(split: str) -> CaptionedImages:
    """The images of a split, as `resize` stored them, with their captions."""
    return CaptionedImages(paths.split_json(split), RowReader(paths.split_images(split), "images"))


def _rows(entries: CaptionFile, store: RowReader) -> np.ndarray:
    """The indices in `entries` of the store's rows (image); the order is the same, some may be left out."""
    rows, known = np.empty(len(store.ids), np.int64), enumerate(entries.image_ids)
    for position, image_id in enumerate(store.ids):
        row = next((row for row, other in known if other == image_id), None)
        if row is None:
            raise UserError(
                f"{store.path} holds image {image_id}, {entries.path} does not, or elsewhere; run `dvc repro`"
            )
        rows[position] = row
    return rows


def pad(captions: Sequence[Sequence[Sequence[int] | np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and mask (image, caption, step) of each image's token sequences (start and end included)."""
    most = max(len(sequences) for sequences in captions)
    longest = max(len(tokens) for sequences in captions for tokens in sequences)
    padded = np.full((len(captions), most, longest), PAD, dtype=np.int64)
    lengths = np.zeros((len(captions), most), dtype=np.int64)
    for image, sequences in enumerate(captions):
        for caption, tokens in enumerate(sequences):
            padded[image, caption, : len(tokens)] = tokens
            lengths[image, caption] = len(tokens)
    mask = np.arange(longest - 1) < (lengths - 1)[..., None]
    return torch.from_numpy(padded[..., :-1].copy()), torch.from_numpy(padded[..., 1:].copy()), torch.from_numpy(mask)


def shuffled(count: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch: a function of seed and epoch, so that a resumed run gets the same batches."""
    order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return [order[start : start + size] for start in range(0, count, size)]


def in_order(count: int, size: int) -> list[list[int]]:
    """All indices once, in order."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def load_batches(dataset: Dataset, batches: Sequence[list[int]]) -> DataLoader:
    """Iterate over `batches` (lists of indices).

    Reading is fast compared with the networks, so it happens in this process. SHOWTELL_WORKERS=n moves it to n worker
    processes, SHOWTELL_START selects their start method (fork, spawn or forkserver; Python's default otherwise). The
    batches do not depend on either.
    """
    workers = _workers()
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_whole,
        num_workers=workers,
        multiprocessing_context=_start_method() if workers else None,
        pin_memory=accelerated(),
        generator=torch.Generator(),  # its own, so that the loader does not advance the generator of dropout
    )


def every_image(dataset: Images, size: int) -> DataLoader:
    """This process's share of all images, in order, at most `size` at a time; shares are ordered by rank."""
    return load_batches(dataset, share(in_order(len(dataset), fair(len(dataset), size))))


def _workers() -> int:
    asked = os.environ.get("SHOWTELL_WORKERS") or "0"
    if not asked.isdecimal():
        raise UserError(f"SHOWTELL_WORKERS = {asked!r}: a number of processes, 0 or more")
    return int(asked)


def _start_method() -> str | None:
    asked, known = os.environ.get("SHOWTELL_START") or None, multiprocessing.get_all_start_methods()
    if asked is not None and asked not in known:
        raise UserError(f"SHOWTELL_START = {asked!r}: one of {', '.join(known)}")
    return asked


def training_batches(
    dataset: CaptionedImages, size: int, seed: int, captions: int | None = None
) -> Callable[[int], DataLoader]:
    """The shuffled batches of an epoch, as a function of its number; `captions` of each image as in `drawn`.

    Within a batch images with long captions come first: decoders then stop early for the others.
    """

    def epoch_batches(epoch: int) -> DataLoader:
        drawn, batches = dataset.drawn(captions, seed, epoch), shuffled(len(dataset), size, seed, epoch)
        longest = drawn.longest()
        return load_batches(drawn, [sorted(batch, key=longest.__getitem__, reverse=True) for batch in batches])

    return epoch_batches


def _whole(batch: Any) -> Any:
    return batch
