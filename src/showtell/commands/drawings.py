"""The mark of pictures that `showtell caption --attention` has drawn: the EXIF tag Software."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late: `showtell caption --help` need not wait for it
    from PIL import Image

DRAWN = "showtell"
_SOFTWARE = 0x0131  # EXIF 2.3, table 4


def mark() -> "Image.Exif":
    """EXIF data with the mark, to be saved with a drawing."""
    from PIL import Image

    exif = Image.Exif()
    exif[_SOFTWARE] = DRAWN
    return exif


def drawn_by(path: Path) -> str:
    """The program that a picture names as its maker; empty where it names none, or is no picture."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return str(picture.getexif().get(_SOFTWARE, ""))
    except Exception:  # whatever else is there, it is not ours
        return ""
