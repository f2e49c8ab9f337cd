"""The image transform, the same for training and inference: any picture in, a square uint8 RGB image out."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from PIL import Image
from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.fields import shown
from showtell.core.files import fingerprint
from showtell.core.params import Section
from showtell.data.formats import PICTURE_FORMATS

# A medium-format camera gives 102 megapixels, 306 MB when decoded. A file that claims more is refused before it is
# decoded: a few kilobytes can claim enough pixels to exhaust the memory.
MAX_PIXELS = 120_000_000
MAX_SIDE = 65_535  # pixels; the limit of JPEG. Longer images cannot be recognised in a square
BAND = 4_000_000  # pixels converted at a time, which bounds the memory of conversions of rare modes

Fit = Literal["stretch", "crop"]
Filter = Literal["bilinear", "bicubic"]


class ResizeParams(Section):
    size: int = Field(ge=16, le=2048, description="pixels, height and width of every stored image")
    fit: Fit = Field(description="stretch: the whole picture, squeezed | crop: shorter side to size, the middle kept")
    filter: Literal["auto", "bilinear", "bicubic"] = Field(description="auto: that of the encoder's weights")
    broken: Literal["error", "skip"] = Field(description="unreadable pictures: stop and list them | leave them out")


class ImageError(UserError):
    """A picture that cannot be used. `kind` is "broken", "truncated" or "oversized"."""

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


def open_image(source: bytes | Path | str | BinaryIO) -> Image.Image:
    """The decoded picture as the file stores it (mode, size, orientation untouched); `ImageError` if it is broken."""
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures and odd metadata; both are handled here
        with _decoding():
            if _is_empty(source):
                raise ImageError("the file is empty", "broken")
            image = Image.open(source, formats=_known_formats())
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}", "oversized")
            if max(image.size) > MAX_SIDE:
                raise ImageError(f"{image.width} x {image.height} pixels, a side above {MAX_SIDE:,}", "oversized")
            image.load()
    return image


def _is_empty(source: Path | str | BinaryIO) -> bool:
    if isinstance(source, io.BytesIO):
        return not source.getbuffer().nbytes
    return isinstance(source, Path | str) and os.path.isfile(source) and not os.path.getsize(source)


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what Pillow raises of a broken picture into an `ImageError`."""
    try:
        yield
    except (ImageError, FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels", "oversized") from None
    except Image.UnidentifiedImageError:
        known = ", ".join(PICTURE_FORMATS)
        raise ImageError(f"not a picture of a format that is read ({known}); convert it to one", "broken") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        kind = "truncated" if "truncated" in str(error).lower() else "broken"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot be decoded: {reason}", kind) from None


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of `PICTURE_FORMATS` that this Pillow supports."""
    Image.init()
    return tuple(name for name in PICTURE_FORMATS if name in Image.OPEN)


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8; 1 where there is none or it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = image.getexif().get(0x0112, 1)
        except Exception:  # broken metadata does not make a picture unusable
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


# The operation that turns each orientation upright (EXIF 2.3, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

_TELL_ORIENTATION = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # where Pillow looks for it


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture upright in RGB; transparent parts become white, 16-bit values are scaled to 8 bits."""
    turn = _UPRIGHT.get(orientation(image))
    if turn is not None:
        image = image.transpose(turn)
        for key in _TELL_ORIENTATION:  # removed, so that the picture is not rotated again
            image.info.pop(key, None)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.mode == "RGB":
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    result = Image.new("RGB", image.size)
    for box in _bands(image):
        part = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", part.size, "white")
        result.paste(Image.alpha_composite(white, part).convert("RGB"), box)
    return result


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of full rows that cover the picture, each of about `BAND` pixels."""
    rows = max(1, BAND // max(1, image.width))
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of 16 bits (0-65535; Pillow calls it I;16 or I) or floating point (0-1 or 0-255) as 8 bits."""

    def values(box: tuple[int, int, int, int]) -> np.ndarray:  # (row, column)
        return np.nan_to_num(np.asarray(image.crop(box)).astype(np.float64))

    scale = 1 / 257
    if image.mode == "F":
        scale = 255 if max((values(box).max(initial=0) for box in _bands(image)), default=0) <= 1 else 1
    result = Image.new("L", image.size)
    for box in _bands(image):
        part = np.clip(np.rint(values(box) * scale), 0, 255).astype(np.uint8)
        result.paste(Image.fromarray(part), box)
    return result


def load_image(source: bytes | Path | str | BinaryIO | Image.Image | np.ndarray) -> Image.Image:
    """An upright RGB picture from a file, its bytes, a Pillow image, or an array uint8 (height, width[, 3 or 4]).

    `ImageError` when it is broken, cut short or claims more than `MAX_PIXELS`; `UserError` when there is no such file.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (3, 4))):
            found = f"{source.dtype} {source.shape}"
            raise UserError(f"an image array must be uint8 (height, width[, 3 or 4]), not {found}")
        source = Image.fromarray(np.ascontiguousarray(source)) if source.size else Image.new("L", source.shape[1::-1])
    if isinstance(source, Image.Image):
        if 0 in source.size:
            raise ImageError(f"{source.width} x {source.height} pixels: there is nothing in it", "broken")
        with _decoding():
            source.load()
        return to_rgb(source)
    if not isinstance(source, Path | str):
        return to_rgb(open_image(source))
    try:
        return to_rgb(open_image(source))
    except ImageError as error:
        raise ImageError(f"{source}: {error}", error.kind) from None
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from None


@dataclass(frozen=True)
class Transform:
    """RGB picture of any shape -> uint8 (3, size, size), by torch's antialiased filters for bytes.

    The results equal those of Pillow's and torchvision's antialiased filters of the same names within one level of 255
    (bicubic: two), in a third of the time. `stretch` resizes the whole picture to a square, as the show-attend-tell
    tutorials do, so that nothing that a caption may mention is cut off; `crop` keeps the aspect ratio and the centre.
    """

    size: int
    fit: Fit
    filter: Filter = "bilinear"

    def __call__(self, image: Image.Image) -> np.ndarray:
        import torch  # imported late: exported models use this module without torch

        view = self.view(*image.size)
        if view != (0, 0, *image.size):
            image = image.crop(view)
        # Four bytes a pixel are Pillow's layout of RGB and the fastest for the filter; the fourth is ignored.
        pixels = torch.frombuffer(bytearray(image.tobytes("raw", "RGBX")), dtype=torch.uint8)
        pixels = pixels.view(1, image.height, image.width, 4).permute(0, 3, 1, 2)  # (1, channel, height, width)
        size = (self.size, self.size)
        square = torch.nn.functional.interpolate(pixels, size=size, mode=self.filter, antialias=True)
        return square[0, :3].contiguous().numpy()

    def view(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The part of a picture of this size that is kept: left, top, right, bottom, pixels."""
        if self.fit == "stretch":
            return 0, 0, width, height
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Transform":
        """The transform from the output of `to_dict`; `UserError` for other content."""
        keys = ("size", "fit", "filter")
        given: Any = content if isinstance(content, dict) else {}
        size, fit, filter_ = (given.get(key) for key in keys)
        sized = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= MAX_SIDE
        if not sized or fit not in get_args(Fit) or filter_ not in get_args(Filter) or len(content) != len(keys):
            raise UserError(f"not a transform ({', '.join(keys)}): {shown(content)}")
        return cls(size, fit, filter_)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of a hash of the transform."""
        return fingerprint(self.to_dict())
