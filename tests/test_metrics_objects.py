from pathlib import Path

import numpy as np
import pytest

from showtell.core.errors import UserError
from showtell.data.datasets.coco_names import SYNONYMS, read_synonyms
from showtell.data.transform import Transform
from showtell.evaluation.known_objects import in_view, on_things
from showtell.generation.captioner import Caption
from showtell.metrics.annotations import Annotations
from showtell.metrics.objects import Mention, Names, pointing
from showtell.metrics.statements import (
    all_true,
    colour_counts,
    held_out,
    held_out_outcome,
    right_number,
    statements,
)

NAMES = Names(
    {
        "dog": ["dog", "dogs", "puppy"],
        "sausage": ["hot dog", "hot dogs"],
        "ball": ["ball", "balls", "beach ball"],
        "car": ["car"],
    }
)
COLOURS = {"red": ["red", "crimson"], "black": ["black"], "white": ["white"]}


def thing(kind: str, colour: str | None = None, box: tuple[int, int, int, int] = (0, 0, 1, 1)) -> dict[str, object]:
    return {"kind": kind, "colour": colour, "box": list(box)}


def said(caption: str) -> list:
    words = caption.split()
    return statements(words, NAMES.mentions(words), COLOURS)


def test_the_longest_phrase_matches_and_words_are_used_once() -> None:
    caption = "A hot dog and two Dogs with a beach ball"
    found = [Mention("sausage", 1, 2), Mention("dog", 5, 5, plural=True), Mention("ball", 8, 9)]
    assert NAMES.mentions(caption.split()) == found
    assert NAMES.mentions(["hot"]) == NAMES.mentions([]) == []


def test_a_phrase_with_two_meanings_is_refused() -> None:
    with pytest.raises(UserError, match="'bat' means both 'animal' and 'club'"):
        Names({"animal": ["bat"], "club": ["bat"]})
    with pytest.raises(UserError, match="empty phrase"):
        Names({"animal": [" "]})


# In the format of the published list, with words of it that its program treats apart.
PUBLISHED = """\
person, girl, boy, man, child, baby, adult, passenger, gentleman
bird, duck
elephant
bear,  panda
train, locomotive
airplane, plane, air plane, jet
chair, seat, stool
toilet
tie
dog, puppy
hot dog
teddy bear, teddybear
traffic light, street light
motorcycle, motor bike, motor cycle
wine glass
dining table, table, desk
"""
COCO_KINDS = [line.partition(",")[0] for line in PUBLISHED.splitlines()]
READ = {
    "a baby elephant and two adult birds": ["elephant", "bird"],
    "a baby with a teddy bear": ["person", "teddy bear"],
    "an adult animal by a cub": [],
    "a passenger train on train tracks": ["train"],
    "passengers board a passenger jet": ["person", "airplane"],
    "gentlemen with bow ties": ["person", "tie"],
    "a toilet seat": ["toilet"],
    "the seat of the toilet": ["toilet"],
    "a seat and two stools": ["chair", "chair"],
    "a puppy eats a hot dog at home plate": ["dog", "hot dog"],
    "street lights and traffic lights": ["traffic light", "traffic light"],
    "two motor cycles, wine glasses and a desk": ["motorcycle", "wine glass", "dining table"],
    "a locomotive under a street light by a track": ["train", "traffic light"],
}


@pytest.mark.parametrize("caption", READ)
def test_captions_are_read_as_by_the_published_program_of_chair(tmp_path: Path, caption: str) -> None:
    (tmp_path / "synonyms.txt").write_text(PUBLISHED)
    names = Names(read_synonyms(tmp_path / "synonyms.txt", COCO_KINDS))
    assert names.kinds == COCO_KINDS
    assert [mention.kind for mention in names.mentions(caption.replace(",", " ,").split())] == READ[caption]


def test_the_list_of_this_package_has_the_special_cases_too() -> None:
    names = Names(read_synonyms(SYNONYMS, [line.partition(",")[0] for line in SYNONYMS.read_text().splitlines()]))
    caption = "a baby zebra near train tracks and a toilet with its seat"
    found = names.mentions(caption.split())
    assert [mention.kind for mention in found] == ["zebra", "toilet"]


def chair_of(captions: list[str], there: list[list[dict]], references: list[str] | None = None) -> dict[str, float]:
    """CHAIR as in `evaluate`, one image per caption; objects in `references` count as present."""
    best = {
        str(number): Caption(caption, caption.split(), -1.0, -1.0, True, None)
        for number, caption in enumerate(captions)
    }
    known = {image_id: {"objects": things, "size": [10, 10]} for image_id, things in zip(best, there, strict=True)}
    objects = {"names": {"dog": ["dog"], "ball": ["ball"], "car": ["car"]}, "images": known}
    objects["references_tell"] = references is not None
    said = dict(zip(best, ([text.split()] for text in references or captions), strict=True))
    return {key: measured.score for key, measured in on_things(best, Annotations.of(objects), said).items()}


def test_chair_counts_mentions_and_captions() -> None:
    captions = ["a dog and a ball", "a dog with a dog", "grass"]
    scores = chair_of(captions, [[thing("dog"), thing("car")], [thing("ball")], [thing("car")]])
    assert scores["chair_i"] == 3 / 4  # the ball, then the two dogs
    assert scores["chair_s"] == 2 / 3
    assert scores["recall"] == 1 / 4


def test_objects_in_references_count_as_present() -> None:
    captions, there = ["a dog and a ball", "a car"], [[thing("dog")], [thing("dog")]]
    scores = chair_of(captions, there, references=["the ball", "a dog"])
    assert (scores["chair_i"], scores["chair_s"]) == (1 / 3, 1 / 2)  # the car alone
    assert scores["recall"] == 1 / 2  # of the annotated objects


def test_objects_without_colours_have_no_share_of_right_colours() -> None:
    assert "colours_right" not in chair_of(["a red dog"], [[thing("dog")]], references=["a dog"])


def test_captions_without_mentions_have_no_chair() -> None:
    scores = chair_of([""], [[thing("dog")]])
    assert scores["chair_i"] == scores["chair_s"] == scores["recall"] == 0


def test_pointing_hits_when_the_most_attended_cell_is_in_a_box_of_that_kind() -> None:
    # 2 rows, 3 columns over 300 x 100 pixels: centres at x 50, 150, 250 and y 25, 75
    caption = "a dog sees the beach ball and a car"
    mentions = NAMES.mentions(caption.split())
    attention = np.zeros((9, 6))
    attention[1, 5] = 1  # dog: bottom right
    attention[4, 5] = 1  # "beach" does not count,
    attention[5, 0] = 1  # "ball" does: top left
    attention[8, 3] = 1
    objects = [
        thing("dog", box=(200, 50, 300, 100)),
        thing("dog", box=(0, 0, 60, 30)),
        thing("ball", box=(60, 0, 90, 50)),
    ]
    result = pointing(mentions, attention, (2, 3), objects, (300, 100))
    assert result.mentions == 3
    assert result.hits == 1  # the ball's box holds no cell's centre, the car is not in the picture
    assert result.chance == pytest.approx(2 / 6)


def test_pointing_uses_the_shift_of_the_receptive_field() -> None:
    # shifted left and up by half the picture: the centres are at -25 and 25
    dogs = [thing("dog", box=(20, 20, 30, 30))]
    arguments = NAMES.mentions(["a", "dog"]), np.eye(4)[[0, 3]], (2, 2), dogs, (100, 100)
    assert pointing(*arguments, shift=-0.5).hits == 1
    assert pointing(*arguments).hits == 0


def test_a_mention_after_the_last_step_is_left_out() -> None:
    assert pointing([Mention("dog", 5, 5)], np.ones((3, 4)), (2, 2), [], (10, 10)).mentions == 0


@pytest.mark.parametrize(
    ("caption", "colours"),
    [
        ("a red dog", ["red"]),
        ("a crimson little dog", ["red"]),
        ("a dog and a red ball", [None, "red"]),
        ("a red field with a dog", [None]),
        ("a red beach ball", ["red"]),
        ("a black dog ball", ["black", None]),
        ("a black and white dog", ["white"]),
    ],
)
def test_a_colour_belongs_to_the_thing_in_its_phrase(caption: str, colours: list[str | None]) -> None:
    assert [statement.colour for statement in said(caption)] == colours


def test_a_caption_is_true_when_every_thing_and_colour_is() -> None:
    objects = [thing("dog", "red"), thing("ball", "white")]
    assert all_true(said("a red dog with a ball"), objects)
    assert not all_true(said("a white dog with a ball"), objects)
    assert not all_true(said("a dog and a car"), objects)
    assert not all_true(said("a sunny day"), objects)
    assert colour_counts(said("a white dog , a white ball and a red car"), objects) == (1, 2)


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("a red dog", False),
        ("two red dogs", True),
        ("red dogs", True),
        ("a pair of little red dogs", True),
        ("three red dogs", False),
        ("three dogs", True),
        ("two dogs", False),
        ("a white dog", True),
        ("white dogs", False),
        ("two balls and a white dog", False),
        ("a beach ball", True),
    ],
)
def test_a_stated_number_is_right_when_so_many_have_the_colour(caption: str, right: bool) -> None:
    objects = [thing("dog", "red"), thing("dog", "red"), thing("dog", "white"), thing("ball", "red")]
    assert all(right_number(statement, objects) for statement in said(caption)) == right


def test_held_out_pairs_are_found_and_scored() -> None:
    images = {
        "1": {"setting": "field", "unseen": False, "objects": [thing("dog", "black"), thing("ball", "red")]},
        "2": {"setting": "beach", "unseen": True, "objects": [thing("dog", "red"), thing("ball", "red")]},
        "3": {"setting": "field", "unseen": False, "objects": [thing("dog", "white")]},
        "4": {"setting": "field", "unseen": True, "objects": [thing("dog", "red")]},
    }
    pairs = held_out(images, ["1"])
    assert pairs.colours == {("dog", "red")}
    assert pairs.settings == {("dog", "beach"), ("ball", "beach")}
    outcome = {
        caption: held_out_outcome(said(caption), images["4"], pairs)
        for caption in ("a red dog", "a dog", "a black dog", "a field")
    }
    assert outcome == {"a red dog": "right", "a dog": "partly", "a black dog": "wrong", "a field": "silent"}
    assert held_out_outcome(said("a dog"), images["1"], pairs) is None
    assert held_out_outcome(said("a ball"), images["2"], pairs) == "right"  # the setting is new


def test_boxes_are_transformed_with_the_crop() -> None:
    """The central square of a wide picture: an object in the left quarter is cut off."""
    things = [
        {"kind": "dog", "colour": None, "box": [40, 0, 60, 50]},
        {"kind": "cat", "colour": None, "box": [0, 0, 20, 50]},
    ]
    objects = {"images": {"1": {"size": [100, 50], "setting": None, "unseen": False, "objects": things}}}
    assert in_view(objects, Transform(32, "stretch")).images == objects["images"]
    (image,) = in_view(objects, Transform(32, "crop")).images.values()
    assert image["size"] == [50, 50]
    assert [thing["box"] for thing in image["objects"]] == [[15, 0, 35, 50], [-25, 0, -5, 50]]
    looked = np.zeros((1, 9))
    looked[0, 4] = 1  # the middle cell
    for kind, hits in (("dog", 1), ("cat", 0)):
        found = pointing([Mention(kind, 0, 0)], looked, (3, 3), image["objects"], (50, 50))
        assert (found.hits, found.mentions) == (hits, 1)
    assert not in_view({}, Transform(32, "crop"))
