"""Drawn scenes: the same bytes for the same seed, exact boxes, held-out pairs in test only."""

import zipfile
from random import Random

import numpy as np
import pytest
from PIL import Image

from showtell.core.files import read_json
from showtell.data.datasets import karpathy
from showtell.data.datasets.scenes import ScenesParams, generate
from showtell.data.datasets.scenes.compose import compose, in_any_colours, is_unseen
from showtell.data.datasets.scenes.generate import make
from showtell.data.datasets.scenes.picture import draw
from showtell.data.datasets.scenes.structure import Backdrop, Scene, Thing
from showtell.data.datasets.scenes.world import (
    COLOURS,
    KINDS,
    SETTINGS,
    UNSEEN_COLOURS,
    UNSEEN_SETTINGS,
    unseen_colour,
    unseen_setting,
)

TINY = ScenesParams(seed=3, train=4, val=2, test=3, size=96)
FILES = ("captions.json", "objects.json", "images/scenes.zip")
DAY = Backdrop("sea", "day", 0.4, 0.4, 0.5, 2, "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    generate(folder, TINY)
    return folder


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    generate(tmp_path, TINY)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_another_seed_gives_other_pictures(folder, tmp_path):
    generate(tmp_path, TINY.model_copy(update={"seed": 4}))
    for name in FILES:
        assert (tmp_path / name).read_bytes() != (folder / name).read_bytes()


def test_processes_make_the_same_pictures_as_one_alone(tmp_path):
    generate(tmp_path, ScenesParams(seed=5, train=196, val=2, test=2, size=64))  # enough for several processes
    with zipfile.ZipFile(tmp_path / "images" / "scenes.zip") as archive:
        for number in (0, 50, 195):
            assert archive.read(f"scene-{number:06d}.jpg") == make(5, "train", number, 64).jpeg
        assert archive.read("scene-000196.jpg") == make(5, "val", 0, 64).jpeg


def test_all_pictures_differ():
    pictures = {make(1, split, index, 64).jpeg for split in ("train", "val", "test") for index in range(8)}
    assert len(pictures) == 24


def test_pictures_are_listed_as_every_source_lists_them(folder):
    records = karpathy.read(folder / "captions.json")
    assert [record.split for record in records] == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    objects = read_json(folder / "objects.json")
    assert set(objects["names"]) == set(KINDS)
    with zipfile.ZipFile(folder / "images" / "scenes.zip") as archive:
        assert archive.namelist() == [record.file for record in records]
        for record in records:
            with archive.open(record.file) as file:
                assert list(Image.open(file).size) == objects["images"][str(record.image_id)]["size"]


def test_every_word_names_one_kind(folder):
    names = read_json(folder / "objects.json")["names"]
    every = [name for kind in names.values() for name in kind]
    assert len(every) == len(set(every))
    assert all(name == name.lower() for name in every)


def test_the_output_is_three_files(folder):
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == sorted(FILES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_is_the_extent_of_the_drawing(kind):
    """Objects in the air cast no shadow, so pictures with and without the object differ in the object only."""
    for pose in KINDS[kind].poses:
        thing = Thing(kind, KINDS[kind].colours[0], pose, "air", 0.5, 0.8, 0.4, 0, flip=pose == "sit")
        full, boxes, _ = draw(Scene(DAY, (thing,)), 128, "box")
        empty, _, _ = draw(Scene(DAY, ()), 128, "box")
        changed = np.abs(np.asarray(full, int) - np.asarray(empty, int)).max(2) > 12
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(np.subtract(drawn, boxes[0])).max() <= 2


def test_boxes_lie_inside_the_frame_and_are_large_enough_to_see():
    for index in range(40):
        picture = make(2, "train", index, 96)
        assert 1 <= len(picture.boxes) <= 4
        for left, top, right, bottom in picture.boxes:
            assert 0 <= left < right <= 96 and 0 <= top < bottom <= 96
            assert max(right - left, bottom - top) >= 0.09 * 96


def test_kinds_are_drawn_only_where_they_belong():
    for index in range(300):
        scene = compose(Random(f"home {index}"), "train")
        place = SETTINGS[scene.backdrop.setting]
        for thing in scene.things:
            assert thing.kind in {"land": place.land, "water": place.water, "air": place.air}[thing.zone]
            assert thing.colour in KINDS[thing.kind].colours


@pytest.mark.parametrize("split", ["train", "val"])
def test_train_has_no_unseen_pairs(split):
    for index in range(1500):
        scene = compose(Random(f"{split} {index}"), split)
        assert not is_unseen(scene)
        for thing in scene.things:
            assert not unseen_colour(thing.kind, thing.colour)
            assert not unseen_setting(thing.kind, scene.backdrop.setting)


def test_any_colours_are_all_but_the_held_out_ones():
    before = [compose(Random(f"train {index}"), "train") for index in range(1500)]
    after = [in_any_colours(Random(index), scene) for index, scene in enumerate(before)]
    assert not any(map(is_unseen, after))
    shown = {(thing.kind, thing.colour) for scene in after for thing in scene.things}
    assert shown == {(kind, colour) for kind in KINDS for colour in COLOURS} - UNSEEN_COLOURS
    for one, other in zip(before, after, strict=True):
        assert one.backdrop == other.backdrop
        pairs = {(a.kind, a.colour): b.colour for a, b in zip(one.things, other.things, strict=True)}
        assert [pairs[thing.kind, thing.colour] for thing in one.things] == [thing.colour for thing in other.things]


def test_about_three_in_ten_test_images_show_an_unseen_pair():
    scenes = [compose(Random(f"test {index}"), "test") for index in range(1000)]
    assert 0.25 < sum(map(is_unseen, scenes)) / len(scenes) < 0.35
    shown = {(thing.kind, thing.colour) for scene in scenes for thing in scene.things}
    assert shown >= UNSEEN_COLOURS
    placed = {(thing.kind, scene.backdrop.setting) for scene in scenes for thing in scene.things}
    assert placed >= UNSEEN_SETTINGS


def test_unseen_pairs_are_made_of_common_parts():
    scenes = [compose(Random(f"train {index}"), "train") for index in range(1500)]
    for part, every in (("kind", KINDS), ("colour", COLOURS)):
        seen = [getattr(thing, part) for scene in scenes for thing in scene.things]
        assert min(seen.count(name) for name in every) >= 40
    settings = [scene.backdrop.setting for scene in scenes]
    assert min(settings.count(name) for name in SETTINGS) >= 60
