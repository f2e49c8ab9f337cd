"""Supported image formats, their file name suffixes, and which files of a folder are images."""

from pathlib import Path

# Pillow reads many more; some of them run other programs (PostScript) or are not used for photographs.
PICTURE_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),  # JPEGs with several images (two lenses, previews); the first is used
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),  # if Pillow is built with it
}

PICTURE_SUFFIXES = tuple(suffix for suffixes in PICTURE_FORMATS.values() for suffix in suffixes)


def passed_over(path: Path) -> str | None:
    """Why the file `path` of a folder is not an image, in a few words; None when its name is an image's."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return f"{path.suffix.lower() or 'without an ending'}, which is not an image's"
    if not path.is_file():  # a FIFO, a device
        return "not a file" if path.exists() else "a link to nothing"
    return None
