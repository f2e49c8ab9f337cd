"""`showtell describe`: writes alt text for folders of images.

Code that needs the networks is in `alt_text`, imported after all arguments have been checked.
"""

import argparse
from pathlib import Path

from showtell.commands.caption_images import add_min_confidence
from showtell.commands.inputs import NO_NAME
from showtell.core.errors import UserError
from showtell.core.paths import MODEL

OUTPUT_FORMATS = ("xmp", "txt", "csv", "jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Describe every picture of folders, and keep the descriptions beside the pictures or in a table. What is done "
        "is not done again unless the picture, the model or its settings have changed. Texts that others wrote or "
        "corrected are kept."
    )
    parser.add_argument("pictures", nargs="+", metavar="FOLDER|FILE", help="folders with all below them")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="DIR", help="default %(default)s")
    parser.add_argument(
        "--format", choices=OUTPUT_FORMATS, default="xmp",
        help="xmp: sidecars, photo.jpg.xmp | txt: photo.jpg.txt | csv, jsonl: one table (default xmp)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="of csv and jsonl (default alt-text.csv, .jsonl); pictures are named as from the current folder",
    )  # fmt: skip
    parser.add_argument("--embed", action="store_true", help="also write into the pictures themselves, by exiftool")
    add_min_confidence(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be described, and write nothing")


def run(args: argparse.Namespace) -> int:
    """Describe images that have no description yet; 1 if one could not be described (its line is on stderr)."""
    if args.output is not None and args.format not in ("csv", "jsonl"):
        raise UserError(f"--output is for --format csv and jsonl; {args.format} is written beside each picture")
    if args.model.suffix == ".onnx":
        raise UserError(
            f"--model {args.model}: describe takes the folder of a model, not an exported graph; those are for "
            "`showtell caption`"
        )
    if "" in args.pictures:
        raise UserError(NO_NAME)
    pictures = [Path(name) for name in args.pictures]
    for path in pictures:
        if not path.exists():
            raise UserError(f"{path} does not exist")
    output = args.output or Path(f"alt-text.{args.format}")
    from showtell.commands.alt_text.session import Wanted, describe  # imports torch

    wanted = Wanted(args.format, output, args.embed, args.min_confidence)
    return 0 if describe(pictures, args.model, wanted, args.dry_run) else 1
