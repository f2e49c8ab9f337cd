"""`showtell caption`: describe photographs, with a model's folder and nothing else.

What needs the networks is in `caption_output`, imported when all arguments are known to be right.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from showtell.commands.inputs import Source, picture_sources
from showtell.core.errors import UserError
from showtell.core.paths import MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that decides what is said, and how it is shown."""
    parser.description = "Describe photographs: one line for each, `name: caption`."
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder, a 'glob*', a URL or - (stdin)")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="DIR", help="default %(default)s")
    parser.add_argument("--n-best", type=int, default=1, metavar="N", help="captions for each image (default 1)")
    parser.add_argument("--attention", type=Path, metavar="OUT.png", help="draw where the model looked for each word")
    parser.add_argument("--head", type=int, metavar="N", help="draw one attention head, from 0, not the mean of all")
    parser.add_argument("--json", action="store_true", help="one JSON object for each image, one a line")
    parser.add_argument("--allow-urls", action="store_true", help="fetch images named by http(s) URLs")
    add_search_arguments(parser)


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """The settings of the search, each with the name that it has in params.yaml. None: the model's own."""
    group = parser.add_argument_group("search", "What is not given is as it was when the model was scored.")
    group.add_argument("--beam", type=int, metavar="N", help="beams kept; 1 is greedy")
    group.add_argument("--max-length", type=int, metavar="N", help="tokens at most, the end counted")
    group.add_argument("--length-penalty", type=float, metavar="P", help="rank by logprob / length^P; 0: by logprob")
    group.add_argument("--block-ngrams", type=int, metavar="N", help="no n-gram of this size twice; 0: off")
    group.add_argument("--detection-weight", type=float, metavar="W", help="weight of words that are detected; 0: none")
    group.add_argument("--allow-unknown", action=argparse.BooleanOptionalAction, help="whether captions may hold <unk>")
    group.add_argument("--precision", help="arithmetic of the decoder: auto, fp32, bf16 or fp16")


def search_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given; `UserError` for one that is out of range."""
    from showtell.generation.search_params import PLAIN, SearchParams

    given = {name: getattr(args, name) for name in SearchParams.model_fields if getattr(args, name) is not None}
    PLAIN.override(**given)
    return given


def run(args: argparse.Namespace) -> int:
    """Print the captions; 1 if an image could not be read (its error is on stderr, the others are captioned)."""
    settings = search_settings(args)
    sources = list(picture_sources(args.images, args.allow_urls))
    drawings = _drawings(args.attention, sources) if args.attention else None
    if args.head is not None and drawings is None:
        raise UserError(f"--head {args.head}: it says what --attention draws, and needs that")
    from showtell.commands.caption_output import caption_photos  # imports torch

    return 0 if caption_photos(args.model, sources, args.n_best, settings, drawings, args.json, args.head) else 1


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
