"""`showtell caption`: describe photographs, with a model's folder and nothing else."""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from showtell.attention_pictures import draw_attention, seen
from showtell.captioner import BATCH, Caption, Captioner
from showtell.commands.pictures import Source, picture_sources
from showtell.errors import UserError
from showtell.files import atomic
from showtell.images import load_image
from showtell.paths import FINETUNE_MODEL
from showtell.progress import log

LARGEST = 1024  # pixels, the longer side of a picture that attention is drawn on


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
    parser.add_argument("--allow-unknown", action="store_true", help="captions may hold <unk>")


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Captioner.generate` apart from the beam; `UserError` for what is out of range."""
    for name, least, most in (
        ("beam", 1, 100),
        ("max_length", 1, 1000),
        ("length_penalty", 0, 5),
        ("block_ngrams", 0, 100),
    ):
        value = getattr(args, name)
        if not least <= value <= most:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {least} to {most}")
    names = ("max_length", "length_penalty", "block_ngrams", "allow_unknown")
    return {name: getattr(args, name) for name in names}


def run(args: argparse.Namespace) -> int:
    """Print the captions; 1 if an image could not be read (its error is on stderr, the others are captioned)."""
    options = search_options(args)
    if not 1 <= args.n_best <= args.beam:
        raise UserError(f"--n-best {args.n_best}: must be 1 to the width of the beam, {args.beam}")
    sources = list(picture_sources(args.images, args.allow_urls))
    drawings = _drawings(args.attention, sources) if args.attention else {}
    captioner = Captioner.load(args.model)
    status, waiting = 0, iter(enumerate(sources))
    while batch := list(islice(waiting, BATCH)):
        read = list(_read(batch, captioner, keep=bool(drawings)))
        for index, source, result in _captioned(read, captioner, args, options):
            if isinstance(result, UserError):
                status = 1
                log(f"error: {result}")
                if args.json:
                    print(json.dumps({"image": source.shown, "error": str(result)}, ensure_ascii=False), flush=True)
                continue
            for line in lines(source.shown, result.captions, args.json):
                print(line, flush=True)
            if drawings:
                _draw(drawings[index], result)
    return status


class Read(NamedTuple):
    """An image as the model sees it (uint8, (3, size, size)) and as people do; its captions, best first, once found."""

    pixels: np.ndarray
    picture: Image.Image | None
    captions: list[Caption]


def _read(
    batch: Sequence[tuple[int, Source]], captioner: Captioner, keep: bool
) -> Iterator[tuple[int, Source, Read | UserError]]:
    """Each image made small at once: a batch of photographs at their full size may not fit the memory."""
    for index, source in batch:
        try:
            picture = load_image(source.load())
            pixels = captioner.transform(picture)
        except UserError as error:
            message = str(error).replace(source.name, source.shown)
            yield index, source, UserError(message if source.shown in message else f"{source.shown}: {message}")
            continue
        small = None
        if keep:
            small = seen(picture, captioner.transform)
            small.thumbnail((LARGEST, LARGEST))
        yield index, source, Read(pixels, small, [])


def _captioned(
    read: list[tuple[int, Source, Read | UserError]],
    captioner: Captioner,
    args: argparse.Namespace,
    options: dict[str, Any],
) -> Iterator[tuple[int, Source, Read | UserError]]:
    whole = [result.pixels for *_, result in read if isinstance(result, Read)]
    if whole:
        pixels = torch.from_numpy(np.stack(whole))  # (image, 3, size, size)
        attention = args.attention is not None
        found = iter(captioner.generate(pixels, args.beam, n_best=args.n_best, attention=attention, **options))
    for index, source, result in read:
        yield index, source, result if isinstance(result, UserError) else result._replace(captions=next(found))


def lines(name: str, captions: Sequence[Caption], as_json: bool) -> Iterator[str]:
    """What is printed for one image: `name: caption`, with the log probability where there are several; or JSON."""
    if as_json:
        entries = [
            {"caption": c.text, "logprob": c.logprob, "score": c.score, "finished": c.finished} for c in captions
        ]
        more = {"captions": entries} if len(entries) > 1 else {}
        yield json.dumps({"image": name, **entries[0], **more}, ensure_ascii=False)
    elif len(captions) == 1:
        yield f"{name}: {captions[0].text}"
    else:
        yield from (f"{name}: {caption.text}  ({caption.logprob:.2f})" for caption in captions)


def _draw(path: Path, result: Read) -> None:
    best = result.captions[0]
    if best.attention is None:
        raise UserError("this model does not attend to parts of the image: there is nothing to draw (--attention)")
    with atomic(path) as temporary:
        draw_attention(result.picture, best).save(temporary, Image.registered_extensions()[path.suffix.lower()])


def _drawings(out: Path, sources: Sequence[Source]) -> dict[int, Path]:
    """The picture to draw for each image: OUT.png itself, or with several images OUT-<name of the image>.png.

    A folder holds <name of the image>.png. Images of the same name are told apart by a number.
    """
    folder = out.is_dir() or out.suffix == ""
    if not folder and out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--attention {out}: the picture's name must end in .png, .jpg or .webp")
    if len(sources) == 1 and not folder:
        return {0: out}
    paths: dict[int, Path] = {}
    for index, source in enumerate(sources):
        name = source.stem if folder else f"{out.stem}-{source.stem}"
        path = (out if folder else out.parent) / f"{name}{'.png' if folder else out.suffix}"
        number = 2
        while path in paths.values():
            path = path.with_stem(f"{name}-{number}")
            number += 1
        paths[index] = path
    return paths
