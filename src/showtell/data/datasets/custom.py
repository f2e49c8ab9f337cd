"""Your own pictures and captions: a folder (or archive) of images and one file of captions."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.files import write_json
from showtell.core.params import Section
from showtell.core.paths import given
from showtell.core.progress import log
from showtell.data.datasets import karpathy
from showtell.data.datasets.caption_files import Captioned, CaptionsFormat, read_captions
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.picture_files import Pictures, check_pictures, link_pictures

REMEDY = "add images, raise the fractions val and test, or name the splits in the captions file"


class CustomParams(Section):
    images: str | None = Field(description="folder or archive of pictures; null unless dataset is custom")
    captions: str | None = Field(description="file of captions; null unless dataset is custom")
    format: CaptionsFormat = Field(description="of the captions file; auto: told from its content")
    val: float = Field(gt=0, lt=0.5, description="fraction of the images for val, where the file names none")
    test: float = Field(gt=0, lt=0.5, description="fraction of the images for test, where the file names none")
    split_seed: int = Field(ge=0, description="another seed, another split")


def assign_splits(images: Sequence[Captioned], params: CustomParams) -> list[Record]:
    """Records with a split each. A split that the file names nowhere is drawn from the train (or unnamed) images.

    The draw ranks images by a hash of seed and id: it does not depend on their order, and an image that is added
    or removed moves few others.
    """
    named = {image.split for image in images} - {None}
    free = [image for image in images if image.split in (None, "train")]
    ranked = sorted(free, key=lambda image: _rank(params.split_seed, image.image_id))
    drawn: dict[int, str] = {}
    for split, fraction in (("test", params.test), ("val", params.val)):
        if split not in named:
            count = min(max(1, round(fraction * len(images))), len(ranked))
            drawn.update({id(image): split for image in ranked[:count]})
            ranked = ranked[count:]
    return [Record(i.image_id, i.file, drawn.get(id(i)) or i.split or "train", i.captions, i.words) for i in images]


def _rank(seed: int, image_id: Any) -> str:
    return hashlib.sha256(f"{seed}:{image_id}".encode()).hexdigest()


def in_folder(images: Sequence[Captioned], source: Path, where: str) -> list[Captioned]:
    """The images with paths inside `source`; `UserError` when two are one picture, or one lies elsewhere."""
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
    karpathy.check_sizes(found, params.captions, REMEDY)
    return found


def prepare(folder: Path, params: CustomParams) -> None:
    """Fill `folder` with captions.json, an empty objects.json and images/ (a link file)."""
    found = records(params)
    assert params.images is not None and params.captions is not None  # else there are no records
    source = given(params.images)
    check_pictures(source)
    pictures = Pictures.of([source])
    missing = pictures.missing([record.file for record in found], params.captions)
    if missing:
        raise UserError(
            f"{params.images} lacks {len(missing)} of the {len(found)} pictures that {params.captions} names: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}{pictures.example()}"
        )
    link_pictures(source, folder / "images")
    karpathy.write(folder / "captions.json", "custom", found)
    write_json(folder / "objects.json", {})
