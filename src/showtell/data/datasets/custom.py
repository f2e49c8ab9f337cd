"""The user's own images and captions: a folder (or archive) of images and a file of captions."""

import array
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.files import write_json
from showtell.core.params import PathName, Section
from showtell.core.paths import given
from showtell.core.progress import log
from showtell.data.datasets import karpathy
from showtell.data.datasets.caption_files import Captioned, CaptionsFormat, read_captions
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.picture_files import Pictures, check_pictures, link_pictures
from showtell.data.datasets.shards import INDEX_SUFFIX, Crawl, shard_paths
from showtell.data.words import unicode_words

REMEDY = "add images, raise the fractions val and test, or name the splits in the captions file"


class CustomParams(Section):
    images: PathName | None = Field(
        description="folder or archive of pictures, or shards: a folder or pattern of WebDataset tars; null unless "
        "dataset is custom"
    )
    captions: PathName | None = Field(description="file of captions; null where shards have them, or other datasets")
    format: CaptionsFormat = Field(description="of the captions file; auto: told from its content")
    val: float = Field(gt=0, lt=0.5, description="fraction of the images for val, where the file names none")
    test: float = Field(gt=0, lt=0.5, description="fraction of the images for test, where the file names none")
    split_seed: int = Field(ge=0, description="another seed, another split")


def assign_splits(images: Sequence[Captioned], params: CustomParams) -> list[Record]:
    """Records with a split each. A split that the file does not name is sampled from the train (or unnamed) images.

    Images are ranked by a hash of seed and id: the result does not depend on their order, and adding or removing an
    image moves few others.
    """
    named = {image.split for image in images} - {None}
    free = [image for image in images if image.split in (None, "train")]
    splits = _drawn((image.image_id for image in free), len(images), params, named)
    drawn = {id(image): split for image, split in zip(free, splits, strict=True)}
    return [Record(i.image_id, i.file, drawn.get(id(i)) or i.split or "train", i.captions, i.words) for i in images]


def _drawn(ids: Iterable[Any], images: int, params: CustomParams, named: Collection[str | None] = ()) -> Iterator[str]:
    """The split of each of `ids`; val and test, where they are not in `named`, get their fractions of `images`."""
    ranks = np.array(array.array("Q", (_rank(params.split_seed, image_id) for image_id in ids)), np.uint64)
    ranked = np.argsort(ranks, kind="stable")
    splits = np.zeros(len(ranks), np.uint8)
    for number, (split, fraction) in enumerate((("test", params.test), ("val", params.val)), start=1):
        if split not in named:
            count = min(max(1, round(fraction * images)), len(ranked))
            splits[ranked[:count]] = number
            ranked = ranked[count:]
    return (("train", "test", "val")[number] for number in splits.tolist())


def _rank(seed: int, image_id: Any) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{image_id}".encode()).digest()[:8], "big")


def in_folder(images: Sequence[Captioned], source: Path, where: str) -> list[Captioned]:
    """The images with paths relative to `source`; `UserError` for repeated images, or one outside of it."""
    root = source.resolve()
    inside = []
    for image in images:
        path = Path(image.file)
        if path.is_absolute() and source.is_dir() and path.is_relative_to(source.absolute()):
            image = replace(image, file=path.relative_to(source.absolute()).as_posix())
        elif path.is_absolute() and source.is_dir() and path.resolve().is_relative_to(root):
            image = replace(image, file=path.resolve().relative_to(root).as_posix())
        karpathy.check_inside(image.file, where)
        inside.append(image)
    return inside


def crawled(crawl: Crawl, params: CustomParams) -> Iterator[Record]:
    """The records of a crawl, one by one; the caller checks the sizes of the splits."""
    splits = _drawn((sample.image_id for sample in crawl), len(crawl), params)
    for sample, split in zip(crawl, splits, strict=True):
        yield Record(sample.image_id, sample.name, split, [sample.caption], [unicode_words(sample.caption)])


def source_of(params: CustomParams) -> tuple[list[Record], Pictures]:
    """All records, and the pictures."""
    if params.captions is None and params.images is not None:
        with closing(Crawl(shard_paths(params.images))) as crawl:
            return list(crawled(crawl, params)), Pictures({params.images: crawl.shards})
    found = records(params)
    return found, Pictures.of([given(str(params.images))])


def records(params: CustomParams) -> list[Record]:
    """The records of `params`' captions file, images without captions left out."""
    if params.captions is None or params.images is None:
        raise UserError("dataset is custom: set custom.images and custom.captions, or run `showtell import`")
    every = read_captions(given(params.captions), params.format)
    images = [image for image in every if image.captions]
    if not images:
        raise UserError(f"{params.captions} holds no captions")
    if len(images) < len(every):
        log(f"{params.captions}: {len(every) - len(images)} images without captions are left out")
    found = assign_splits(in_folder(images, given(params.images), params.captions), params)
    karpathy.check(found, params.captions)
    karpathy.check_sizes(Counter(record.split for record in found), params.captions, REMEDY)
    return found


def prepare(folder: Path, params: CustomParams) -> None:
    """Fill `folder` with captions.json, an empty objects.json and images/ (a link file, or an index of shards)."""
    write_json(folder / "objects.json", {})
    if params.captions is None and params.images is not None:
        _prepare_shards(folder, params, params.images)
        return
    found = records(params)
    assert params.images is not None and params.captions is not None  # otherwise there are no records
    source = given(params.images)
    check_pictures(source)
    pictures = Pictures.of([source])
    missing = missing_pictures(pictures, [record.file for record in found], params.captions)
    if missing:
        raise UserError(
            f"{params.images} lacks {len(missing)} of the {len(found)} pictures that {params.captions} names: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}{pictures.example()}"
        )
    link_pictures(source, folder / "images")
    karpathy.write(folder / "captions.json", "custom", found)


def missing_pictures(pictures: Pictures, files: Sequence[str], where: str) -> list[str]:
    """Those of `files` that do not exist; `UserError` when two of them are the same picture, by spelling or by link."""
    missing = pictures.missing(files, where)
    absent = set(missing)
    pictures.check_links([file for file in files if file not in absent], where)
    return missing


def _prepare_shards(folder: Path, params: CustomParams, images: str) -> None:
    with closing(Crawl(shard_paths(images))) as crawl:
        if crawl.left_out():
            log(f"{images}: {crawl.left_out()}")
        karpathy.check_sizes(Counter(_drawn((s.image_id for s in crawl), len(crawl), params)), images, REMEDY)
        crawl.shards.write(folder / "images" / f"crawl{INDEX_SUFFIX}")
        karpathy.write(folder / "captions.json", "custom", crawled(crawl, params))
