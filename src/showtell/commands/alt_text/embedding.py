"""Writing a caption into an image's own metadata with exiftool, which supports all common formats."""

import mmap
import shutil
import subprocess
from pathlib import Path

from showtell.commands.alt_text.description import Origin
from showtell.core.errors import UserError


def find_exiftool() -> str:
    found = shutil.which("exiftool")
    if found is None:
        raise UserError("--embed needs exiftool (Debian: libimage-exiftool-perl); without it choose --format xmp")
    return found


def embed(exiftool: str, picture: Path, caption: str, origin: Origin) -> None:
    """Write `caption` into `picture` as XMP, in place; its pixels stay unchanged. `UserError` when that fails.

    Arguments are passed on standard input, so that a file name that begins with a hyphen is not taken for an option.
    """
    one_line = " ".join(caption.split())
    arguments = [
        "-overwrite_original", "-charset", "filename=utf8",
        f"-XMP-dc:Description={one_line}", f"-XMP-iptcCore:AltTextAccessibility={one_line}",
        f"-XMP-xmp:CreatorTool={origin}", str(picture.resolve()),
    ]  # fmt: skip
    done = subprocess.run([exiftool, "-@", "-"], input="\n".join(arguments), capture_output=True, text=True)
    if done.returncode != 0:
        reason = " ".join((done.stderr or done.stdout).split())[:200]
        raise UserError(f"{picture}: exiftool could not write into it: {reason}")


def is_embedded(picture: Path, origin: Origin) -> bool:
    """Whether a caption of this origin is in the image's metadata, which exiftool writes as plain text."""
    with open(picture, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(str(origin).encode()) >= 0
