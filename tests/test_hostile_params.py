"""Hostile values of every parameter, as `-S key=value` writes them, are valid or refused in one short line."""

from pathlib import Path

import pytest
from conftest import ROOT

from showtell.core.errors import UserError
from showtell.core.params import SECTIONS, validate, validate_all
from showtell.core.yaml_files import parsed, read_sections

VALUES = (
    ".nan", ".inf", "-.inf", "nan", "inf", "1e400", "-1", '""', "[]", "{}", "999999999999999999", "010", "1:30",
    "1e300", "2020-01-01", "[1, 2]", r'"\0"', r'"a\nb"', r'"\ud800"', f'"{"z" * 5000}"', "true", "null", "-0.5",
)  # fmt: skip
# Any number is valid here, or the network refuses it: `test_model_check`.
NUMBERS_OF_ANY_SIZE = (".nan", ".inf", "-.inf", "1e400")


@pytest.mark.parametrize(("name", "section"), [*((name, name) for name in SECTIONS), ("train", "learning")])
def test_every_value_is_accepted_or_refused_in_one_short_line(name, section):
    raw = read_sections(ROOT / "params.yaml")
    for key in raw[section] if isinstance(raw[section], dict) else [None]:
        for text in VALUES:
            value = parsed(f"key: {text}", "the test")["key"]
            changed = {**raw, section: value if key is None else {**raw[section], key: value}}
            try:
                validate(name, changed, Path("params.yaml"))
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 400, f"{section}.{key} = {text[:20]}: {error}"
            else:
                assert text not in NUMBERS_OF_ANY_SIZE, f"{section}.{key} = {text} is accepted"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.accumulate", 10**17), ("train.epochs", 10**17), ("finetune.images_per_update", 10**17),
        ("decoder.hidden", 10**17), ("decoder.embedding", 10**17), ("reinforce.captions_per_update", 10**17),
        ("custom.images", ""), ("custom.captions", "a\0b"), ("download.source", "\ud800"), ("encoder.weights", ""),
        ("decoder.embeddings", "z" * 5000), ("evaluate.ensemble", ["a\0"]),
    ],
)  # fmt: skip
def test_impossible_sizes_and_names_are_refused(key, value):
    section, _, name = key.partition(".")
    raw = read_sections(ROOT / "params.yaml")
    with pytest.raises(UserError, match=rf"params\.yaml: {key}"):
        validate(section, {**raw, section: {**raw[section], name: value}}, Path("params.yaml"))


@pytest.mark.parametrize("key", ["chair", "truth"])
def test_rewards_for_objects_need_a_dataset_that_has_them(key):
    raw = read_sections(ROOT / "params.yaml")
    rewards = {**raw["reinforce"], "chair": 0.0, "truth": 0.0, key: 1.0}
    validate_all({**raw, "reinforce": rewards}, Path("params.yaml"))
    with pytest.raises(UserError, match=rf"params\.yaml: reinforce\.{key} = 1\.0: dataset flickr8k does not say"):
        validate_all({**raw, "dataset": "flickr8k", "reinforce": rewards}, Path("params.yaml"))
    validate_all({**raw, "dataset": "flickr8k", "reinforce": {**rewards, "epochs": 0}}, Path("params.yaml"))
