"""Drawn scenes for training an encoder: transformed images, and labels of their content."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from showtell.core.files import fingerprint
from showtell.core.machine import cores
from showtell.core.params import Section
from showtell.core.progress import track
from showtell.data.batches import Images, load_batches, shuffled
from showtell.data.datasets.scenes.generate import make
from showtell.data.scene_labels import FIELDS, KIND, THINGS, labels
from showtell.data.store import RowReader, RowWriter
from showtell.data.transform import Transform, load_image

PICTURES_PER_JOB = 64  # pictures per job of a worker process
STORES = ("pictures", "labels")
INLINE = 200  # fewer pictures than this are drawn in this process: starting workers takes longer


class DrawnParams(Section):
    """The scenes for training an encoder. They are training scenes: none has a pair that is held out for test."""

    seed: int = Field(ge=0, description="of the scenes; another one than those have that the encoder is to describe")
    train: int = Field(ge=1, le=1_000_000, description="pictures to learn from")
    val: int = Field(ge=1, le=1_000_000, description="pictures to validate on")
    drawn_size: int = Field(ge=64, le=448, description="width and height of the drawn pictures, pixels")
    size: int = Field(ge=64, le=448, description="width and height of the pictures as the encoder sees them, pixels")
    any_colours: float = Field(ge=0, le=1, description="share of the pictures with things in any colour")


class LabelledBatch(NamedTuple):
    """`images` uint8 (image, 3, height, width); `labels` float32 (image, thing, field), the last thing the scene;
    `mask` (image, thing, 1), True for real things, in the processor's memory."""

    images: Tensor
    labels: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "LabelledBatch":
        images, labels = (tensor.to(device, non_blocking=True) for tensor in self[:2])
        return LabelledBatch(images, labels, self.mask)

    def images_at(self, rows: slice) -> "LabelledBatch":
        """The images at `rows`."""
        return LabelledBatch(*(tensor[rows] for tensor in self))


class LabelledImages(Images):
    """Drawn pictures with their labels, rows of two stores."""

    def __init__(self, images: RowReader, labels: RowReader):
        self.images = images
        self.labels = torch.from_numpy(labels.rows(range(len(labels))))

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> LabelledBatch:
        shown = self.labels[indices]
        return LabelledBatch(
            torch.from_numpy(self.images.rows(indices)), shown, shown[:, :THINGS, KIND : KIND + 1] >= 0
        )


def labelled_batches(dataset: LabelledImages, size: int, seed: int) -> Callable[[int], DataLoader]:
    """The shuffled batches of an epoch, as a function of its number."""
    return lambda epoch: load_batches(dataset, shuffled(len(dataset), size, seed, epoch))


def draw_split(split: str, params: DrawnParams, folder: Path) -> None:
    """Draw the pictures of "train" or "val" into stores in `folder`; after a kill the next run continues.

    Both are training scenes; the numbers of val's scenes follow train's.
    """
    first, count = (0, params.train) if split == "train" else (params.train, params.val)
    paths, shapes = _stores(split, folder), ((3, params.size, params.size), (THINGS + 1, FIELDS))
    if all(path.exists() for path in paths):
        return
    writers = [
        RowWriter(path.with_suffix(".part"), name, count, shape, dtype)
        for path, name, shape, dtype in zip(paths, STORES, shapes, (np.uint8, np.float32), strict=True)
    ]
    done = min(writer.done for writer in writers)
    for writer in writers:
        writer.mark(done)
    starts = range(done, count, PICTURES_PER_JOB)
    numbers = [range(first + start, first + min(start + PICTURES_PER_JOB, count)) for start in starts]
    for chunk in track(_drawn(numbers, params), f"drawing {split}", len(numbers)):
        for writer, rows in zip(writers, chunk, strict=True):
            writer.append(rows)
    for path, writer in zip(paths, writers, strict=True):
        writer.finish(path, range(count), {"scenes": fingerprint(params)})


def open_split(split: str, folder: Path) -> LabelledImages:
    """The images that `draw_split` has drawn."""
    return LabelledImages(*(RowReader(path, name) for path, name in zip(_stores(split, folder), STORES, strict=True)))


def _stores(split: str, folder: Path) -> list[Path]:
    return [folder / f"{split}-{name}.h5" for name in STORES]


Chunk = tuple[np.ndarray, np.ndarray]  # pictures and their labels


def _drawn(numbers: Sequence[range], params: DrawnParams) -> Iterator[Chunk]:
    jobs = [(part, params) for part in numbers]
    workers = cores()
    if workers == 1 or sum(map(len, numbers)) < INLINE:
        yield from map(_draw, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_draw, jobs)


def _draw(job: tuple[range, DrawnParams]) -> Chunk:
    numbers, params = job
    transform = Transform(params.size, "stretch")
    pictures = [make(params.seed, "train", number, params.drawn_size, params.any_colours) for number in numbers]
    return (
        np.stack([transform(load_image(picture.jpeg)) for picture in pictures]),
        np.stack([labels(picture) for picture in pictures]),
    )
