"""Writing a caption into an image's own metadata with exiftool, which supports all common formats.

Texts that showtell has not written are kept, by the rule of `description.replaceable`.
"""

import json
import mmap
import shutil
import subprocess
from pathlib import Path

from showtell.commands.alt_text.description import OURS, Origin, replaceable
from showtell.core.errors import UserError

DESCRIPTION, ALT_TEXT = "XMP-dc:Description", "XMP-iptcCore:AltTextAccessibility"


def find_exiftool() -> str:
    found = shutil.which("exiftool")
    if found is None:
        raise UserError("--embed needs exiftool (Debian: libimage-exiftool-perl); without it choose --format xmp")
    return found


def embed(exiftool: str, picture: Path, caption: str, origin: Origin) -> None:
    """Write `caption` into `picture` as XMP, in place; its pixels stay unchanged. `UserError` when that fails."""
    any_description, any_alt_text = replaceable(*_texts(exiftool, picture), ours=_holds(picture, OURS))
    if not any_alt_text:
        return
    one_line = " ".join(caption.split())
    written = [f"-{ALT_TEXT}={one_line}", f"-XMP-xmp:CreatorTool={origin}"]
    if any_description:
        written.append(f"-{DESCRIPTION}={one_line}")
    _run(exiftool, picture, "could not write into it", "-overwrite_original", *written)


def is_embedded(picture: Path, origin: Origin) -> bool:
    """Whether a caption of this origin, or an alt text by others, is in the image's metadata, which exiftool writes as
    plain text."""
    return _holds(picture, str(origin)) or (_holds(picture, "AltTextAccessibility") and not _holds(picture, OURS))


def _texts(exiftool: str, picture: Path) -> tuple[str, str]:
    """The description and the alt text in an image's XMP; empty where there is none."""
    if not _holds(picture, "ns.adobe.com/xap"):  # no XMP: exiftool need not look
        return "", ""
    tags = json.loads(_run(exiftool, picture, "could not read it", "-j", "-G1", f"-{DESCRIPTION}", f"-{ALT_TEXT}"))[0]
    description, alt_text = (str(tags.get(name, "")).strip() for name in (DESCRIPTION, ALT_TEXT))
    return description, alt_text


def _run(exiftool: str, picture: Path, failed: str, *arguments: str) -> str:
    """What exiftool prints. Its arguments are on standard input, so that a file name that begins with a hyphen is not
    taken for an option."""
    given = "\n".join(("-charset", "filename=utf8", *arguments, str(picture.resolve())))
    done = subprocess.run([exiftool, "-@", "-"], input=given, capture_output=True, text=True)
    if done.returncode != 0:
        reason = " ".join((done.stderr or done.stdout).split())[:200]
        raise UserError(f"{picture}: exiftool {failed}: {reason}")
    return done.stdout


def _holds(picture: Path, text: str) -> bool:
    with open(picture, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text.encode()) >= 0
