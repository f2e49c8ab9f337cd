import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from showtell.data.transform import Transform
from showtell.evaluation import attention_pictures
from showtell.evaluation.attention_pictures import (
    DEJAVU,
    LEAST_WIDTH,
    PEAK,
    _characters,
    _wrapped,
    contact_sheet,
    draw_attention,
    font,
    glow,
    heat,
    seen,
    write_attention,
)
from showtell.generation.captioner import Caption

GREY = (128, 128, 128)


def caption_of(words, side=7, attention=True):
    maps = np.full((len(words), side * side), 1 / side**2, np.float32) if attention else None
    return Caption(" ".join(words), list(words), -1.0, -1.0, True, maps)


def one_hot(cell, side=7):
    return np.eye(side * side, dtype=np.float32)[cell]


def test_light_is_brightest_at_the_attended_cell():
    light = heat(one_hot(7 * 5 + 2), (70, 140))
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert (row // 20, column // 10) == (5, 2)
    assert light.shape == (140, 70) and light.max() > 0.9


def test_light_is_centred_on_the_receptive_field():
    light = heat(one_hot(3 * 7 + 3), (70, 70), shift=-0.5 / 7)
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert abs(row + 0.5 - 30) <= 1 and abs(column + 0.5 - 30) <= 1  # the cell's upper left corner
    assert light[60:, 60:].max() < 0.1


def test_uniform_attention_is_dim():
    light = heat(np.full(49, 1 / 49), (50, 50))
    np.testing.assert_allclose(light, 1 / PEAK, atol=1e-5)


@given(st.lists(st.floats(0, 1, width=32), min_size=9, max_size=9))
def test_light_is_a_fraction_whatever_the_attention(weights):
    light = heat(np.array(weights), (31, 17))
    assert light.min() >= 0 and light.max() <= 1


def test_attention_that_is_no_square_grid_is_refused():
    with pytest.raises(ValueError, match="5 cells"):
        heat(np.ones(5), (10, 10))


def test_overlay_brightens_attended_cells_and_darkens_the_rest():
    glowing = np.asarray(glow(Image.new("RGB", (70, 70), GREY), one_hot(0)), int)
    assert glowing[2, 2, 0] > 180 and glowing[60, 60, 0] < 60
    assert glowing[2, 2, 0] > glowing[2, 2, 2] + 30  # warm: more red than blue


def test_a_picture_of_one_tile_a_word():
    nothing = draw_attention(Image.new("RGB", (60, 60), GREY), caption_of([]))
    few, many = (draw_attention(Image.new("RGB", (60, 60), GREY), caption_of(["dog"] * n)) for n in (4, 12))
    assert nothing.width < few.width < many.width
    assert few.height == many.height  # twelve words take as many rows as four
    endless = draw_attention(Image.new("RGB", (60, 60), GREY), caption_of(["dog"] * 50))
    assert endless.width < 1900  # fifty words take more rows, not a wider sheet
    assert endless.height > many.height


@pytest.mark.parametrize("size", [(400, 90), (90, 400), (1, 1)])
def test_any_shape_of_picture_can_be_drawn(size):
    assert draw_attention(Image.new("RGB", size, GREY), caption_of(["a", "dog"], side=4)).mode == "RGB"


def test_words_below_narrow_pictures_have_room():
    words = ["butterflies"] * 6
    narrow, square = (draw_attention(Image.new("RGB", size, GREY), caption_of(words)) for size in ((9, 900), (90, 90)))
    assert narrow.width >= LEAST_WIDTH and narrow.height < 1.2 * square.height


def test_any_letters_can_be_drawn():
    words = ["пёс", "größe", "狗", "a" * 60]
    assert draw_attention(Image.new("RGB", (60, 60), GREY), caption_of(words)).width < 1200


def test_letters_come_from_a_font_that_has_them(tmp_path, monkeypatch, capsys):
    """Of this machine, where Pillow's and matplotlib's lack them; where none has them, a line is logged."""
    monkeypatch.setattr(attention_pictures, "_installed", list)
    attention_pictures._font_file.cache_clear()
    attention_pictures._tell_of_boxes.cache_clear()
    for _ in range(2):
        assert font(20, "пёс").path == DEJAVU == font(20, "\U00013080").path
    assert capsys.readouterr().err.splitlines() == [
        "no font on this machine has Egyptian letters: they are drawn as boxes; install a font that has them"
    ]
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    other = DEJAVU.with_name("STIXGeneral.ttf")
    letter = chr(min(_characters(other) - _characters(DEJAVU)))
    monkeypatch.setattr(attention_pictures, "_installed", lambda: [tmp_path / "broken.ttf", other])
    assert font(20, f"a {letter}").path == other


def test_text_without_spaces_is_broken_into_lines():
    letters = font(20, "пёс")
    lines = _wrapped("пёс" * 40, letters, 100)
    assert "".join(lines) == "пёс" * 40 and all(letters.getlength(line) <= 100 for line in lines)
    marked = _wrapped("e\u0301" * 60, letters, 100)
    assert len(marked) > 2 and not any(line.startswith("\u0301") for line in marked)
    assert _wrapped("a dog", letters, 300) == ["a dog"] and _wrapped("", letters, 300) == [""]


def test_without_attention_there_is_the_picture_and_its_caption():
    assert draw_attention(Image.new("RGB", (60, 60), GREY), caption_of(["a", "dog"], attention=False)).width < 600


def test_same_input_same_pixels():
    first, second = (draw_attention(Image.new("RGB", (64, 64), GREY), caption_of(["a", "dog"])) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_of_a_cropped_picture_the_centre_is_shown():
    picture = Image.new("RGB", (300, 100), "black")
    picture.paste((255, 255, 255), (100, 0, 200, 100))
    assert seen(picture, Transform(64, "crop")).getextrema() == ((255, 255),) * 3
    assert seen(picture, Transform(64, "stretch")) is picture


def test_contact_sheet_has_room_for_every_picture():
    pictures = [Image.new("RGB", (50, 40), (200, 10 * i, 0)) for i in range(9)]
    sheet = contact_sheet(pictures, ["a dog"] * 8 + ["a dog that " * 12])
    red = np.asarray(sheet)[:, :, 0] == 200
    colours = {tuple(pixel) for pixel in np.asarray(sheet)[red & (np.asarray(sheet)[:, :, 2] == 0)]}
    assert len(colours) == 9


class Rows:
    def __init__(self, count):
        self.count = count

    def rows(self, indices):
        return np.stack([np.full((3, 32, 32), 10 * index, np.uint8) for index in indices])


class Data:
    def __init__(self, count):
        self.store, self.count = Rows(count), count

    def __len__(self):
        return self.count


def test_a_folder_of_pictures_spread_over_the_images(tmp_path):
    captions = [caption_of(["dog"] * (1 + i)) for i in range(10)]
    write_attention(tmp_path / "attention", Data(10), captions, 3)
    names = sorted(p.name for p in (tmp_path / "attention").iterdir())
    assert names == ["image-00.png", "image-01.png", "image-02.png", "sheet.png"]
    last = np.asarray(Image.open(tmp_path / "attention" / "image-02.png"))
    assert (last == 90).all(axis=2).any()  # the last image, not the third
    write_attention(tmp_path / "attention", Data(10), captions, 0)
    assert list((tmp_path / "attention").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["attention"]
