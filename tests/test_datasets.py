"""Every dataset through download, vocab and resize, from local archives in the layouts of the published ones."""

import json
import shutil
from pathlib import Path

import layouts
import numpy as np
import pytest
from dataset_stages import check_stores, run, settle

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.data.datasets.coco_names import SYNONYMS, read_synonyms
from showtell.data.store import RowReader
from showtell.data.transform import Transform, load_image
from showtell.data.vocabulary import Vocabulary


def test_coco_from_archives_on_this_machine(home, tmp_path):
    ids = layouts.make_coco(tmp_path / "coco")
    settle(home, "coco", download__source=str(tmp_path / "coco"), download__incomplete="accept")
    run("download", "vocab", "resize")
    check_stores({"train": 6, "val": 3, "test": 3})
    assert RowReader(paths.split_images("test"), "images").ids == [str(i) for i in ids[1::4]]
    assert sorted(p.name for p in paths.IMAGES_RAW.iterdir()) == ["train2014.zip.link.json", "val2014.zip.link.json"]
    table = read_json(paths.METRICS / "data.json")
    assert table["test_greyscale"] == 1 and table["test_cmyk"] == 1
    objects = read_json(paths.OBJECTS)
    assert objects["images"][str(ids[1])] == {
        "size": [64, 48], "setting": None, "unseen": False,
        "objects": [{"kind": "dog", "colour": None, "box": [1.5, 2, 31.5, 22]}],
    }  # fmt: skip
    assert set(objects["images"]) == {str(i) for i in ids[1::2]}  # of val and test
    assert "puppies" in objects["names"]["dog"] and "people" in objects["names"]["person"]
    assert not [path for path in Path("work").iterdir() if path.suffix != ".lock"]


def test_coco_rows_are_those_of_its_pictures(home, tmp_path):
    ids = layouts.make_coco(tmp_path / "coco")
    settle(home, "coco", download__source=str(tmp_path / "coco"), download__incomplete="accept")
    run("download", "vocab", "resize")
    reader = RowReader(paths.split_images("val"), "images")
    numbers = [ids.index(int(image_id)) for image_id in reader.ids]
    for number, row in zip(numbers, reader.rows(range(len(reader))), strict=True):
        served = Transform(32, "stretch")(load_image(layouts.jpeg(number, ("RGB", "L", "CMYK")[number % 3])))
        assert np.array_equal(row, served)


def test_coco_from_folders(home, tmp_path):
    layouts.make_coco(tmp_path / "coco")
    for name in ("train2014", "val2014"):
        shutil.unpack_archive(tmp_path / "coco" / f"{name}.zip", tmp_path / "coco" / "images")
        (tmp_path / "coco" / f"{name}.zip").unlink()
    settle(home, "coco", download__source=str(tmp_path / "coco"), download__incomplete="accept")
    run("download", "vocab", "resize")
    check_stores({"train": 6, "val": 3, "test": 3})


@pytest.mark.parametrize("name", ["flickr8k", "flickr30k"])
@pytest.mark.parametrize("form", ["archive in a folder", "archive", "pictures"])
def test_flickr(home, tmp_path, name, form):
    there = tmp_path / name
    files = layouts.make_flickr(there, name)
    archive = next(path for path in there.iterdir() if path.name != "caption_datasets.zip")
    captions = shutil.move(there / "caption_datasets.zip", tmp_path / "caption_datasets.zip")
    chosen = there
    if form == "archive":
        chosen = archive
    elif form == "pictures":
        shutil.unpack_archive(archive, there / "unpacked")
        shutil.rmtree(there / "unpacked" / "__MACOSX", ignore_errors=True)
        archive.unlink()
        chosen = next((there / "unpacked").iterdir())
    settle(
        home, name, download__source=str(chosen), download__captions=str(captions), download__incomplete="accept"
    )  # fmt: skip
    run("download", "vocab", "resize")
    check_stores({"train": 6, "val": 3, "test": 3})
    assert read_json(paths.split_json("val"))[0]["file"] == files[1]
    assert read_json(paths.OBJECTS) == {}
    assert not list(Path("work").glob("*.tar"))


def test_custom_with_broken_pictures_to_skip(home, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = ["image,caption"]
    for number in range(20):
        (photos / f"bild-{number}.jpg").write_bytes(layouts.jpeg(number))
        rows += [f"bild-{number}.jpg,Ein Hund läuft über die Straße", f"bild-{number}.jpg,猫と犬"]
    (photos / "bild-5.jpg").write_bytes(layouts.jpeg(5)[:300])
    (tmp_path / "c.csv").write_text("\n".join(rows), encoding="utf-8")
    settings = {
        "custom__images": str(photos),
        "custom__captions": str(tmp_path / "c.csv"),
        "vocab__tokenizer": "unicode",
    }
    settle(home, "custom", **settings)
    run("download", "vocab")
    with pytest.raises(UserError, match=r"1 pictures cannot be used \(bild-5\.jpg\)"):
        run("resize")
    assert not paths.IMAGES.exists()
    settle(home, "custom", **settings, resize__broken="skip")
    run("resize")
    ids = [i for split in paths.SPLITS for i in RowReader(paths.split_images(split), "images").ids]
    assert len(ids) == 19 and "bild-5.jpg" not in ids
    table = read_json(paths.METRICS / "data.json")
    assert sum(table[f"{split}_truncated"] for split in paths.SPLITS) == 1
    assert {"straße", "über", "猫", "と"} <= set(Vocabulary.load(paths.VOCAB).words)


def test_running_again_gives_the_same_bytes(home, tmp_path):
    layouts.make_flickr(tmp_path / "f", "flickr8k")
    settle(home, "flickr8k", download__source=str(tmp_path / "f"), download__incomplete="accept")
    contents = []
    for _ in range(2):
        run("download", "vocab", "resize")
        files = [path for path in sorted(home.rglob("*")) if path.is_file()]
        contents.append({path: path.read_bytes() for path in files})
        shutil.rmtree("data")
    assert contents[0] == contents[1] and len(contents[0]) > 10


def test_captions_elsewhere_and_wrong_paths(home, tmp_path):
    settle(home, "coco", download__captions=str(tmp_path / "no.json"))
    with pytest.raises(UserError, match=r"download\.captions = .*no\.json' (does not exist|is not a file)"):
        run("download")
    settle(home, "coco", download__source=str(tmp_path / "no"))
    with pytest.raises(UserError, match=r"download\.source = .*no' does not exist"):
        run("download")
    layouts.zip_of(tmp_path / "c.zip", {"other.json": b"{}"})
    settle(home, "coco", download__captions=str(tmp_path / "c.zip"))
    with pytest.raises(UserError, match=r"c\.zip does not hold dataset_coco\.json"):
        run("download")


def test_scenes_pass_the_same_stages(home):
    settle(home, "scenes", scenes__train=4, scenes__val=2, scenes__test=2, scenes__size=64)
    run("download", "vocab", "resize")
    check_stores({"train": 4, "val": 2, "test": 2})
    assert json.loads(paths.OBJECTS.read_text())["images"]


def test_coco_kinds_have_distinct_names():
    kinds = [line.partition(",")[0] for line in SYNONYMS.read_text().splitlines()]
    by_kind = read_synonyms(SYNONYMS, kinds)
    assert by_kind.keys() == {*kinds, ""} and len(kinds) == 80 and all(by_kind.values())
    names = [name for phrases in by_kind.values() for name in phrases]
    assert len(names) == len(set(names)) and all(name == name.lower() for name in names)
    assert {"people", "women", "lady", "ladies"} <= set(by_kind["person"]) and by_kind["orange"] == ["oranges"]


def test_synonyms_beside_the_annotations_replace_the_built_in_ones(home, tmp_path):
    layouts.make_coco(tmp_path / "coco")
    (tmp_path / "coco/synonyms.txt").write_text("Dog, hound , wolf  hound\n\nperson, hound\n", encoding="utf-8-sig")
    settle(home, "coco", download__source=str(tmp_path / "coco"), download__incomplete="accept")
    run("download")
    names = read_json(paths.OBJECTS)["names"]
    assert {"dog", "dogs", "wolf hound", "wolf hounds"} <= set(names["dog"])
    assert "hound" in names["person"] and "hound" not in names["dog"]  # of two kinds the later line's counts
    (tmp_path / "coco/synonyms.txt").write_text("dragon, wyrm\n")
    with pytest.raises(UserError, match=r"synonyms\.txt: line 1 \('dragon, wyrm'\) names none of the kinds of"):
        run("download")
