"""Near-duplicates between splits are found, and other pictures are not."""

import io

import numpy as np
import pytest
from conftest import inside
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from showtell.core import paths
from showtell.core.files import read_json
from showtell.data import near_duplicates
from showtell.data.near_duplicates import MOST, Looks, counted, nearest, picture_hash


def drawn(seed: int, size: int = 96) -> Image.Image:
    """Coloured discs on a colour gradient, drawn from a seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    picture = rng.uniform(0, 255, 3) + (x * rng.normal() + y * rng.normal())[..., None] * rng.uniform(-90, 90, 3)
    for left, top, radius in rng.uniform((0, 0, 0.08), (1, 1, 0.3), (6, 3)):
        picture[(x - left) ** 2 + (y - top) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def look(image: Image.Image) -> int:
    return int(picture_hash(np.asarray(image).transpose(2, 0, 1)), 16)


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


CHANGES = {
    "compressed": compressed,
    "scaled": lambda image: image.resize((48, 64)).resize((96, 96)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_near_duplicates_and_other_pictures_are_not(change):
    for seed in range(5):
        here, there = look(drawn(seed)), look(CHANGES[change](drawn(seed)))
        assert (here ^ there).bit_count() <= MOST
        assert (here ^ look(drawn(seed + 100))).bit_count() > MOST


def test_blank_pictures_are_no_duplicates():
    assert picture_hash(np.full((3, 40, 40), 17, np.uint8)) == ""


def flipped(number: int, bits: list[int]) -> int:
    for bit in set(bits):
        number ^= 1 << bit
    return number


HASH = st.integers(0, 2**64 - 1)


@given(st.data())
def test_the_search_equals_comparing_all_pairs(data):
    known = data.draw(st.lists(HASH, max_size=8))
    near = st.builds(flipped, st.sampled_from(known or [0]), st.lists(st.integers(0, 63), max_size=MOST + 2))
    asked = data.draw(st.lists(st.one_of(HASH, near), max_size=8))
    places, bits = nearest(np.array(known, np.uint64), np.array(asked, np.uint64))
    for number, place, distance in zip(asked, places, bits, strict=True):
        all_bits = [(number ^ other).bit_count() for other in known]
        least = min(all_bits, default=64)
        assert place == (all_bits.index(least) if least <= MOST else -1)
        assert distance == (least if least <= MOST else 0)


def test_many_duplicates_are_compared_in_chunks(monkeypatch):
    known = np.arange(300, dtype=np.uint64)  # equal in three of four parts
    whole = nearest(known, known + np.uint64(7))
    monkeypatch.setattr(near_duplicates, "CANDIDATES", 50)
    shares = nearest(known, known + np.uint64(7))
    assert np.array_equal(whole[0], shares[0]) and np.array_equal(whole[1], shares[1])


def test_pairs_name_both_images_and_are_counted_by_split():
    one, other = "f" * 16, "0" * 16
    splits = {
        "train": Looks(["0", "1"], ["blank.jpg", "a.jpg"], iter(["", one])),
        "val": Looks(["3"], ["b.jpg"], iter([other])),
        "test": Looks(["4", "5"], ["c.jpg", "d.jpg"], iter(["e" + one[1:], ""])),
    }
    pairs = near_duplicates.near_duplicates(splits)
    assert pairs == [{"splits": ["train", "test"], "image_ids": ["1", "4"], "files": ["a.jpg", "c.jpg"], "bits": 1}]
    expected = {"near_duplicates_train_val": 0, "near_duplicates_train_test": 1, "near_duplicates_val_test": 0}
    assert counted(pairs, [*splits]) == expected


def test_drawn_scenes_are_no_duplicates(pipeline):
    with inside(pipeline):
        assert read_json(paths.NEAR_DUPLICATES) == []
        table = read_json(paths.METRICS / "data.json")
    assert [value for key, value in table.items() if key.startswith("near_duplicates")] == [0, 0, 0]
