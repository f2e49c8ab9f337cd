"""Captions files of users: no text is dropped or shortened, and errors name file, line and field."""

import csv
import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.core.errors import UserError
from showtell.data.datasets import karpathy
from showtell.data.datasets.caption_files import detect, read_captions
from showtell.data.datasets.custom import CustomParams, in_folder, records
from showtell.data.datasets.karpathy import clean
from showtell.data.datasets.tables import read_rows


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def captions_of(path) -> dict[str, list[str]]:
    return {image.file: image.captions for image in read_captions(path)}


def test_a_quotation_mark_in_a_tsv_is_a_character(tmp_path):
    text = (
        'image\tcaption\na.jpg\t"Stop" says a sign\nb.jpg\t"No entry\nc.jpg\ta "lucky" horse\nd.jpg\t"all of ""it"""\n'
    )
    assert captions_of(write(tmp_path, "c.tsv", text)) == {
        "a.jpg": ['"Stop" says a sign'],
        "b.jpg": ['"No entry'],
        "c.jpg": ['a "lucky" horse'],
        "d.jpg": ['all of "it"'],
    }


def test_commas_without_quotation_marks_stay_in_a_caption_that_ends_the_row(tmp_path):
    text = "image,caption\na.jpg,a dog, two cats, a bird\nb.jpg,a tree,,\n"
    assert captions_of(write(tmp_path, "c.csv", text)) == {"a.jpg": ["a dog, two cats, a bird"], "b.jpg": ["a tree"]}


def test_a_line_break_in_a_quoted_cell_is_a_space(tmp_path):
    text = 'image,caption,split\r\na.jpg,"a dog\r\nruns, ""fast""",train\r\nb.jpg,a cat,val\r\n'
    assert captions_of(write(tmp_path, "c.csv", text)) == {"a.jpg": ['a dog runs, "fast"'], "b.jpg": ["a cat"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('image,caption\na.jpg,"a dog\na.jpg,b\nb.jpg,c\n', "line 2, column 7: .* quotation mark goes on in line 3"),
        ('image,caption\na.jpg,"a dog\nand a cat\n', "line 2, column 7: .* never ends"),
        ('image,caption\na.jpg,"Stop" says a sign\n', 'line 2, column 7: .* ends before "says a sign" in line 2'),
        (
            "image,caption,split\na.jpg,a dog, a cat,train\n",
            r"the first line has 3 cells, divided by ','; line 2 has 4",
        ),
        ("image| n| caption\na.jpg| 0| a dog\nb.jpg| 4   a dog\n", "line 3 has 2"),
        ("image,caption\na.jpg\nb.jpg\nc.jpg\nd.jpg\n", "line 2 has 1, line 3 has 1, line 4 has 1 and 1 more"),
        ("image,caption\na.jpg,b\nb.jpg\n", "line 3 has 1; every row needs all columns"),
        ("image,caption,split\na.jpg,b,c,train\nb.jpg\n", "put cells that hold the mark in quotation marks"),
        ("image,caption,caption\na.jpg,b,c\n", 'line 1: two columns are called "caption"'),
        ("a.jpg,a dog\n", r"line 1: the first line must name the columns"),
        ("image,caption,image_id\na.jpg,x,1\nb.jpg,y,1\n", r'line 3: id "1" belongs to a\.jpg and to b\.jpg'),
        ("image,caption,image_id\na.jpg,x,1\n./a.jpg,y,2\n", r'line 3: a\.jpg has the ids "1" and "2"'),
    ],
)
def test_rows_that_would_lose_text_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_captions(write(tmp_path, "c.csv", text))


def test_columns_that_are_not_read_are_reported(tmp_path, capsys):
    read_captions(write(tmp_path, "c.csv", "image,caption,author\na.jpg,b,me\n"))
    assert 'columns that are not read: "author"' in capsys.readouterr().err


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from(',;|"\n'), max_size=20)


@given(st.lists(cells, min_size=1, max_size=5), st.sampled_from(",;"))
def test_csv_round_trip(captions, mark):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark)
    writer.writerows([("image", "caption"), *((f"{n}.jpg", text) for n, text in enumerate(captions))])
    rows = [(row.cells["file"], clean(row.cells["caption"])) for row in read_rows(out.getvalue(), "x")]
    assert rows == [(f"{n}.jpg", clean(text)) for n, text in enumerate(captions)]


@pytest.mark.parametrize("name", ["images\\a.jpg", "./images/a.jpg", "images//a.jpg", "images/x/../a.jpg"])
def test_file_names_are_normalised_in_every_format(tmp_path, name):
    (tmp_path / "c.csv").write_text(f"image,caption\n{name},a dog\n")
    (tmp_path / "t.txt").write_text(f"{name}#0\ta dog\n")
    coco = {"images": [{"id": 1, "file_name": name}], "annotations": [{"image_id": 1, "caption": "a dog"}]}
    (tmp_path / "c.json").write_text(json.dumps(coco))
    for file in ("c.csv", "t.txt", "c.json"):
        assert captions_of(tmp_path / file) == {"images/a.jpg": ["a dog"]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, encoding):
    coco = json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "é"}]})
    assert captions_of(write(tmp_path, "c.json", coco.encode(encoding))) == {"a.jpg": ["é"]}
    assert captions_of(write(tmp_path, "c.csv", "image,caption\na.jpg,é\n".encode(encoding))) == {"a.jpg": ["é"]}


def coco(tmp_path, images=({"id": 1, "file_name": "a.jpg"},), annotations=({"image_id": 1, "caption": "a dog"},)):
    return write(tmp_path, "c.json", json.dumps({"images": list(images), "annotations": list(annotations)}))


@pytest.mark.parametrize("image_id", ["1", 1.0])
def test_ids_are_compared_as_text_and_whole_floats_are_whole_numbers(tmp_path, image_id):
    path = coco(tmp_path, annotations=[{"image_id": image_id, "caption": "a dog"}])
    assert captions_of(path) == {"a.jpg": ["a dog"]}


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, float("nan"), 1.5, ""])
def test_ids_of_other_types_are_refused_by_entry_and_field(tmp_path, value):
    with pytest.raises(UserError, match=r"c\.json: images\[1\]: `id` is "):
        read_captions(coco(tmp_path, images=[{"id": 1, "file_name": "a.jpg"}, {"id": value, "file_name": "b.jpg"}]))
    with pytest.raises(UserError, match=r"c\.json: annotations\[0\]: `image_id` is "):
        read_captions(coco(tmp_path, annotations=[{"image_id": value, "caption": "a dog"}]))


@pytest.mark.parametrize("value", [None, True, 7, ["one", "two"], {"a": 1}, float("nan")])
def test_text_of_other_types_is_refused_by_entry_and_field(tmp_path, value):
    with pytest.raises(UserError, match=r"c\.json: annotations\[0\]: `caption` is .*, not text"):
        read_captions(coco(tmp_path, annotations=[{"image_id": 1, "caption": value}]))
    with pytest.raises(UserError, match=r"c\.json: images\[0\]: `file_name` is .*, not text"):
        read_captions(coco(tmp_path, images=[{"id": 1, "file_name": value}]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}], r'images\[1\]: id "1" occurs twice'),
        (
            [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "./a.jpg"}],
            r"images\[1\]: file a\.jpg occurs twice",
        ),
        (["a.jpg"], r'images\[0\] is "a\.jpg", not an object'),
        ([{"id": 1}], "has no `file_name`"),
    ],
)
def test_images_that_clash_are_named(tmp_path, images, message):
    with pytest.raises(UserError, match=message):
        read_captions(coco(tmp_path, images=images))


def test_json_with_huge_numbers_or_deep_nesting_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"images\[0\]: `id` is Infinity, not a whole number"):
        content = f'{{"images": [{{"id": {"9" * 5000}, "file_name": "a.jpg"}}], "annotations": []}}'
        read_captions(write(tmp_path, "c.json", content))
    with pytest.raises(UserError, match="nested too deeply"):
        read_captions(write(tmp_path, "c.json", "[" * 200_000))


def test_karpathy_without_splits_gets_random_splits(tmp_path):
    images = [{"imgid": n, "filename": f"{n}.jpg", "sentences": [{"raw": "A dog."}]} for n in range(20)]
    path = write(tmp_path, "c.json", json.dumps({"images": images}))
    params = CustomParams(images="x", captions=str(path), format="auto", val=0.2, test=0.1, split_seed=0)
    splits = [record.split for record in records(params)]
    assert [splits.count(split) for split in ("train", "val", "test")] == [14, 4, 2]


@pytest.mark.parametrize(
    "line",
    ["a.jpg#0\ta dog", "a.jpg#0 a dog", "a.jpg#zhm#0 a dog", "a.jpg#enr#0\ta dog", "a.jpg.1#0\ta dog", "a.jpg\ta dog"],
)
def test_published_spellings_of_flickr_s_token_file(tmp_path, line):
    path = write(tmp_path, "t.token", f"{line}\n")
    assert detect(path) == "flickr" and captions_of(path) == {"a.jpg": ["a dog"]}


def test_a_number_in_a_caption_is_not_the_caption_s_number(tmp_path):
    path = write(tmp_path, "t.token", "a.jpg\tthe player with #5 runs\n")
    assert captions_of(path) == {"a.jpg": ["the player with #5 runs"]}


def test_absolute_paths_inside_the_folder_are_its_pictures(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "photos")
    path = write(tmp_path, "c.csv", f"image,caption\n{tmp_path}/photos/x/a.jpg,a dog\n")
    for folder in ("photos", "linked"):
        (image,) = in_folder(read_captions(path), tmp_path / folder, "c.csv")
        assert image.file == "x/a.jpg"
    with pytest.raises(UserError, match=r'c\.csv: file ".*lies outside the folder of pictures'):
        in_folder(read_captions(path), tmp_path / "elsewhere", "c.csv")
    for name in ("C:\\photos\\a.jpg", "../a.jpg"):
        with pytest.raises(UserError, match="lies outside"):
            in_folder(read_captions(write(tmp_path, "d.csv", f"image,caption\n{name},a dog\n")), tmp_path, "d.csv")


@pytest.mark.parametrize(
    ("count", "val", "message"),
    [
        (14, 0.1, "train 12, val 1, test 1; at least val 2, test 2"),
        (4, 0.45, "train 1, val 2, test 1; at least test 2"),
    ],
)
def test_splits_too_small_for_the_metrics_are_refused_with_their_sizes(tmp_path, count, val, message):
    path = write(tmp_path, "c.csv", "image,caption\n" + "".join(f"{n}.jpg,a dog\n" for n in range(count)))
    params = CustomParams(images="x", captions=str(path), format="auto", val=val, test=0.1, split_seed=0)
    with pytest.raises(UserError, match=message):
        records(params)


def test_no_train_image_is_refused():
    with pytest.raises(UserError, match="train 0, val 3, test 3; at least train 1"):
        karpathy.check_sizes({"val": 3, "test": 3}, "x", "add some")


def test_a_fifo_is_no_captions_file(tmp_path):
    os.mkfifo(tmp_path / "c.csv")
    with pytest.raises(UserError, match="there is no captions file"):
        read_captions(tmp_path / "c.csv")


def test_captions_of_punctuation_or_emoji_alone_have_no_words_to_learn(tmp_path):
    captions = ("a dog", "!!!", "\U0001f600", "狗")
    rows = "".join(f"a.jpg,{caption}\n" for caption in captions)
    entry = {"imgid": 1, "filename": "a.jpg", "sentences": [{"raw": caption} for caption in captions]}
    entry["sentences"].append({"raw": "...", "tokens": ["..."]})  # a word, because the file says so
    (of_table,) = read_captions(write(tmp_path, "c.csv", f"image,caption\n{rows}"))
    (of_json,) = read_captions(write(tmp_path, "c.json", json.dumps({"images": [entry]})))
    assert (of_table.captions, of_table.words, of_table.blank) == (["a dog", "狗"], [["a", "dog"], ["狗"]], 2)
    assert (of_json.captions, of_json.words[-1], of_json.blank) == (["a dog", "狗", "..."], ["..."], 2)
