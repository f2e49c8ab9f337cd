"""`showtell import`: inspects your own images and captions, and sets params.yaml to use them."""

import argparse
import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import get_args

import numpy as np

from showtell.commands import recipe
from showtell.commands.folder_walk import unreadable_folders
from showtell.commands.photographs import settings_for
from showtell.commands.refused_files import check_caption_file
from showtell.core.errors import UserError
from showtell.core.files import write_text
from showtell.core.paths import PARAMS
from showtell.core.progress import log
from showtell.core.terminal import printable
from showtell.core.yaml_files import read_sections
from showtell.data.datasets import karpathy
from showtell.data.datasets.caption_files import Captioned, CaptionsFormat, detect, read_captions
from showtell.data.datasets.custom import CustomParams, assign_splits, crawled, in_folder, missing_pictures
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.outside import refuse_outputs
from showtell.data.datasets.picture_files import Pictures, check_pictures
from showtell.data.datasets.shards import Crawl, shard_paths
from showtell.data.formats import PICTURE_SUFFIXES

FORMATS = "Karpathy's JSON, COCO's captions JSON, a CSV or TSV, or a Flickr token file"
SHARE = 0.1  # of the images for val, and for test
BAR = 40  # characters of the longest bar of the histogram


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="folder or archive of pictures; or, alone, shards: a folder of "
                        "WebDataset tars or a pattern of them in quotation marks")  # fmt: skip
    parser.add_argument("captions", type=Path, nargs="?",
                        help="Karpathy JSON, COCO captions JSON, CSV/TSV or Flickr token file")  # fmt: skip
    parser.add_argument("--format", choices=get_args(CaptionsFormat), default="auto", help="of the captions file")
    parser.add_argument("--val", type=float, help="fraction for val where the file names none (0.1)")
    parser.add_argument("--test", type=float, help="fraction for test where the file names none (0.1)")
    parser.add_argument("--split-seed", type=int, default=0, help="another seed, another split (0)")
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument("--recipe", metavar="NAME", help="settings for these pictures (chosen by size and machine)")
    settings.add_argument("--keep", action="store_true", help="keep all settings but where the pictures are")
    parser.add_argument("--plan", action=argparse.BooleanOptionalAction, default=True,
                        help="at the end run a small sample, to tell what `dvc repro` will cost here")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="look and check only, leave params.yaml alone")


def run(args: argparse.Namespace) -> int:
    """Print a summary of images and captions, then set params.yaml to them and to a recipe for their number; with
    `--dry-run` all but that, with the same errors."""
    params = _params(args)
    for path in filter(None, (args.images, args.captions)):
        refuse_outputs(path, str(path))
    unreadable = unreadable_folders(args.images) if args.images.is_dir() else []
    if unreadable and unreadable[0].folder == str(args.images):  # nothing can be read
        raise UserError(unreadable[0].problem)
    for folder in unreadable:
        log(f"passed over: {folder.problem}")
    splits = _look_at_shards(args, params) if args.captions is None else _look_at_files(args, params)
    own: recipe.Params = {"dataset": "custom", "custom": params.model_dump()}
    own["reinforce"] = {"chair": 0.0, "truth": 0.0}  # these rewards need annotated objects, which these images lack
    settings = None if args.keep else settings_for(splits["train"], args.recipe)
    overlay = recipe.laid_over(settings.overlay if settings else {}, own)
    recipe.check(recipe.overlaid(read_sections(PARAMS), overlay), str(PARAMS))
    text = recipe.written(PARAMS.read_text(encoding="utf-8"), overlay)
    if settings:
        print(f"recipe            {settings.why}")
    if args.dry_run:
        print(f"{PARAMS} is left alone (--dry-run)")
        return 0
    write_text(PARAMS, text)
    print(f"{PARAMS} is set (`git diff {PARAMS}`)")
    if args.plan:
        _plan()
    print("next: dvc repro" if args.plan else "next: dvc repro   (showtell plan tells what it will cost here)")
    return 0


def _plan() -> None:
    """Print the cost of `dvc repro`; params.yaml has been set already, even where this fails."""
    from showtell.commands import plan  # imported late: imports torch and all stages' parameters

    try:
        plan.run(argparse.Namespace())
    except UserError as error:
        log(f"what that costs cannot be told: {error}")


def _look_at_shards(args: argparse.Namespace, params: CustomParams) -> Counter[str]:
    """Print a summary of shards and return the number of images of each split; `UserError` for none."""
    with closing(Crawl(shard_paths(args.images))) as crawl:
        summary = Summary(crawled(crawl, params))
        left_out = [f"samples           {crawl.left_out()}"] if crawl.left_out() else []
        for line in summary.lines(f"shards ({len(crawl.shards.paths)} tars)", left_out):
            print(printable(line))
    karpathy.check_sizes(summary.splits, str(args.images), "add shards, or raise --val and --test")
    return summary.splits


def _look_at_files(args: argparse.Namespace, params: CustomParams) -> Counter[str]:
    """Print a summary of files and return the number of usable images of each split; `UserError` for none."""
    if args.captions.suffix == ".tar":
        raise UserError(f"{args.captions} is a shard: put the pattern of several in quotation marks, such as '*.tar'")
    check_caption_file(args.captions, FORMATS)
    images = read_captions(args.captions, args.format)
    check_pictures(args.images)
    pictures = Pictures.of([args.images])
    try:
        usable = _look(args, params, images, pictures)
    finally:
        pictures.discard_scratch()
    return Counter(record.split for record in usable)


def _look(
    args: argparse.Namespace, params: CustomParams, images: Sequence[Captioned], pictures: Pictures
) -> list[Record]:
    """Print a summary and return the usable images; `UserError` when there are none."""
    inside = in_folder(images, args.images, str(args.captions))
    captioned = [image for image in inside if image.captions]
    for name in ("val", "test"):
        if getattr(args, name) is not None and any(image.split == name for image in captioned):
            log(f"--{name} is not used: {args.captions} names the images of {name}")
    missing = missing_pictures(pictures, [image.file for image in captioned], str(args.captions))
    gone = set(missing)
    usable = assign_splits([image for image in captioned if image.file not in gone], params)
    kind = detect(args.captions) if args.format == "auto" else args.format
    for line in describe(kind, inside, missing, usable, pictures):
        print(printable(line))
    if not usable:
        raise UserError(
            f"no image has both a picture in {args.images} and a caption in {args.captions}"
            f"{_some(missing)}{pictures.example()}"
        )
    karpathy.check(usable, str(args.captions))
    if missing:
        raise UserError(
            f"{len(missing)} captioned images have no picture{_some(missing)}{pictures.example()}; add them or take "
            "their captions out first"
        )
    splits = Counter(record.split for record in usable)
    karpathy.check_sizes(splits, str(args.captions), "add images, raise --val and --test, or name splits in it")
    return usable


def _params(args: argparse.Namespace) -> CustomParams:
    shares = {name: SHARE if getattr(args, name) is None else getattr(args, name) for name in ("val", "test")}
    for name, share in shares.items():
        if not 0 < share < 0.5:
            raise UserError(f"--{name} {share}: must be between 0 and 0.5")
    if args.split_seed < 0:
        raise UserError(f"--split-seed {args.split_seed}: must be 0 or more")
    return CustomParams(
        images=str(args.images.resolve()),
        captions=None if args.captions is None else str(args.captions.resolve()),
        format=args.format,
        split_seed=args.split_seed,
        **shares,
    )


def describe(
    kind: str, images: Sequence[Captioned], missing: Sequence[str], usable: Sequence[Record], pictures: Pictures
) -> Iterator[str]:
    """The summary, line by line."""
    uncaptioned = [image.file for image in images if not image.captions]
    unnamed = _unnamed(images, pictures)
    blank = [image.file for image in images if image.blank]
    said = [f"captions without text    {sum(image.blank for image in images)}{_some(blank)}"] if blank else []
    again = {image.file: more for image in images if (more := len(image.captions) - len(set(image.captions)))}
    if again:
        said.append(f"captions given again     {sum(again.values())}{_some(list(again))}")
    gone = [
        f"images without captions  {len(uncaptioned) + len(unnamed)}{_some([*uncaptioned, *unnamed])}",
        f"captions without images  {len(missing)}{_some(missing)}",
    ]
    yield from Summary(usable).lines(kind, said, gone)


class Summary:
    """Statistics of images and captions, counted one by one."""

    def __init__(self, records: Iterable[Record]):
        self.splits: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        self.lengths = array.array("i")  # of captions, in words
        for record in records:
            self.splits[record.split] += 1
            for words in record.words:
                self.words.update(words)
                self.lengths.append(len(words))

    def lines(self, kind: str, said: Sequence[str] = (), gone: Sequence[str] = ()) -> Iterator[str]:
        yield f"format            {kind}"
        yield f"images            {self.splits.total()}"
        yield f"captions          {len(self.lengths)}"
        yield from said
        yield "splits            " + ", ".join(f"{split} {self.splits[split]}" for split in ("train", "val", "test"))
        frequent = sum(count >= 5 for count in self.words.values())
        yield f"words             {self.words.total()}, {len(self.words)} distinct, {frequent} five times or more"
        yield from gone
        yield "caption lengths, in words"
        yield from histogram(self.lengths)


def _unnamed(images: Sequence[Captioned], pictures: Pictures) -> list[str]:
    """Image files that the captions file does not mention."""
    mentioned = {pictures.find(image.file) for image in images}
    return [
        name
        for number, name in enumerate(pictures.files())
        if name.lower().endswith(PICTURE_SUFFIXES) and number not in mentioned
    ]


def _some(files: Sequence[str]) -> str:
    return f" ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})" if files else ""


def histogram(lengths: Sequence[int]) -> Iterator[str]:
    """One line for each bin of lengths: bounds, count, bar."""
    if not lengths:
        return
    width = max(1, -(-(max(lengths) + 1) // 12))
    bands = np.bincount(np.array(lengths) // width)
    for band, count in enumerate(bands):
        span = f"{band * width}" if width == 1 else f"{band * width}-{(band + 1) * width - 1}"
        yield f"  {span:>9} {count:>8} {'#' * -(-BAR * int(count) // int(bands.max()))}".rstrip()
