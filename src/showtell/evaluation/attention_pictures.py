"""Images of captions with the attention for each word. Needs no display."""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from math import ceil, isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont, ImageOps

from showtell.core.arrays import evenly_spaced
from showtell.core.files import atomic_folder
from showtell.core.progress import log
from showtell.data.transform import Transform
from showtell.generation.captioner import Caption

if TYPE_CHECKING:  # `showtell caption` needs no dataset
    from showtell.data.batches import CaptionedImages

PAPER, INK = (252, 251, 249), (32, 33, 36)
WARM = np.array([255.0, 140.0, 20.0])  # the colour of attention
GLOW = 0.55  # opacity of that colour at the maximum of the attention, 0-1
TILE = 168  # pixels, the longer side of a word's tile
GAP = 14
WORD_SIZE, CAPTION_SIZE = 19, 30  # pixels, of the letters
ROWS = 2  # of tiles, until there are more words than WIDEST x ROWS
WIDEST = 8  # tiles in a row
LEAST_TILE = 84  # pixels, width and height of the place of a tile, so that words below narrow pictures can be read
LEAST_WIDTH = 560  # pixels, of the whole, for the caption

# Uniform attention must look dull: full brightness requires an attention of at least this multiple of the uniform one.
PEAK = 4.0


def seen(picture: Image.Image, transform: Transform) -> Image.Image:
    """The part of an RGB image that the model gets, at the image's own resolution, for drawing attention on it."""
    if transform.fit == "stretch":
        return picture
    side = min(picture.size)
    return ImageOps.fit(picture, (side, side))


def heat(attention: np.ndarray, size: tuple[int, int], shift: float = 0.0) -> np.ndarray:
    """Brightness 0-1, float (height, width), of one word's attention (cell,), cells row by row of a square grid.

    1 is the attention of the best cell or `PEAK` times the uniform attention, whichever is more; `size` is (width,
    height), `shift` as in `Caption`.
    """
    side = isqrt(len(attention))
    if side * side != len(attention):
        raise ValueError(f"attention over {len(attention)} cells is not a square grid")
    grid = np.asarray(attention, np.float32).reshape(side, side)
    grid = grid / max(float(grid.max()), PEAK * float(grid.mean()), 1e-9)
    low, high = 1 - shift * side, 1 - shift * side + side  # the image's edges, in cells of the padded grid
    padded = Image.fromarray(np.pad(grid, 1, mode="edge"))
    smooth = padded.resize(size, Image.Resampling.BICUBIC, box=(low, low, high, high))
    return np.clip(np.asarray(smooth), 0, 1)


def glow(picture: Image.Image, attention: np.ndarray, shift: float = 0.0) -> Image.Image:
    """The RGB image darkened, with a warm light where one word's `attention` (cell,) lies; `shift` as in `Caption`."""
    light = heat(attention, picture.size, shift)[..., None]  # (height, width, 1)
    pixels = np.asarray(picture, np.float32)  # (height, width, 3)
    grey = pixels.mean(axis=2, keepdims=True)
    dimmed = 0.2 * (pixels + grey)
    lit = 255 - (255 - pixels) * (1 - GLOW * WARM / 255)  # screen blending with that colour
    mixed = dimmed * (1 - light) + lit * light
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def draw_attention(picture: Image.Image, caption: Caption) -> Image.Image:
    """One RGB image: the caption, the RGB `picture` below it, and beside it a tile for each word.

    `picture` is what the model gets, at any resolution (see `seen`). Without attention there are no tiles.
    """
    attention = caption.attention if caption.attention is not None else np.zeros((0, 1))
    words = caption.words[: len(attention)]
    rows = max(ROWS, ceil(len(words) / WIDEST))
    columns = ceil(len(words) / rows)
    tile = _fit(picture, TILE)
    place = max(tile.width, LEAST_TILE), max(tile.height, LEAST_TILE)  # of a tile: width, height
    label = WORD_SIZE + 14  # below each tile
    row_height = place[1] + label
    large = _fit_height(picture, ROWS * row_height - label + (ROWS - 1) * GAP)
    if large.width > WIDEST * TILE:  # a panorama
        large = _resized(picture, WIDEST * TILE / picture.width)
    width = max(LEAST_WIDTH, GAP + large.width + GAP + columns * (place[0] + GAP))
    title = _wrapped(caption.text, font(CAPTION_SIZE, caption.text), width - 2 * GAP)
    top = GAP + len(title) * (CAPTION_SIZE + 10) + GAP // 2
    bottom = top + max(large.height + label, rows * (row_height + GAP) - GAP)
    sheet = Image.new("RGB", (width, bottom + GAP // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    for line, text in enumerate(title):
        draw.text((GAP, GAP + line * (CAPTION_SIZE + 10)), text, INK, font(CAPTION_SIZE, text))
    sheet.paste(large, (GAP, top))
    for index, word in enumerate(words):
        middle = GAP + large.width + GAP + (index % columns) * (place[0] + GAP) + place[0] // 2
        lower = top + (index // columns) * (row_height + GAP) + place[1]
        shone = glow(tile, attention[index], caption.shift)
        sheet.paste(shone, (middle - tile.width // 2, lower - tile.height))
        text = _shortened(word, font(WORD_SIZE, word), place[0] + GAP - 4)
        draw.text((middle, lower + 6), text, INK, font(WORD_SIZE, word), anchor="ma")
    return sheet


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int = 4) -> Image.Image:
    """RGB pictures in a grid, each with its caption below; `columns` of them in a row."""
    columns = max(1, min(columns, len(pictures)))
    side, size = 240, 17
    lines = [_wrapped(caption, font(size, caption), side) for caption in captions]
    starts = range(0, len(pictures), columns)
    heights = [side + 10 + max(len(text) for text in lines[start : start + columns]) * (size + 6) for start in starts]
    sheet = Image.new("RGB", (GAP + columns * (side + GAP), GAP + sum(heights) + len(heights) * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, text) in enumerate(zip(pictures, lines, strict=True)):
        row, column = divmod(index, columns)
        left, top = GAP + column * (side + GAP), GAP + sum(heights[:row]) + row * GAP
        small = _fit(picture, side)
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        for number, line in enumerate(text):
            draw.text((left, top + side + 8 + number * (size + 6)), line, INK, font(size, line))
    return sheet


def write_attention(folder: Path, data: "CaptionedImages", captions: Sequence[Caption], count: int) -> None:
    """`folder` with `image-00.png`, ...: `draw_attention` of `count` images spread over `data`, and `sheet.png`.

    No file name is a number alone: DVC would take it for a step of a series, and fail beside a file that is not.

    `captions` has one for each image of `data`. The folder is replaced atomically.
    """
    rows = evenly_spaced(len(data), count).tolist()
    pictures = [Image.fromarray(row.transpose(1, 2, 0)) for row in data.store.rows(rows)] if rows else []
    with atomic_folder(folder) as unfinished:
        for number, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
            draw_attention(picture, captions[row]).save(unfinished / f"image-{number:02d}.png")
        if pictures:
            contact_sheet(pictures, [captions[row].text for row in rows]).save(unfinished / "sheet.png")


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
DEJAVU = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")  # alphabets of Europe, the Near East and others


def font(size: int, text: str) -> Font:
    """A font of letters `size` pixels high with the characters of `text`.

    Pillow's own font has Latin letters only, matplotlib's DejaVu many alphabets; for others (Chinese, Hindi, Thai) it
    is a font of this machine. Where none has them, a line is logged, and they are drawn as boxes.
    """
    return _font(size, None if text.isascii() else _font_file(_visible(text)))


@cache
def _font(size: int, file: Path | None) -> Font:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


def _visible(text: str) -> frozenset[int]:
    return frozenset(ord(letter) for letter in text if not letter.isspace() and unicodedata.category(letter) != "Cf")


@lru_cache(1024)  # distinct captions
def _font_file(wanted: frozenset[int]) -> Path:
    """A font file with all these characters, DejaVu where there is none."""
    if not wanted <= _characters(DEJAVU):
        for file in _installed():
            if wanted <= _characters(file):
                return file
        absent = chr(min(wanted - _characters(DEJAVU)))
        _tell_of_boxes(unicodedata.name(absent, "such").split()[0].title())
    return DEJAVU


@cache
def _characters(file: Path) -> frozenset[int]:
    """Those of a font; none if Pillow cannot draw them at any size."""
    try:
        ImageFont.truetype(file, WORD_SIZE)
        return frozenset(FT2Font(str(file)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _installed() -> list[Path]:
    from matplotlib.font_manager import findSystemFonts  # looks at all fonts when it is imported

    def upright(file: Path) -> bool:
        return not any(style in file.stem.lower() for style in ("bold", "italic", "oblique"))

    return sorted(map(Path, findSystemFonts()), key=lambda file: (not upright(file), file))


@cache
def _tell_of_boxes(script: str) -> None:
    log(f"no font on this machine has {script} letters: they are drawn as boxes; install a font that has them")


def _wrapped(text: str, letters: Font, width: int) -> list[str]:
    """`text` in lines that are at most `width` pixels wide, at least one; a wider word is broken (some languages are
    written without spaces)."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if letters.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            marks = unicodedata.category(letter).startswith("M")  # the letter before it, and stays with it
            if lines[-1] and not marks and letters.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _shortened(text: str, letters: Font, width: int) -> str:
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _fit(picture: Image.Image, longer: int) -> Image.Image:
    """The picture with its longer side at `longer` pixels."""
    scale = longer / max(picture.size)
    return _resized(picture, scale)


def _fit_height(picture: Image.Image, height: int) -> Image.Image:
    return _resized(picture, height / picture.height)


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)
