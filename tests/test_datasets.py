"""Every dataset through download, vocab and resize, as small archives in the exact layouts of the real ones."""

import dataclasses
import hashlib
import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import layouts
import numpy as np
import pytest

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.data.captions import CaptionFile
from showtell.data.datasets import published, source
from showtell.data.datasets.coco import COCO
from showtell.data.datasets.coco_names import SYNONYMS, read_synonyms
from showtell.data.datasets.flickr import FLICKR8K, FLICKR30K
from showtell.data.datasets.transfer import RemoteFile
from showtell.data.store import RowReader
from showtell.data.transform import Transform, load_image
from showtell.data.vocabulary import Vocabulary


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(*stages: str) -> None:
    for name in ["source", *stages] if "download" in stages else stages:
        layouts.stage(name).main()


def settle(home, dataset, **values):
    layouts.settle(home, **{"dataset": dataset, "vocab__min_count": 1, "resize__size": 32} | values)


def check_stores(count: dict[str, int]) -> None:
    """Every split has its images, in caption order, and the vocabulary knows their words."""
    table = read_json(paths.METRICS / "data.json")
    for split, images in count.items():
        entries = read_json(paths.split_json(split))
        reader = RowReader(paths.split_images(split), "images")
        assert [str(entry["image_id"]) for entry in entries] == reader.ids
        assert reader.shape == (images, 3, 32, 32) and table[f"{split}_images"] == images
        assert all(len(entry["references"]) == 5 for entry in entries)
        assert CaptionFile(paths.split_json(split)).number.tolist() == [5] * len(entries)
        assert len({row.tobytes() for row in reader.rows(range(images))}) == images
    assert "dog" in Vocabulary.load(paths.VOCAB)


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


def test_other_counts_than_published_are_named(home, tmp_path):
    layouts.make_flickr(tmp_path / "f", "flickr8k")
    settle(home, "flickr8k", download__source=str(tmp_path / "f"))
    with pytest.raises(UserError, match="6 train images where 6000 are expected; 3 val images where 1000"):
        run("download")
    assert not paths.CAPTIONS_RAW.exists()


def tiny(dataset, folder: Path, base: str, count: int = 12):
    """`dataset` as it would be if the small archives in `folder` were what is published."""

    def remote(file: RemoteFile) -> RemoteFile:
        content = (folder / file.name).read_bytes()
        url = f"{base}/{file.name}"
        return RemoteFile(file.name, (url,), len(content), hashlib.sha256(content).hexdigest())

    counts = {"train": count // 2, "val": count // 4, "test": count // 4}
    pictures = tuple(map(remote, dataset.pictures))
    return dataclasses.replace(dataset, pictures=pictures, counts=counts, other_captions=()), remote


@pytest.fixture
def web(tmp_path):
    """A folder served over HTTP, with the list of what was asked for."""
    folder, asked = tmp_path / "web", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def publish(monkeypatch, name, dataset, folder, base):
    small, remote = tiny(dataset, folder, base)
    monkeypatch.setitem(source.PREPARE, name, partial(source.prepare_published, small))
    monkeypatch.setattr(published, "CAPTION_DATASETS", remote(published.CAPTION_DATASETS))


@pytest.mark.parametrize(("name", "dataset"), [("coco", COCO), ("flickr8k", FLICKR8K), ("flickr30k", FLICKR30K)])
def test_download_over_the_network(home, web, monkeypatch, name, dataset):
    folder, base, asked = web
    layouts.make_coco(folder) if name == "coco" else layouts.make_flickr(folder, name)
    publish(monkeypatch, name, dataset, folder, base)
    settle(home, name)
    run("download", "vocab", "resize")
    check_stores({"train": 6, "val": 3, "test": 3})
    for file in dataset.pictures:  # as downloaded
        assert (paths.IMAGES_RAW / file.name).read_bytes() == (folder / file.name).read_bytes()
    before = len(asked)
    shutil.rmtree("data")
    run("download")  # what was downloaded is not downloaded again
    assert len(asked) == before and len(list(paths.IMAGES_RAW.iterdir())) == len(dataset.pictures)


def test_pictures_behind_a_form_say_so(home, web, monkeypatch):
    folder, base, _ = web
    layouts.make_flickr(folder, "flickr30k")
    publish(monkeypatch, "flickr30k", FLICKR30K, folder, base)
    (folder / "flickr30k-images.tar.gz").unlink()
    settle(home, "flickr30k")
    with pytest.raises(UserError, match=r"404.*form, https://shannon.*flickr30k-images\.tar\.gz.*download\.source"):
        run("download")
    assert not paths.CAPTIONS_RAW.exists()


def test_an_archive_that_lacks_pictures_says_which(home, web, monkeypatch):
    folder, base, _ = web
    files = layouts.make_flickr(folder, "flickr8k")
    layouts.zip_of(folder / "Flickr8k_Dataset.zip", {f"x/{file}": b"" for file in files[:-1]})
    publish(monkeypatch, "flickr8k", FLICKR8K, folder, base)
    settle(home, "flickr8k")
    with pytest.raises(UserError, match=rf"1 of the 12 pictures of flickr8k are missing, such as {files[-1]}"):
        run("download")


def test_a_damaged_copy_of_the_published_archive_is_refused(home, tmp_path, monkeypatch):
    there = tmp_path / "there"
    layouts.make_flickr(there, "flickr8k")
    publish(monkeypatch, "flickr8k", FLICKR8K, there, "http://127.0.0.1:9")
    content = bytearray((there / "Flickr8k_Dataset.zip").read_bytes())
    content[100] ^= 1
    (there / "Flickr8k_Dataset.zip").write_bytes(content)
    settle(home, "flickr8k", download__source=str(there))
    with pytest.raises(UserError, match=r"Flickr8k_Dataset\.zip is damaged: wrong checksum"):
        run("download")


def test_the_download_is_kept_under_a_second_name(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"content")
    published.place(tmp_path / "a.zip", tmp_path / "images" / "a.zip")
    assert os.stat(tmp_path / "a.zip").st_ino == os.stat(tmp_path / "images" / "a.zip").st_ino


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


def test_scenes_come_the_same_way(home):
    settle(home, "scenes", scenes__train=4, scenes__val=2, scenes__test=2, scenes__size=64)
    run("download", "vocab", "resize")
    check_stores({"train": 4, "val": 2, "test": 2})
    assert json.loads(paths.OBJECTS.read_text())["images"]


def test_every_kind_of_coco_has_a_name_of_its_own():
    kinds = [line.partition(",")[0] for line in SYNONYMS.read_text().splitlines()]
    by_kind = read_synonyms(SYNONYMS, kinds)
    assert len(by_kind) == len(kinds) == 80 and all(by_kind.values())
    names = [name for phrases in by_kind.values() for name in phrases]
    assert len(names) == len(set(names)) and all(name == name.lower() for name in names)
    assert {"people", "women", "lady", "ladies"} <= set(by_kind["person"]) and by_kind["orange"] == ["oranges"]


def test_a_list_of_synonyms_beside_the_annotations_takes_the_place_of_ours(home, tmp_path):
    layouts.make_coco(tmp_path / "coco")
    (tmp_path / "coco/synonyms.txt").write_text("Dog, hound , wolf  hound\n\nperson, hound\n", encoding="utf-8-sig")
    settle(home, "coco", download__source=str(tmp_path / "coco"), download__incomplete="accept")
    run("download")
    names = read_json(paths.OBJECTS)["names"]
    assert names["dog"] == ["dog", "dogs", "wolf hound", "wolf hounds"]  # of two kinds the later line's counts
    (tmp_path / "coco/synonyms.txt").write_text("dragon, wyrm\n")
    with pytest.raises(UserError, match=r"synonyms\.txt: line 1 \('dragon, wyrm'\) names none of the kinds of"):
        run("download")


def test_every_published_archive_can_be_verified():
    for dataset in (COCO, FLICKR8K, FLICKR30K):
        for file in (*dataset.pictures, *dataset.other_captions, published.CAPTION_DATASETS):
            assert len(file.sha256 or "") == 64 or len(file.md5 or "") == 32, file.name
