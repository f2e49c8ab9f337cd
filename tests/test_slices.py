"""Scores of slices of test."""

import csv

import numpy as np
import pytest

from showtell.data.vocabulary import Vocabulary
from showtell.evaluation.judge import judge
from showtell.evaluation.slices import slice_rows
from showtell.generation.captioner import Caption
from showtell.metrics.annotations import Annotations

SAID = [  # a caption, its references
    ("a dog runs", ["A dog runs.", "The dog is running"]),
    ("a cat", ["a man holds his big cat", "a cat and a man"]),
    ("a dog", ["a woman walks a small dog today", "she has a dog"]),
    ("a boat", ["a red boat", "the axolotl on a boat"]),
    ("a boat", ["a man and a woman in a boat at sea", "two people in a boat"]),
    ("a dog", ["the dog of a man", "a dog"]),
]
VOCABULARY = Vocabulary(["a", "the", "dog", "cat", "boat", "man", "woman"], [90, 80, 70, 60, 50, 40, 30])


def evaluation_of(said, objects=None):
    entries = [
        {"image_id": number, "references": references, "words": [text.lower().split() for text in references]}
        for number, (_, references) in enumerate(said)
    ]
    captions = [[Caption(text, text.split(), -1.0, -1.0, True, None)] for text, _ in said]
    return judge(entries, captions, Annotations.of(objects or {}))


def rows_by(evaluation, objects=None, vocabulary=VOCABULARY):
    found: dict[str, dict[str, dict]] = {}
    for row in slice_rows(evaluation, vocabulary, Annotations.of(objects or {})):
        found.setdefault(row["by"], {})[row["part"]] = row
    return found


def test_slices_by_references():
    found = rows_by(evaluation_of(SAID * 2))
    assert {part: row["images"] for part, row in found["gendered words in references"].items()} == {
        "women": 2, "men": 4, "both": 2, "neither": 4
    }  # fmt: skip
    assert sum(row["images"] for row in found["length of references"].values()) == 2 * len(SAID)
    assert "number of objects" not in found  # their objects are unknown


def test_slices_by_rare_words():
    plain = [("a dog", ["a dog", "the dog"]), ("a cat", ["the cat", "a cat"])]
    found = rows_by(evaluation_of([*plain, *SAID[3:5]]))["rare words in references"]
    assert [row["images"] for row in found.values()] == [2, 2]
    assert "a word seen under 30 times in training" in found
    assert "rare words in references" not in rows_by(evaluation_of(plain))  # no slice differs from the whole


def test_a_small_vocabulary_leaves_out_words_that_are_not_rare():
    small = Vocabulary(["a", "the", "dog"], [90, 80, 70])
    common = [("a dog", ["a dog", "the dog"])] * 2
    found = rows_by(evaluation_of([*common, *SAID]), vocabulary=small)["rare words in references"]
    assert "a word seen under 30 times in training or out of the vocabulary" in found


def test_slices_by_number_of_objects():
    thing = {"kind": "dog", "colour": None, "box": [0, 0, 1, 1]}
    numbers = [1, 1, 2, 2, 5, 9]
    images = {str(i): {"size": [9, 9], "objects": [thing] * number} for i, number in enumerate(numbers)}
    objects = {"names": {"dog": ["dog"]}, "images": images}
    found = rows_by(evaluation_of(SAID, objects), objects)["number of objects"]
    assert {part: row["images"] for part, row in found.items()} == {"1": 2, "2": 2, "4 or more": 2}
    assert found["2"]["chair_i"] == 0 and "captions_true_low" in found["2"]


def test_scores_of_slices_are_means_over_their_images():
    whole = evaluation_of(SAID * 3)
    parts = rows_by(whole)["gendered words in references"].values()
    mean = sum(row["images"] * row["cider"] for row in parts) / len(whole.entries)
    assert mean == pytest.approx(whole.metrics["cider"])  # a mean over images, with the document frequencies of test
    for row in parts:
        assert row["cider_low"] <= row["cider"] <= row["cider_high"]
        assert 0 <= row["bleu4_low"] <= row["bleu4"] <= row["bleu4_high"] <= 1


def test_evaluate_writes_them(pipeline):
    with open(pipeline / "metrics/slices.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {"by", "part", "images", "cider", "cider_low", "cider_high", "captions_true"} <= set(rows[0])
    assert all(np.isfinite(float(row["cider"])) for row in rows)
    lengths = [int(row["images"]) for row in rows if row["by"] == "length of references"]
    assert sum(lengths) == 8
