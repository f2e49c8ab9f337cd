"""Writing a caption into an image's own metadata with exiftool, which supports all common formats.

Texts that showtell has not written are kept, by the rule of `description.replaceable`. The caption's origin and hash
are beside it, in properties of showtell's own (`exiftool.config`).
"""

import json
import mmap
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from showtell.commands.alt_text.description import Origin, replaceable, text_hash
from showtell.commands.alt_text.xmp import legal
from showtell.core.errors import UserError
from showtell.core.terminal import printable

CONFIG = Path(__file__).with_name("exiftool.config")
DESCRIPTION, ALT_TEXT = "XMP-dc:Description", "XMP-iptcCore:AltTextAccessibility"
ORIGIN, WRITTEN = "XMP-showtell:Origin", "XMP-showtell:Written"
# XMP in a JPEG is not compressed, and has one of these: its header (XMP Specification Part 3, 2020, section 1.1.3), or
# the namespace of RDF where a program has put it elsewhere.
_JPEG, _XMP_MARKS = b"\xff\xd8", (b"ns.adobe.com/xap", b"22-rdf-syntax-ns#")


class Embedded(NamedTuple):
    """The texts in an image's XMP, or "", and the hash and the origin of showtell's."""

    description: str
    alt_text: str
    written: str | None
    origin: str | None

    @property
    def by_others(self) -> bool:
        """Whether there is an alt text that showtell has not written, or that was corrected."""
        return not replaceable(self.alt_text, self.written)


def find_exiftool() -> str:
    found = shutil.which("exiftool")
    if found is None:
        raise UserError("--embed needs exiftool (Debian: libimage-exiftool-perl); without it choose --format xmp")
    return found


def embed(exiftool: str, picture: Path, caption: str, origin: Origin) -> bool:
    """Write `caption` into `picture` as XMP, in place, unless it has an alt text by others; its pixels stay unchanged.
    Returns whether it was written; `UserError` when that fails."""
    present = _embedded(exiftool, picture)
    if present.by_others:
        return False
    text = " ".join(legal(caption).split())  # one line of the argument file
    # The default alone: without a language exiftool would delete the texts in all others
    arguments = [f"-{ALT_TEXT}-x-default={text}", f"-{ORIGIN}={origin}", f"-{WRITTEN}={text_hash(text)}"]
    if replaceable(present.description, present.written):
        arguments.append(f"-{DESCRIPTION}-x-default={text}")
    # Of a format that it only reads, exiftool says that the file is unchanged, and exits with 0
    updated = "1 image files updated"
    _run(exiftool, picture, "could not write into it", "-overwrite_original", *arguments, expected=updated)
    return True


def is_by_others(exiftool: str, picture: Path) -> bool:
    """Whether the image's metadata has an alt text by others."""
    return _embedded(exiftool, picture).by_others


def is_embedded(exiftool: str, picture: Path, origin: Origin) -> bool:
    """Whether a caption of this origin, or an alt text by others, is in the image's metadata."""
    if _holds(picture, str(origin).encode()):
        return True  # an alt text beside it is of this origin, or was corrected
    present = _embedded(exiftool, picture)
    return present.origin == str(origin) or present.by_others


def _embedded(exiftool: str, picture: Path) -> Embedded:
    """What an image's XMP has. exiftool is started unless it certainly has none, which is known of JPEGs only: in other
    formats XMP may be compressed."""
    if _begins_with(picture, _JPEG) and not any(_holds(picture, mark) for mark in _XMP_MARKS):
        return Embedded("", "", None, None)
    texts = f"-{DESCRIPTION}*", f"-{ALT_TEXT}*"  # in all languages
    said = _run(exiftool, picture, "could not read it", "-j", "-G1", *texts, f"-{ORIGIN}", f"-{WRITTEN}")
    (tags,) = json.loads(said, parse_int=str, parse_float=str)
    return Embedded(_text(tags, DESCRIPTION), _text(tags, ALT_TEXT), tags.get(WRITTEN), tags.get(ORIGIN))


def _text(tags: dict[str, object], name: str) -> str:
    """The default of a language alternative, otherwise the first of its other languages; "" when there is none."""
    texts = [tags.get(name), *(text for tag, text in tags.items() if tag.startswith(f"{name}-"))]
    return next((str(text) for text in texts if text), "")


def _run(exiftool: str, picture: Path, failed: str, *arguments: str, expected: str = "") -> str:
    """What exiftool prints; `UserError` when it fails or does not print `expected`.

    Its arguments are on standard input, so that a file name that begins with a hyphen is not taken for an option. They
    are bytes, since a file name may not be valid text.
    """
    name = os.fsencode(picture.resolve())
    if b"\n" in name or b"\r" in name:  # it would end the argument
        raise UserError(f"{printable(str(picture))}: exiftool takes no file name with a line break; rename it")
    given = b"\n".join((b"-charset", b"filename=utf8", *(argument.encode() for argument in arguments), name))
    command = [exiftool, "-config", os.fspath(CONFIG), "-@", "-"]  # -config is known only as the first argument
    done = subprocess.run(command, input=given, capture_output=True)
    said, problem = (output.decode("utf-8", "replace") for output in (done.stdout, done.stderr))
    if done.returncode != 0 or expected not in said:
        reason = " ".join((problem or said).split())[:200]
        raise UserError(f"{picture}: exiftool {failed}: {reason}")
    return said


def _begins_with(picture: Path, mark: bytes) -> bool:
    with open(picture, "rb") as file:
        return file.read(len(mark)) == mark


def _holds(picture: Path, content: bytes) -> bool:
    with open(picture, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_of_it:
        return all_of_it.find(content) >= 0
