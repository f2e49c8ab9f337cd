"""The audit of the data: duplicates, unreadable files, colour modes, sizes, per split."""

import io

import numpy as np
from PIL import Image

from showtell.data.audit import Facts, summarise, traits
from showtell.data.datasets.picture_files import Pictures
from showtell.data.resizing import resize_split
from showtell.data.transform import Transform, open_image
from showtell.data.vocabulary import Vocabulary


def save(folder, name: str, image: Image.Image, **options) -> None:
    folder.mkdir(exist_ok=True)
    image.save(folder / name, **options)


def test_traits_of_stored_pictures():
    def seen(image: Image.Image, kind: str = "PNG", **options) -> list[str]:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return traits(open_image(buffer.getvalue()))

    exif = Image.Exif()
    exif[0x0112] = 3
    assert seen(Image.new("RGB", (4, 4))) == []
    assert seen(Image.new("L", (4, 4)), "JPEG", exif=exif) == ["greyscale", "rotated"]
    assert seen(Image.new("CMYK", (4, 4)), "JPEG") == ["cmyk"]
    assert seen(Image.new("P", (4, 4))) == ["palette"]
    assert seen(Image.new("P", (4, 4)), transparency=0) == ["palette", "transparent"]
    assert seen(Image.new("RGBA", (4, 4))) == ["transparent"]
    assert seen(Image.fromarray(np.zeros((4, 4), np.uint16))) == ["greyscale"]


def facts_of(folder, files) -> list[Facts]:
    return list(resize_split("train", files, Pictures.of([folder]), Transform(16, "stretch"), folder.parent / files[0]))


def test_everything_is_counted_per_split(tmp_path):
    folder = tmp_path / "photos"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8))
    for name in ("a.jpg", "b.jpg", "c.jpg"):  # three times the same picture
        save(folder, name, noise)
    save(folder, "grey.jpg", noise.convert("L"))
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no picture")
    facts = {
        "train": facts_of(folder, ["a.jpg", "b.jpg", "cut.jpg", "gone.jpg"]),
        "val": facts_of(folder, ["c.jpg", "text.jpg"]),
        "test": facts_of(folder, ["grey.jpg"]),
    }
    said = {"a.jpg": "a dog runs", "grey.jpg": "a whale", "c.jpg": "dog"}
    entries = {
        split: [{"image_id": f.file, "file": f.file, "words": [said.get(f.file, "a b c d e").split()]} for f in found]
        for split, found in facts.items()
    }
    table = summarise(facts, entries, Vocabulary(["a", "dog"], [2, 1]))
    expected = {
        "train_images": 2, "train_truncated": 1, "train_missing": 1, "train_broken": 0, "train_duplicates": 1,
        "val_images": 1, "val_broken": 1, "val_duplicates": 0, "test_greyscale": 1, "test_images": 1,
        "duplicates_train_val": 1, "duplicates_train_test": 0, "duplicates_val_test": 0,
        "train_captions": 2, "train_words": 8, "train_unknown_words": 5 / 8, "train_caption_length_max": 5,
        "test_unknown_words": 1 / 2, "val_unknown_words": 0.0, "test_caption_length_mean": 2.0,
    }  # fmt: skip
    assert {key: table[key] for key in expected} == expected
    assert all(isinstance(value, int | float) for value in table.values())


def test_unreadable_files_are_no_duplicates_of_each_other(tmp_path):
    (tmp_path / "photos").mkdir()
    facts = facts_of(tmp_path / "photos", ["gone.jpg", "also.jpg"])
    entries = [{"words": []}] * 2
    table = summarise({"train": facts, "val": facts}, {"train": entries, "val": entries}, Vocabulary([], []))
    assert table["train_duplicates"] == table["duplicates_train_val"] == 0
    assert table["train_missing"] == 2 and table["train_unknown_words"] == 0.0
