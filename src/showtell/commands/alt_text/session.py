"""Describing many pictures: what is to be done, done a few at a time, in memory that does not grow with them."""

import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from showtell.commands.alt_text.description import Description, Origin, picture_state
from showtell.commands.alt_text.embedding import embed, find_exiftool
from showtell.commands.alt_text.writers import Table, TextSidecars, Writer, XmpSidecars
from showtell.commands.inputs import SUFFIXES
from showtell.core.errors import UserError
from showtell.core.progress import log, track
from showtell.data.transform import load_image
from showtell.generation.captioner import BATCH, Captioner


class Waiting(NamedTuple):
    """A picture made small at once: many at their full size may not fit the memory."""

    path: Path
    state: str
    pixels: np.ndarray  # uint8 (3, size, size)


def describe(roots: Sequence[Path], model: Path, form: str, output: Path, embedded: bool, dry_run: bool) -> bool:
    """Describe the pictures of `roots` that `form` does not hold yet; whether all of them could be."""
    exiftool = find_exiftool() if embedded else None
    captioner = Captioner.load(model)
    origin = Origin(version("showtell"), captioner.hash())
    writer = _writer(form, output, origin)
    total = sum(1 for _ in pictures(roots))
    counts = {"described": 0, "already described": 0, "failed": 0}
    waiting = _waiting(track(pictures(roots), "describe", total=total), captioner, writer, counts, dry_run)
    if dry_run:
        for one in waiting:
            print(f"would describe {one.path}")
            counts["described"] += 1
    while batch := list(islice(waiting, BATCH)):
        captions = captioner.generate(torch.from_numpy(np.stack([one.pixels for one in batch])), beam=5)
        for one, (caption, *_) in zip(batch, captions, strict=True):
            try:
                state = one.state
                if exiftool is not None:
                    embed(exiftool, one.path, caption.text, origin)
                    state = picture_state(one.path)  # as it is now: that is what the next run meets
                writer.write(Description(one.path, caption.text, caption.logprob, state))
                counts["described"] += 1
            except UserError as error:
                counts["failed"] += 1
                log(f"error: {error}")
    if not dry_run:
        writer.finish()
    place = str(output) if form in ("csv", "jsonl") else f"{form} beside the pictures"
    where = "nothing was written" if dry_run else place
    log(", ".join(f"{count} {what}" for what, count in counts.items()) + f" ({where})")
    return counts["failed"] == 0


def _writer(form: str, output: Path, origin: Origin) -> Writer:
    if form == "xmp":
        return XmpSidecars(origin)
    return TextSidecars(origin) if form == "txt" else Table(output, origin, as_json=form == "jsonl")


def _waiting(
    paths: Iterator[Path], captioner: Captioner, writer: Writer, counts: dict[str, int], dry_run: bool
) -> Iterator[Waiting]:
    """The pictures that have no description yet; what cannot be read is a line, and the others go on."""
    nothing = np.empty(0, np.uint8)
    for path in paths:
        try:
            state = picture_state(path)
            if writer.is_done(path, state):
                counts["already described"] += 1
                continue
            yield Waiting(path, state, nothing if dry_run else captioner.transform(load_image(path)))
        except UserError as error:
            counts["failed"] += 1
            log(f"error: {error}")


def pictures(roots: Sequence[Path]) -> Iterator[Path]:
    """Every picture file of `roots`, those of a folder by name, with all folders below it but hidden ones."""
    for root in roots:
        if not root.is_dir():
            yield root
            continue
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() in SUFFIXES and not name.startswith(".") and path.is_file():
                    yield path
