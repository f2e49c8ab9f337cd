"""Karpathy's format: records, and errors."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.core.errors import UserError
from showtell.data.datasets import karpathy
from showtell.data.datasets.karpathy import Record, check_counts, clean


def image(number: int, **changes) -> dict:
    sentences = [{"raw": f"A dog {number}.", "tokens": ["a", "dog", str(number)], "sentid": number}]
    return {"imgid": number, "filename": f"{number}.jpg", "split": "train", "sentences": sentences} | changes


def save(tmp_path, images):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"dataset": "x", "images": images}))
    return path


def test_coco_layout_gives_coco_ids_and_folders(tmp_path):
    path = save(tmp_path, [image(0, cocoid=391895, filepath="val2014", split="restval")])
    assert karpathy.read(path) == [Record(391895, "val2014/0.jpg", "train", ["A dog 0."], [["a", "dog", "0"]])]


@pytest.mark.parametrize(
    ("name", "split"), [("Train", "train"), ("VAL", "val"), (" test ", "test"), ("RestVal", "train")]
)
def test_split_names_may_be_in_any_case(tmp_path, name, split):
    assert [record.split for record in karpathy.read(save(tmp_path, [image(0, split=name)]))] == [split]


def test_an_unknown_split_and_no_images_are_told(tmp_path):
    with pytest.raises(UserError, match=r'`split` is "held out", not one of train, restval, val, test'):
        karpathy.read(save(tmp_path, [image(0, split="held out")]))
    with pytest.raises(UserError, match="the list `images` is empty"):
        karpathy.read(save(tmp_path, []))


def test_flickr_layout_has_no_filepath(tmp_path):
    assert [(r.image_id, r.file) for r in karpathy.read(save(tmp_path, [image(0), image(1)]))] == [
        (0, "0.jpg"),
        (1, "1.jpg"),
    ]


def test_integral_floats_are_integer_ids(tmp_path):
    path = save(tmp_path, [image(0, imgid=7.0), image(1, imgid="8")])
    assert [record.image_id for record in karpathy.read(path)] == [7, "8"]


def test_the_pipelines_own_files_need_splits(tmp_path):
    entry = image(0)
    del entry["split"]
    with pytest.raises(UserError, match="has no `split`"):
        karpathy.read(save(tmp_path, [entry]))


def test_values_in_errors_are_cut(tmp_path):
    with pytest.raises(UserError) as caught:
        karpathy.read(save(tmp_path, [image(0, filepath=["x" * 5000])]))
    assert len(str(caught.value)) < 80 + len(str(tmp_path)) + 60 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"), [("a\\b.jpg", "a/b.jpg"), ("./a//b.jpg", "a/b.jpg"), ("c/../b.jpg", "b.jpg")]
)
def test_paths_are_normalised(tmp_path, name, file):
    assert karpathy.read(save(tmp_path, [image(0, filename=name)]))[0].file == file


def test_captions_without_words_get_words(tmp_path):
    (record,) = karpathy.read(save(tmp_path, [image(0, sentences=[{"raw": "Two dogs, one ball!"}])]))
    assert record.words == [["two", "dogs", "one", "ball"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, r"images\[1\]: `split` is \"dev\", not one of train"),
        ({"filename": None}, "images.1.: `filename` is null, not text"),
        ({"imgid": None}, "`imgid` is null, not a whole number, or text"),
        ({"imgid": "0"}, 'id "0" occurs twice, for "0.jpg" and "1.jpg"'),
        ({"filename": "0.jpg"}, '"0.jpg" occurs twice, as image 0 and 1'),
        ({"filename": "../../etc/passwd"}, "outside the folder"),
        ({"filename": "/etc/passwd"}, "outside the folder"),
        ({"sentences": []}, "no captions"),
        ({"sentences": [{"raw": " \r\n"}]}, "no captions"),
        ({"sentences": [{}]}, "has no `raw`; it must be text"),
        ({"split": ["train"]}, r'`split` is \["train"\]'),
        ({"filepath": 5}, "`filepath` is 5, not text"),
        ({"imgid": True}, "`imgid` is true"),
        ({"imgid": float("nan")}, "`imgid` is NaN"),
        ({"imgid": 1.5}, r"`imgid` is 1\.5"),
        ({"imgid": "x\0y"}, r'`imgid` is "x\\u0000y"'),
        ({"imgid": "x\ud800y"}, r'`imgid` is "x\\ud800y"'),
        (
            {"sentences": [{"raw": "a dog", "tokens": ["a", None]}]},
            r"sentences\[0\]: `tokens` is .*, not a list of text",
        ),
        ({"sentences": [{"raw": 7}]}, "`raw` is 7, not text"),
        ({"sentences": [None]}, r"sentences\[0\] is null, not an object"),
        ({"sentences": "a dog"}, '`sentences` is "a dog", not a list'),
    ],
)
def test_wrong_entries_are_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        karpathy.read(save(tmp_path, [image(0), image(1, **change)]))


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}', "{"])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / "captions.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"captions\.json"):
        karpathy.read(path)


def test_missing_images_are_counted(tmp_path):
    records = karpathy.read(save(tmp_path, [image(0), image(1, split="val")]))
    check_counts(records, {"train": 1, "val": 1, "test": 0}, "x")
    with pytest.raises(UserError, match="1 train images where 113287 are expected; 0 test images where 5 are"):
        check_counts(records, {"train": 113287, "val": 1, "test": 5}, "x")


def test_line_breaks_of_every_kind_become_spaces():
    assert clean("a\rb\u2028c\u2029d\x85e\x0bf\u00a0g \x00 h\n") == "a b c d e f g h"


def test_unicode_is_composed_and_kept():
    assert clean("cafe\u0301 猫 नमस्ते") == "café 猫 नमस्ते"
    assert clean("bad \ud800 half") == "bad ? half"


@given(st.text(st.characters(max_codepoint=300)))
def test_cleaning_is_idempotent(text):
    once = clean(text)
    assert clean(once) == once and "\r" not in once


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_path_equals_the_rules(text):
    assert clean(f"é {text}") == f"é {clean(text)}".rstrip()


captions = st.text(min_size=1).map(clean).filter(bool)
records = st.lists(
    st.builds(
        lambda split, said: (split, said),
        st.sampled_from(["train", "val", "test"]),
        st.lists(st.tuples(captions, st.lists(captions.map(lambda c: c.split()[0]))), min_size=1),
    ),
    min_size=1,
)


@settings(max_examples=25)
@given(records)
def test_records_round_trip(tmp_path_factory, drawn):
    path = tmp_path_factory.getbasetemp() / "round.json"
    expected = [
        Record(
            number if number % 2 else f"id-{number}",
            f"d/{number}.jpg",
            split,
            [c for c, _ in said],
            [w for _, w in said],
        )
        for number, (split, said) in enumerate(drawn)
    ]
    karpathy.write(path, "x", expected)
    assert karpathy.read(path) == expected
