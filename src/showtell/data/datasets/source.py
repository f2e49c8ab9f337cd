"""Preparing a dataset: every choice writes the same three artefacts."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.data.datasets import custom, published, scenes
from showtell.data.datasets.coco import COCO
from showtell.data.datasets.custom import CustomParams
from showtell.data.datasets.flickr import FLICKR8K, FLICKR30K
from showtell.data.datasets.outside import states
from showtell.data.datasets.published import DownloadParams, Published

DatasetName = Literal["scenes", "coco", "flickr8k", "flickr30k", "custom"]

__all__ = ["PREPARE", "DatasetName", "DownloadParams", "prepare", "record"]


def record(dataset: DatasetName, download: DownloadParams, own: CustomParams) -> dict[str, str]:
    """What the stage `source` records: the dataset, and the state of each file or folder that it is read from."""
    return {"dataset": dataset, **states(_watched(dataset, download, own), paths.SOURCE)}


def _watched(dataset: DatasetName, download: DownloadParams, own: CustomParams) -> dict[str, str | None]:
    """Paths outside the repository that the dataset is read from, by the key of params.yaml that names each."""
    if dataset == "scenes":
        return {}
    if dataset == "custom":
        return {"custom.images": own.images, "custom.captions": own.captions}
    return {"download.source": download.source, "download.captions": download.captions}


def prepare(dataset: DatasetName, folder: Path, download: DownloadParams, own: Any) -> None:
    """Fill `folder` with captions.json (Karpathy's format), objects.json, images/; `own` is the dataset's section."""
    shutil.rmtree(folder / "images", ignore_errors=True)  # left by an interrupted run
    PREPARE[dataset](folder, download, own)


def prepare_scenes(folder: Path, download: DownloadParams, params: scenes.ScenesParams) -> None:
    scenes.generate(folder, params)


def prepare_custom(folder: Path, download: DownloadParams, params: CustomParams) -> None:
    custom.prepare(folder, params)


def prepare_published(dataset: Published, folder: Path, download: DownloadParams, params: None) -> None:
    published.prepare(dataset, folder, download)


# Datasets whose objects.json has the objects of training images; COCO's has those of val and test only.
OBJECTS_OF_TRAINING = ("scenes",)


def check_rewards(dataset: DatasetName, reinforce: Any) -> None:
    """`UserError` when a reward of the section `reinforce` needs annotated training images, which `dataset` lacks."""
    for key in ("chair", "truth"):
        if reinforce.epochs and getattr(reinforce, key) and dataset not in OBJECTS_OF_TRAINING:
            raise UserError(
                f"reinforce.{key} = {getattr(reinforce, key)}: dataset {dataset} does not say what is in its training "
                f"pictures; set reinforce.{key} to 0 (`showtell recipe photographs --write` sets this and all else)"
            )


# Functions that fill a folder with captions.json, objects.json and images/, from `DownloadParams` and own section.
PREPARE: dict[DatasetName, Callable[[Path, DownloadParams, Any], None]] = {
    "scenes": prepare_scenes,
    "custom": prepare_custom,
    "coco": partial(prepare_published, COCO),
    "flickr8k": partial(prepare_published, FLICKR8K),
    "flickr30k": partial(prepare_published, FLICKR30K),
}
