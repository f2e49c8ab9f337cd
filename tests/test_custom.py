"""Custom datasets: four formats of captions, any ids, reproducible random splits."""

import json

import pytest

from showtell.core.errors import UserError
from showtell.data.datasets import karpathy
from showtell.data.datasets.caption_files import detect, read_captions
from showtell.data.datasets.custom import CustomParams, assign_splits, prepare, records
from showtell.data.datasets.picture_files import Pictures


def params(images="images", captions="captions", **changes) -> CustomParams:
    plain = {"format": "auto", "val": 0.2, "test": 0.2, "split_seed": 0}
    return CustomParams(images=str(images), captions=str(captions), **plain | changes)


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv(tmp_path):
    path = write(
        tmp_path, "c.csv", 'image,caption,split\nb.jpg,"A dog, running",train\nb.jpg,Another,train\na.jpg,A cat,dev\n'
    )
    assert detect(path) == "table"
    dog, cat = read_captions(path)
    assert (dog.image_id, dog.file, dog.split, dog.captions) == (
        "b.jpg",
        "b.jpg",
        "train",
        ["A dog, running", "Another"],
    )
    assert cat.split == "val" and cat.words == [["a", "cat"]]


@pytest.mark.parametrize("mark", ["\t", "|", ";"])
def test_other_separators_and_column_names(tmp_path, mark):
    path = write(tmp_path, "c.tsv", f"id{mark}File_Name{mark}Comment\n007{mark}x/a.jpg{mark}Ein Hund\n")
    (image,) = read_captions(path)
    assert (image.image_id, image.file, image.captions) == ("007", "x/a.jpg", ["Ein Hund"])


def test_a_byte_order_mark_and_line_separators_inside_captions(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes("image,caption\r\na.jpg,one\u2028two\r\n\r\n".encode("utf-8-sig"))
    (image,) = read_captions(path)
    assert image.captions == ["one two"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,text\na.jpg,b\n", "first line must name the columns"),
        ("image,caption,split\na.jpg,b,holdout\n", "line 2: split is \"holdout\""),
        ("image,caption,split\na.jpg,b,train\na.jpg,c,test\n", "line 3: a.jpg is in split train and in split test"),
        ("image,caption\n,b\n", "line 2 names no image"),
        ("", "first line must name the columns"),
    ],
)
def test_wrong_tables_are_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_captions(write(tmp_path, "c.csv", text))


def test_flickr_token_file(tmp_path):
    text = "a.jpg#0\tA dog .\na.jpg#1\tTwo\u2028dogs .\nb#c.jpg#0\tA cat .\n"
    path = write(tmp_path, "Flickr8k.token.txt", text)
    assert detect(path) == "flickr"
    assert [(i.file, i.captions) for i in read_captions(path)] == [
        ("a.jpg", ["A dog .", "Two dogs ."]),
        ("b#c.jpg", ["A cat ."]),
    ]
    with pytest.raises(UserError, match="not `image#number"):
        read_captions(write(tmp_path, "bad.txt", "a.jpg#0\tfine\na.jpg no tab\n"), "flickr")


def test_coco_captions(tmp_path):
    content = {
        "images": [{"id": 9, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "caption": "Un chat"}, {"id": 2, "image_id": 7, "caption": " "}],
    }
    path = write(tmp_path, "c.json", json.dumps(content))
    assert [(i.image_id, i.file, i.captions) for i in read_captions(path)] == [
        (9, "a.jpg", []),
        (7, "b.jpg", ["Un chat"]),
    ]
    content["annotations"].append({"image_id": 1, "caption": "x"})
    with pytest.raises(UserError, match="belongs to image 1, which is not listed"):
        read_captions(write(tmp_path, "c.json", json.dumps(content)))


def test_unknown_json_and_text_that_is_not_utf8(tmp_path):
    with pytest.raises(UserError, match="neither in Karpathy's format"):
        read_captions(write(tmp_path, "c.json", "{}"))
    (tmp_path / "l.csv").write_bytes("image,caption\na.jpg,caf\xe9\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 23, line 2\)"):
        read_captions(tmp_path / "l.csv")
    with pytest.raises(UserError, match="no captions file"):
        read_captions(tmp_path / "none.csv")


def table(tmp_path, count: int, splits=None):
    rows = [f"{i}.jpg,caption {i}" + (f",{splits(i)}" if splits else "") for i in range(count)]
    return write(tmp_path, "c.csv", "\n".join(["image,caption" + (",split" if splits else ""), *rows]) + "\n")


def split_of(found):
    return {record.image_id: record.split for record in found}


def test_random_splits_are_reproducible_and_disjoint(tmp_path):
    found = records(params(captions=table(tmp_path, 50)))
    sizes = [sum(r.split == split for r in found) for split in ("train", "val", "test")]
    assert sizes == [30, 10, 10]
    images = read_captions(tmp_path / "c.csv")
    assert split_of(assign_splits(images[::-1], params())) == split_of(found)
    assert split_of(assign_splits(images, params(split_seed=1))) != split_of(found)


def test_a_new_image_moves_few_others(tmp_path):
    before = split_of(records(params(captions=table(tmp_path, 50))))
    after = split_of(records(params(captions=table(tmp_path, 51))))
    assert sum(before[i] != after[i] for i in before) <= 2


def test_given_splits_are_kept_and_only_missing_ones_are_random(tmp_path):
    path = table(tmp_path, 20, lambda i: "test" if i < 5 else "train")
    found = split_of(records(params(captions=path)))
    assert [i for i, s in found.items() if s == "test"] == [f"{i}.jpg" for i in range(5)]
    assert sum(s == "val" for s in found.values()) == 4


def test_images_without_captions_are_left_out(tmp_path):
    path = write(tmp_path, "c.csv", "image,caption\n" + "".join(f"{i}.jpg,a dog\n" for i in range(10)) + "x.jpg,\n")
    assert "x.jpg" not in split_of(records(params(captions=path)))


def test_prepare_links_the_folder(tmp_path):
    pictures = tmp_path / "photos"
    pictures.mkdir()
    for i in range(10):
        (pictures / f"{i}.jpg").write_bytes(bytes([i]))
    prepare(tmp_path / "out", params(pictures, table(tmp_path, 10)))
    assert len(karpathy.read(tmp_path / "out/captions.json")) == 10
    assert Pictures.open(tmp_path / "out/images").read("7.jpg") == b"\7"
    (pictures / "3.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the 10 pictures.*3\.jpg"):
        prepare(tmp_path / "other", params(pictures, tmp_path / "c.csv"))


def test_unset_params_are_named():
    with pytest.raises(UserError, match=r"set custom\.images and custom\.captions"):
        records(CustomParams(images=None, captions=None, format="auto", val=0.1, test=0.1, split_seed=0))


def test_a_picture_under_two_names_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(20):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(b"1")
    (tmp_path / "images" / "20.jpg").symlink_to("3.jpg")
    rows = "".join(f"{number}.jpg,a dog\n" for number in range(21))
    captions = write(tmp_path, "c.csv", f"image,caption\n{rows}")
    with pytest.raises(UserError, match=r'"3\.jpg" and "20\.jpg" are links to the same picture'):
        prepare(tmp_path / "raw", params(tmp_path / "images", captions))
    assert not (tmp_path / "raw" / "captions.json").exists()
