"""`showtell caption`: describe photographs, with a model's folder and nothing else.

What needs the networks is in `photos`, imported when all arguments are known to be right.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from showtell.commands.inputs import Source, picture_sources
from showtell.core.errors import UserError
from showtell.core.paths import FINETUNE_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that decides what is said, and how it is shown."""
    parser.description = "Describe photographs: one line for each, `name: caption`."
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder, a 'glob*', a URL or - (stdin)")
    parser.add_argument("--model", type=Path, default=FINETUNE_MODEL, metavar="DIR", help="default %(default)s")
    parser.add_argument("--n-best", type=int, default=1, metavar="N", help="captions for each image (default 1)")
    parser.add_argument("--attention", type=Path, metavar="OUT.png", help="draw where the model looked for each word")
    parser.add_argument("--json", action="store_true", help="one JSON object for each image, one a line")
    parser.add_argument("--allow-urls", action="store_true", help="fetch images named by http(s) URLs")
    add_search_arguments(parser)


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--beam", type=int, default=5, metavar="N", help="beams kept; 1 is greedy (default 5)")
    parser.add_argument("--max-length", type=int, default=30, metavar="N", help="tokens at most (default 30)")
    parser.add_argument("--length-penalty", type=float, default=0.0, metavar="P", help="rank by logprob / length^P (0)")
    parser.add_argument(
        "--block-ngrams", type=int, default=0, metavar="N", help="no n-gram of this size twice (0: off)"
    )
    parser.add_argument(
        "--detection-weight", type=float, default=0.7, metavar="W", help="weight of words that are detected (0.7)"
    )
    parser.add_argument("--allow-unknown", action="store_true", help="captions may hold <unk>")


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Captioner.generate` apart from the beam; `UserError` for what is out of range."""
    for name, least, most in (
        ("beam", 1, 100),
        ("max_length", 1, 1000),
        ("length_penalty", 0, 5),
        ("block_ngrams", 0, 100),
        ("detection_weight", 0, 10),
    ):
        value = getattr(args, name)
        if not least <= value <= most:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {least} to {most}")
    names = ("max_length", "length_penalty", "block_ngrams", "allow_unknown", "detection_weight")
    return {name: getattr(args, name) for name in names}


def run(args: argparse.Namespace) -> int:
    """Print the captions; 1 if an image could not be read (its error is on stderr, the others are captioned)."""
    options = search_options(args)
    if not 1 <= args.n_best <= args.beam:
        raise UserError(f"--n-best {args.n_best}: must be 1 to the width of the beam, {args.beam}")
    sources = list(picture_sources(args.images, args.allow_urls))
    drawings = _drawings(args.attention, sources) if args.attention else None
    from showtell.commands.caption_output import caption_photos  # imports torch

    options |= {"beam": args.beam, "n_best": args.n_best}
    return 0 if caption_photos(args.model, sources, options, drawings, args.json) else 1


def _drawings(out: Path, sources: Sequence[Source]) -> list[Path]:
    """The picture to draw for each image: OUT.png itself, or with several images OUT-<name of the image>.png.

    A folder holds <name of the image>.png. Images of the same name are told apart by a number.
    """
    folder = out.is_dir() or out.suffix == ""
    if not folder and out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--attention {out}: the picture's name must end in .png, .jpg or .webp")
    if len(sources) == 1 and not folder:
        return [out]
    paths: list[Path] = []
    for source in sources:
        name = source.stem if folder else f"{out.stem}-{source.stem}"
        path = (out if folder else out.parent) / f"{name}{'.png' if folder else out.suffix}"
        number = 2
        while path in paths:
            path = path.with_stem(f"{name}-{number}")
            number += 1
        paths.append(path)
    return paths
