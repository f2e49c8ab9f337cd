"""Parameter files: types of scalars, errors, and edits that change the given keys only."""

from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from showtell.core.errors import UserError
from showtell.core.params import load
from showtell.core.yaml_files import edited, parsed, read_sections, set_values
from showtell.data.datasets.source import DatasetName

TEXT = (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-05), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-0.5", -0.5), ("+3", 3), ("0", 0), ("~", None),
        ("", None), ("true", True), ("yes", "yes"), ("off", "off"), ("010", "010"), ("0o10", "0o10"), ("0x1F", "0x1F"),
        ("1_000", "1_000"), ("1:30", "1:30"), ("2026-13-45", "2026-13-45"), ("2026-01-01", "2026-01-01"),
        ("'1'", "1"), ("1.2.3", "1.2.3"), ("1e", "1e"), ("9" * 18, int("9" * 18)), ("9" * 19, "9" * 19),
    ],
)  # fmt: skip
def test_plain_scalars_have_their_yaml_1_2_types(text, value):
    found = parsed(f"key: {text}\n", "params.yaml")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("beam: 3\nbeam: 4\n", r'params\.yaml is not valid YAML \(line 2\): found duplicate key "beam"'),
        ("train: {a: 1, a: 2}\n", r'is not valid YAML \(line 1\): found duplicate key "a"'),
        ("train: [", r"is not valid YAML \(line 1\)"),
        ("- a\n", "must hold sections"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
        ("a: !!int x\n", "is not valid YAML: invalid literal"),
        ("a: \x00\n", "is not valid YAML: unacceptable character"),
        ("a: *b\n", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_invalid_files_are_one_short_line(text, said):
    with pytest.raises(UserError, match=said) as told:
        parsed(text, "params.yaml")
    assert "\n" not in str(told.value) and len(str(told.value)) < 250


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("beam: 5", "beam: 010", r"beam = '010': input should be a valid integer \(a plain number"),
        ("beam: 5", "beam: 1:30", "beam = '1:30': input should be a valid integer"),
        ("beam: 5", "beam: " + "7" * 5000, r"beam = '7{76}\.\.\.: input should be a valid integer"),
        ("min_count: 5 ", "min_count: 2026-13-45 ", r"vocab\.min_count = '2026-13-45'"),
        ("ema: 0.99 ", "ema: .nan ", r"train\.ema = nan: input should be"),
        ("label_smoothing: 0.05 ", "label_smoothing: -.inf ", r"learning\.label_smoothing = -inf"),
        ("  length_penalty: 1.0", "  length_penalty: .inf", r"search\.length_penalty = inf"),
        ("dataset: scenes", "dataset: " + "x" * 300, r"dataset = 'x{76}\.\.\.: input should be 'scenes'"),
        ("  seed: 1                 #", "  seed: 99999999999999 #", r"learning\.seed = 99999999999999: input sho"),
    ],
)
def test_a_wrong_value_is_one_short_line(tmp_path, old, new, said):
    path = tmp_path / "params.yaml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=said) as told:
        load(DatasetName, path)
    assert "\n" not in str(told.value) and len(str(told.value)) < 300


def test_numbers_as_dvc_writes_them_are_read(tmp_path):
    """`-S train.learning_rate=1e-5` is written as 1e-05."""
    path = tmp_path / "params.yaml"
    path.write_text(edited(TEXT, {"train.learning_rate": 1e-5}))
    assert "  learning_rate: 1e-05 " in path.read_text()
    assert read_sections(path)["train"]["learning_rate"] == 1e-5


CHANGES = [
    ("beam=3", {"beam": 3}),
    ("train.learning_rate=1e-5", {"train.learning_rate": 1e-5}),
    ("learning.clip_at=1", {"learning.clip_at": 1}),
    ("finetune.flip=false", {"finetune.flip": False}),
    ("vocab.min_count=null", {"vocab.min_count": None}),
    ("vocab.max_size=1000", {"vocab.max_size": 1000}),
    ("custom.images=/a/path/that/is/longer/than/the/column/of/its/comment", None),
    ("custom.captions='it # is'", {"custom.captions": "it # is"}),
    ("sweep.beams=[1,2]", {"sweep.beams": [1, 2]}),
]


@pytest.mark.parametrize(("setting", "values"), CHANGES, ids=[setting for setting, _ in CHANGES])
def test_written_files_equal_those_of_dvc(tmp_path, setting, values):
    """`dvc exp run -S SETTING` changes the file with this function of DVC."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [setting])
    key, _, text = setting.partition("=")
    assert edited(TEXT, values or {key: text}) == path.read_text()
    lines = path.read_text().splitlines()
    if len(lines) == len(TEXT.splitlines()):
        assert sum(old != new for old, new in zip(TEXT.splitlines(), lines, strict=True)) == 1


def test_a_new_key_is_added_to_its_section_and_removed():
    added = edited(TEXT, {"train.precision": "fp32"})
    section = added.partition("\ntrain:\n")[2].partition("\n\n")[0]
    assert "  precision: fp32" in section.splitlines()
    assert edited(added, {}, ["train.precision"]) == TEXT
    with pytest.raises(UserError, match="the section 'trian' is missing"):
        edited(TEXT, {"trian.precision": "fp32"})


@given(st.one_of(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=100), st.none(),
                 st.floats(allow_nan=False), st.booleans(), st.integers(-(10**17), 10**17)))  # fmt: skip
def test_any_value_survives_and_comments_stay(value):
    text = "# Head\ncustom:\n  images: 'old # one'  # note\n\n# Tail\nbeam: 5  # width\n"
    written = edited(text, {"custom.images": value})
    assert parsed(written, "params.yaml") == {"custom": {"images": value}, "beam": 5}
    assert all(comment in written for comment in ("# Head\n", "# note\n", "# Tail\n", "# width\n"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/params\.yaml does not exist"):
        set_values(Path("nowhere/params.yaml"), {"beam": 3})
