"""The formats of pictures that are read, and the endings that files of each bear."""

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
