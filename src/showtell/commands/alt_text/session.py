"""Describing many images in batches, with memory that does not depend on their number."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from showtell.commands.alt_text.description import BY_OTHERS, Description, Kept, Origin, picture_state
from showtell.commands.alt_text.description_table import Table
from showtell.commands.alt_text.embedding import embed, find_exiftool, is_by_others, is_embedded
from showtell.commands.alt_text.writers import TextSidecars, Writer, XmpSidecars
from showtell.commands.caption_output import tell_highest_confidence
from showtell.commands.folder_walk import comes_by, image_files, log_passed_over
from showtell.core.errors import UserError
from showtell.core.progress import log, track
from showtell.core.terminal import printable
from showtell.data.transform import load_image
from showtell.generation.captioner import Caption, Captioner
from showtell.generation.confidence import floored


class Session:
    """The images of a run, from reading to writing the description. Images that wait for a caption are not in
    memory."""

    def __init__(self, writer: Writer, origin: Origin, exiftool: str | None, min_confidence: float | None):
        self.writer, self.origin, self.exiftool, self.min_confidence = writer, origin, exiftool, min_confidence
        told = "described", "already described", "not sure enough", "still not sure enough", "failed"
        self.counts = dict.fromkeys(told, 0)
        self.below = 0  # captions that were there, with a confidence below the lowest
        self._waiting: deque[tuple[Path, str]] = deque()

    def undescribed(self, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
        """The images without a description, each with its state; unreadable ones are logged."""
        for path in paths:
            try:
                state = picture_state(path)
                kept = self.writer.kept(path)
                if kept is None or not self._is_done(path, state, kept):
                    kept = BY_OTHERS if self.exiftool is not None and is_by_others(self.exiftool, path) else None
                if kept is None:
                    yield path, state
                else:
                    self.below += kept.is_below(self.min_confidence)
                    self.counts["already described" if kept.withheld is None else "still not sure enough"] += 1
            except UserError as error:
                self.failed(str(error))

    def _is_done(self, path: Path, state: str, kept: Kept) -> bool:
        if not kept.is_done(self.origin, state, self.min_confidence):
            return False
        return self.exiftool is None or not kept.has_caption or is_embedded(self.exiftool, path, self.origin)

    def images(self, undescribed: Iterable[tuple[Path, str]]) -> Iterator[Image.Image]:
        """Their images, one at a time. `write` takes the captions in the same order."""
        for path, state in undescribed:
            try:
                image = load_image(path)
            except UserError as error:
                self.failed(str(error))
                continue
            self._waiting.append((path, state))
            yield image

    def write(self, caption: Caption) -> None:
        """Store the caption of the first waiting image, then embed it; if it was withheld, log why.

        What cannot be embedded has been stored. After a kill in between, the next run describes the image again.
        """
        path, state = self._waiting.popleft()
        text = caption.text if caption.abstained is None else None
        if text is None:
            log(f"{printable(str(path))}: no caption: {caption.abstained}")
        confidence = None if caption.confidence is None else floored(caption.confidence)
        description = Description(path, text, caption.logprob, state, confidence, caption.abstained)
        try:
            self.writer.write(description)
            if self.exiftool is not None and text is not None and embed(self.exiftool, path, text, self.origin):
                # The state after embedding, which the next run compares
                self.writer.write(replace(description, state=picture_state(path)))
            self.counts["not sure enough" if text is None else "described"] += 1
        except UserError as error:
            self.failed(str(error))

    def failed(self, problem: str) -> None:
        """Count and log what could not be described."""
        self.counts["failed"] += 1
        log(f"error: {problem}")


class Wanted(NamedTuple):
    """How descriptions are stored, and the lowest confidence at which they are."""

    form: str
    output: Path  # of the formats csv and jsonl
    embedded: bool
    min_confidence: float | None


def describe(roots: Sequence[Path], model: Path, wanted: Wanted, dry_run: bool) -> bool:
    """Describe the images in `roots` that have no description yet; returns whether all could be described."""
    form, output = wanted.form, wanted.output
    exiftool = find_exiftool() if wanted.embedded else None
    captioner = Captioner.load(model)
    captioner.check_confidence(wanted.min_confidence)
    tell_highest_confidence(captioner, wanted.min_confidence)
    models = "+".join(model.hash() for model in captioner.models)
    origin = Origin(version("showtell"), models, captioner.settings_hash())
    session = Session(_writer(form, output, origin), origin, exiftool, wanted.min_confidence)
    roots = _distinct(roots)
    total = sum(_look_through(root, session) for root in roots)
    undescribed = session.undescribed(track(pictures(roots), "describe", total=total))
    place = str(output) if form in ("csv", "jsonl") else f"{form} beside the pictures"
    if dry_run:
        for path, _ in undescribed:
            print(f"would describe {printable(str(path))}")
            session.counts["described"] += 1
        place = "nothing was written"
    else:
        images = session.images(undescribed)
        with session.writer.alone():
            for caption, *_ in captioner.stream(images, attention=False, min_confidence=wanted.min_confidence):
                session.write(caption)
            session.writer.finish()
    counts = {what: count for what, count in session.counts.items() if count or "sure" not in what}
    if dry_run:
        counts = {"would be described" if what == "described" else what: count for what, count in counts.items()}
    log(", ".join(f"{count} {what}" for what, count in counts.items()) + f" ({place})")
    if session.below:
        log(
            f"{session.below} of the captions that were there have a confidence below {wanted.min_confidence:g} and "
            "stay: delete them to have them withheld"
        )
    return session.counts["failed"] == 0


def _writer(form: str, output: Path, origin: Origin) -> Writer:
    if form == "xmp":
        return XmpSidecars(origin)
    return TextSidecars(origin) if form == "txt" else Table(output, origin, as_json=form == "jsonl")


def _distinct(roots: Sequence[Path]) -> list[Path]:
    """`roots` without those whose images another one has, so that none is described twice."""
    places = [Path(os.path.abspath(root)) for root in roots]
    folders = {place for place in places if place.is_dir()}
    kept: dict[Path, Path] = {}
    for root, place in zip(roots, places, strict=True):
        if not any(above in folders and comes_by(above, place) for above in place.parents):
            kept.setdefault(place, root)
    return list(kept.values())


def _look_through(root: Path, session: Session) -> int:
    """The number of image files of `root`; what else is there is logged, and folders without any or that cannot be read
    count as failed. `pictures` passes over them again in silence."""
    if not root.is_dir():
        return 1
    other, failed = Counter[str](), session.counts["failed"]
    count = sum(1 for _ in image_files(root, lambda refused: session.failed(refused.problem), other))
    log_passed_over(str(root), other)
    if not count and session.counts["failed"] == failed:
        session.failed(f"{root}: no pictures in this folder")
    return count


def pictures(roots: Sequence[Path]) -> Iterator[Path]:
    """Every image file of `roots`; those of a folder by name, with all folders below it except hidden ones."""
    for root in roots:
        if root.is_dir():
            yield from image_files(root, lambda refused: None)
        else:
            yield root
