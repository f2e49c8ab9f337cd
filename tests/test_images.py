"""The transform from any picture to a square, the same in training and serving."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from showtell.core.errors import UserError
from showtell.data import transform as images
from showtell.data.formats import PICTURE_SUFFIXES
from showtell.data.transform import ImageError, Transform, load_image, open_image, orientation, to_rgb


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width=60, height=40) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def pixel(image: Image.Image, at=(0, 0)):
    return load_image(image).getpixel(at)


def test_rows_are_uint8_channel_first():
    row = Transform(32, "stretch")(photo())
    assert (row.shape, row.dtype) == ((3, 32, 32), np.uint8) and row.flags.c_contiguous
    assert row[0, 0, 0] < 10 and row[0, 0, -1] > 245 and row[1, -1, 0] > 245  # red grows to the right, green downwards


def test_file_bytes_image_and_array_give_the_same_row(tmp_path):
    path = tmp_path / "a.png"
    content = encoded(photo())
    path.write_bytes(content)
    transform = Transform(24, "stretch")
    rows = [
        transform(load_image(s)) for s in (path, str(path), content, io.BytesIO(content), photo(), np.asarray(photo()))
    ]
    assert all(np.array_equal(rows[0], row) for row in rows)


def test_stretch_keeps_the_whole_image_and_crop_the_centre():
    bars = Image.fromarray(np.repeat(np.uint8([255] * 10 + [0] * 20 + [255] * 10)[None, :, None], 20, 0).repeat(3, 2))
    assert Transform(16, "stretch")(bars)[0, 8, 0] == 255
    assert Transform(16, "crop")(bars).max() == 0


@pytest.mark.parametrize("size", [(500, 375), (640, 480), (90, 300), (40, 30)])
def test_it_is_the_bilinear_filter_of_the_field(size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))
    expected = np.asarray(noise.resize((128, 128), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(Transform(128, "stretch")(noise).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(500, 375), (640, 480), (40, 30)])
def test_it_is_the_bicubic_filter_of_the_field(size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))
    expected = np.asarray(noise.resize((128, 128), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    found = Transform(128, "stretch", "bicubic")(noise).astype(int)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - Transform(128, "stretch")(noise)).max() > 10


def test_resizing_is_antialiased():
    lines = Image.fromarray(np.tile(np.uint8([0, 255])[None, :, None], (128, 64, 3)))
    row = Transform(16, "stretch")(lines).astype(int)
    assert abs(row[:, 2:-2, 2:-2] - 127.5).max() < 4  # without antialiasing: 0 or 255


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = photo()
    undo = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = upright
    for step in undo[turn]:
        stored = stored.transpose(step)
    content = encoded(stored, exif=exif)
    assert orientation(open_image(content)) == turn
    assert np.array_equal(np.asarray(load_image(content)), np.asarray(upright))


def test_broken_metadata_is_ignored():
    content = encoded(photo(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert load_image(content).size == (60, 40)


def test_transparent_parts_become_white():
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert pixel(clear) == (255, 255, 255) and pixel(half) == (127, 127, 127)
    assert pixel(Image.new("LA", (4, 4), (0, 0))) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9])
    assert load_image(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_other_colour_models():
    assert pixel(Image.new("L", (4, 4), 77)) == (77, 77, 77)
    assert pixel(Image.new("1", (4, 4), 1)) == (255, 255, 255)
    red = load_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)).getpixel((4, 4))
    assert red[0] > 240 and red[1] < 15 and red[2] < 15
    palette = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert pixel(palette) == (10, 200, 30)


def test_sixteen_bits_and_floats_are_scaled():
    deep = Image.fromarray(np.full((4, 4), 32896, np.uint16))
    assert load_image(encoded(deep)).getpixel((0, 0)) == (128, 128, 128)
    assert pixel(Image.fromarray(np.full((4, 4), 0.5, np.float32))) == (128, 128, 128)
    assert pixel(Image.fromarray(np.full((4, 4), 200.0, np.float32))) == (200, 200, 200)
    assert pixel(Image.fromarray(np.full((4, 4), np.nan, np.float32))) == (0, 0, 0)


def test_only_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    assert load_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).getpixel((0, 0)) == (
        255,
        0,
        0,
    )


def failure(content: bytes | np.ndarray | Image.Image) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_image(content)
    return caught.value


def test_truncated_and_broken_pictures_are_refused():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole = encoded(noise, "JPEG")
    assert failure(whole[: len(whole) // 2]).kind == "truncated"
    assert failure(b"").kind == failure(b"<html>not found</html>").kind == "broken"
    assert failure(whole[:20]).kind in ("broken", "truncated")
    assert failure(encoded(noise)[:200]).kind in ("broken", "truncated")


def test_so_are_pictures_that_pillow_has_opened_and_empty_ones():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    whole = encoded(noise, "JPEG")
    assert failure(Image.open(io.BytesIO(whole[: len(whole) // 2]))).kind == "truncated"
    for empty in (np.zeros((0, 5, 3), np.uint8), np.zeros((5, 0), np.uint8), Image.new("RGB", (0, 20))):
        assert "there is nothing in it" in str(failure(empty))


def test_decompression_bombs_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    assert failure(encoded(photo())).kind == "oversized"
    claim = bytearray(encoded(Image.new("1", (8, 8))))
    claim[16:24] = (60_000).to_bytes(4, "big") * 2
    claim[29:33] = zlib.crc32(claim[12:29]).to_bytes(4, "big")
    assert failure(bytes(claim)).kind == "oversized"


def test_a_file_is_named_in_its_error(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"a\.jpg: not a picture"):
        load_image(path)
    with pytest.raises(UserError, match=r"cannot read .*b\.jpg: No such file"):
        load_image(tmp_path / "b.jpg")
    with pytest.raises(UserError, match="cannot read"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3), np.float32), np.zeros((3, 5, 5), np.uint8), np.zeros(4, np.uint8)]
)
def test_other_arrays_are_refused(array):
    with pytest.raises(UserError, match=r"uint8 \(height, width"):
        load_image(array)


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["stretch", "crop"]))
def test_any_shape_is_resized_to_the_square(width, height, fit):
    assert Transform(20, fit)(photo(width, height)).shape == (3, 20, 20)


@given(st.integers(0, 255), st.sampled_from(["stretch", "crop"]))
def test_a_flat_picture_stays_flat(value, fit):
    assert (Transform(17, fit)(Image.new("RGB", (31, 45), (value,) * 3)) == value).all()


def test_transforms_are_distinguished_and_serialised():
    transform = Transform(64, "crop")
    assert Transform.from_dict(transform.to_dict()) == transform
    assert len({Transform(64, "crop").hash, Transform(64, "stretch").hash, Transform(65, "crop").hash}) == 3
    with pytest.raises(UserError, match="not a transform"):
        Transform.from_dict({"size": 3})


def test_rgb_is_unchanged():
    image = photo()
    assert to_rgb(image) is image


def png_of(width: int, height: int) -> bytes:
    """The header of a PNG of this size, without content."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    chunks = ((13, head), (0, b"IDAT"))
    parts = (size.to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for size, chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(1, 119_000_000), (70_000, 2), (20_000, 20_000)])
def test_thin_and_huge_pictures_are_refused_before_they_are_decoded(size):
    with pytest.raises(ImageError) as caught:
        open_image(png_of(*size))
    assert caught.value.kind == "oversized"


def test_formats_that_run_other_programs_or_are_no_photographs_are_not_opened():
    for content in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", b"\x00\x00\x01\x00\x01\x00"):
        with pytest.raises(ImageError, match="not a picture of a format that is read"):
            open_image(content)


def test_every_format_that_is_read_has_endings_of_its_own_and_opens():
    assert len(PICTURE_SUFFIXES) == len(set(PICTURE_SUFFIXES))
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"):
        buffer = io.BytesIO()
        Image.new("RGB", (20, 10), "red").save(buffer, name)
        assert open_image(buffer.getvalue()).size == (20, 10)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "I;16", "I", "F"])
def test_conversion_in_bands_gives_what_conversion_at_once_gives(mode, monkeypatch):
    values = np.random.default_rng(1).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 250).convert(mode)
    else:
        image = image.convert(mode)
    whole = np.asarray(to_rgb(image))
    monkeypatch.setattr(images, "BAND", 100)
    assert (np.asarray(to_rgb(image)) == whole).all()
