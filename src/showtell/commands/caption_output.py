"""Captioning a row of pictures, few at a time: read, caption, print, draw."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from showtell.commands.inputs import Source
from showtell.core.errors import UserError
from showtell.core.files import atomic
from showtell.core.progress import log
from showtell.data.transform import load_image
from showtell.evaluation.attention_pictures import draw_attention, seen
from showtell.generation.captioner import BATCH, Caption, Captioner

LARGEST = 1024  # pixels, the longer side of a picture that attention is drawn on


def caption_photos(
    model: Path, sources: Sequence[Source], options: Mapping[str, Any], drawings: Sequence[Path] | None, as_json: bool
) -> bool:
    """Print the captions of `sources`, and draw them at the paths `drawings`; whether all of them could be read.

    `options` are those of `Captioner.generate`. What is wrong with a picture goes to stderr, and the others go on.
    """
    captioner = Captioner.load(model)
    whole, waiting = True, iter(enumerate(sources))
    while batch := list(islice(waiting, BATCH)):
        read = [_read(source, captioner, keep=drawings is not None) for _, source in batch]
        found = _captions(read, captioner, {**options, "attention": drawings is not None})
        for (index, source), result, captions in zip(batch, read, found, strict=True):
            if isinstance(result, UserError):
                whole = False
                log(f"error: {result}")
            for line in lines(source.shown, captions, as_json, problem=None if captions else str(result)):
                print(line, flush=True)
            if captions and drawings is not None:
                _draw(drawings[index], result.picture, captions[0])
    return whole


class Photo(NamedTuple):
    """A picture as the model sees it (uint8, (3, size, size)) and, to be drawn on, as people do."""

    pixels: np.ndarray
    picture: Image.Image | None


def _read(source: Source, captioner: Captioner, keep: bool) -> Photo | UserError:
    """A picture made small at once: a batch of photographs at their full size may not fit the memory."""
    try:
        picture = load_image(source.load())
    except UserError as error:
        message = str(error).replace(source.name, source.shown)
        return UserError(message if source.shown in message else f"{source.shown}: {message}")
    pixels = captioner.transform(picture)
    if not keep:
        return Photo(pixels, None)
    small = seen(picture, captioner.transform)
    small.thumbnail((LARGEST, LARGEST))
    return Photo(pixels, small)


def _captions(
    read: Sequence[Photo | UserError], captioner: Captioner, options: Mapping[str, Any]
) -> Iterator[list[Caption]]:
    """The captions of each picture, best first; none of one that could not be read."""
    pixels = [photo.pixels for photo in read if isinstance(photo, Photo)]
    found = iter(captioner.generate(torch.from_numpy(np.stack(pixels)), **options) if pixels else [])
    return (next(found) if isinstance(photo, Photo) else [] for photo in read)


def lines(name: str, captions: Sequence[Caption], as_json: bool, problem: str | None = None) -> Iterator[str]:
    """What is printed for one image: `name: caption`, with the log probability where there are several; or JSON."""
    if as_json:
        entries = [
            {"caption": c.text, "logprob": c.logprob, "score": c.score, "finished": c.finished} for c in captions
        ]
        more = {"captions": entries} if len(entries) > 1 else {}
        content = {**entries[0], **more} if entries else {"error": problem}
        yield json.dumps({"image": name, **content}, ensure_ascii=False)
    elif len(captions) == 1:
        yield f"{name}: {captions[0].text}"
    else:
        yield from (f"{name}: {caption.text}  ({caption.logprob:.2f})" for caption in captions)


def _draw(path: Path, picture: Image.Image, best: Caption) -> None:
    if best.attention is None:
        raise UserError("this model does not attend to parts of the image: there is nothing to draw (--attention)")
    with atomic(path) as temporary:
        draw_attention(picture, best).save(temporary, Image.registered_extensions()[path.suffix.lower()])
