"""The formats of pictures that are read, the endings that files of each bear, and which files of a folder count."""

from pathlib import Path

# Pillow reads many more; some of those run other programs (PostScript) or have no place among photographs.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),  # JPEGs of cameras with two lenses or previews; the first counts
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),  # where Pillow is built with it
}

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


def passed_over(path: Path) -> str | None:
    """Why the file `path` of a folder is no picture, in a few words; None when it is one by its name."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return f"{path.suffix.lower() or 'without an ending'}, which is no picture's"
    if not path.is_file():  # a FIFO, a device
        return "not a file" if path.exists() else "a link to nothing"
    return None
