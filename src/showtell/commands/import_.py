"""`showtell import`: look at your own pictures and captions, and set params.yaml to use them."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from showtell.core.errors import UserError
from showtell.core.paths import PARAMS
from showtell.core.yaml_files import set_values
from showtell.data.datasets import karpathy
from showtell.data.datasets.custom import Captioned, CaptionsFormat, CustomParams, assign_splits, detect, read_captions
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.picture_files import Pictures, check_pictures

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif")
BAR = 40  # characters of the longest bar of the histogram


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="folder or archive of pictures")
    parser.add_argument("captions", type=Path, help="Karpathy JSON, COCO captions JSON, CSV/TSV or Flickr token file")
    parser.add_argument("--format", choices=get_args(CaptionsFormat), default="auto", help="of the captions file")
    parser.add_argument("--val", type=float, default=0.1, help="fraction for val where the file names none (0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="fraction for test where the file names none (0.1)")
    parser.add_argument("--split-seed", type=int, default=0, help="another seed, another split (0)")
    parser.add_argument("--dry-run", action="store_true", help="look only, leave params.yaml alone")


def run(args: argparse.Namespace) -> int:
    """Print what the pictures and captions are, then set `dataset` and `custom` in params.yaml."""
    params = _params(args)
    images = read_captions(args.captions, args.format)
    check_pictures(args.images)
    pictures = Pictures.of([args.images])
    captioned = [image for image in images if image.captions]
    missing = [image.file for image in captioned if image.file not in pictures]
    usable = assign_splits([image for image in captioned if image.file in pictures], params)
    kind = detect(args.captions) if args.format == "auto" else args.format
    for line in describe(kind, images, missing, usable, pictures):
        print(line)
    if not usable:
        raise UserError(f"no image has both a picture in {args.images} and a caption in {args.captions}")
    karpathy.check(usable, str(args.captions))
    if args.dry_run:
        return 0
    if missing:
        raise UserError(f"{len(missing)} captioned images have no picture; add them or take their captions out first")
    set_values(PARAMS, {"dataset": "custom", **{f"custom.{key}": value for key, value in params.model_dump().items()}})
    print(f"{PARAMS} is set; next: dvc repro")
    return 0


def _params(args: argparse.Namespace) -> CustomParams:
    for name in ("val", "test"):
        if not 0 < getattr(args, name) < 0.5:
            raise UserError(f"--{name} {getattr(args, name)}: must be between 0 and 0.5")
    if args.split_seed < 0:
        raise UserError(f"--split-seed {args.split_seed}: must be 0 or more")
    return CustomParams(
        images=str(args.images.resolve()),
        captions=str(args.captions.resolve()),
        format=args.format,
        val=args.val,
        test=args.test,
        split_seed=args.split_seed,
    )


def describe(
    kind: str, images: Sequence[Captioned], missing: Sequence[str], usable: Sequence[Record], pictures: Pictures
) -> Iterator[str]:
    """What was found, line by line."""
    captions = [words for record in usable for words in record.words]
    words = Counter(word for caption in captions for word in caption)
    splits = Counter(record.split for record in usable)
    uncaptioned = [image.file for image in images if not image.captions]
    unnamed = _unnamed(images, pictures)
    yield f"format            {kind}"
    yield f"images            {len(usable)}"
    yield f"captions          {len(captions)}"
    yield "splits            " + ", ".join(f"{split} {splits[split]}" for split in ("train", "val", "test"))
    frequent = sum(count >= 5 for count in words.values())
    yield f"words             {sum(words.values())}, {len(words)} distinct, {frequent} five times or more"
    yield f"images without captions  {len(uncaptioned) + len(unnamed)}{_some([*uncaptioned, *unnamed])}"
    yield f"captions without images  {len(missing)}{_some(missing)}"
    yield "caption lengths, in words"
    yield from histogram([len(caption) for caption in captions])


def _unnamed(images: Sequence[Captioned], pictures: Pictures) -> list[str]:
    """Picture files that the captions do not mention at all."""
    mentioned = {pictures.find(image.file) for image in images}
    return [
        name
        for number, name in enumerate(pictures.files())
        if name.lower().endswith(PICTURE_SUFFIXES) and number not in mentioned
    ]


def _some(files: Sequence[str]) -> str:
    return f" ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})" if files else ""


def histogram(lengths: Sequence[int]) -> Iterator[str]:
    """One line for each band of lengths: bounds, count, bar."""
    if not lengths:
        return
    width = max(1, -(-(max(lengths) + 1) // 12))
    bands = np.bincount(np.array(lengths) // width)
    for band, count in enumerate(bands):
        span = f"{band * width}" if width == 1 else f"{band * width}-{(band + 1) * width - 1}"
        yield f"  {span:>9} {count:>8} {'#' * -(-BAR * int(count) // int(bands.max()))}".rstrip()
