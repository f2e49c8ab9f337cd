"""The five captions of a drawn scene are true, differ, and use a known vocabulary."""

import re
from collections import Counter
from random import Random

import pytest

from showtell.data.datasets.scenes.five_people import captions
from showtell.data.datasets.scenes.generate import make
from showtell.data.datasets.scenes.phrases import names, participle, present, with_article
from showtell.data.datasets.scenes.wording import COLOUR_WORDS, COUNTS, LARGE, NOUNS, OPINIONS, SMALL
from showtell.data.datasets.scenes.world import COLOURS, KINDS

SIZE = 96
NAMES = sorted(((name, kind) for kind in KINDS for name in names(kind)), key=lambda pair: -len(pair[0]))
MENTION = re.compile(r"\b(" + "|".join(name for name, _ in NAMES) + r")\b")
KIND_OF = dict(NAMES)
MODIFIERS = {
    word
    for text in (*COLOURS, *COLOUR_WORDS.values(), *COUNTS.values(), *OPINIONS.values(), LARGE, SMALL,
                 "a|an|the|one|two|three|and|light|dark|striped")
    for word in re.split(r"[| ]", text)
}  # fmt: skip


@pytest.fixture(scope="module")
def captioned():
    pictures = [make(1, "test", index, SIZE) for index in range(250)]
    return [(picture, captions(picture, Random(f"{index}"))) for index, picture in enumerate(pictures)]


def mentions(caption):
    return [(KIND_OF[found.group()], found.start(), found.end()) for found in MENTION.finditer(caption.lower())]


def boxes_of(picture, kind):
    return [box for thing, box in zip(picture.scene.things, picture.boxes, strict=True) if thing.kind == kind]


def said_relations(caption, phrase):
    """Pairs of kinds related by `phrase` in the caption; "it" and "them" refer to the first object mentioned."""
    text, found = caption.lower(), mentions(caption)
    for hit in re.finditer(rf"\b{phrase}\b", text):
        before = [kind for kind, _, end in found if end <= hit.start()]
        after = [(kind, start) for kind, start, _ in found if start >= hit.end()]
        if before and re.match(r" (it|them)\b", text[hit.end() :]):
            yield before[-1], before[0]
        elif before and after and set(text[hit.end() : after[0][1]].split()) <= MODIFIERS:
            yield before[-1], after[0][0]


def test_everything_mentioned_is_in_the_picture(captioned):
    for picture, said in captioned:
        kinds = {thing.kind for thing in picture.scene.things}
        for caption in said:
            assert {kind for kind, _, _ in mentions(caption)} <= kinds, caption


def test_every_caption_mentions_something(captioned):
    assert all(mentions(caption) for _, said in captioned for caption in said)


def gap(one, two):
    return max(one[0], two[0]) - min(one[2], two[2])


TRUE_OF = {  # phrase: what must hold for the boxes of every pair of things
    "above|over|high above|directly above|over the top of": lambda a, b: a[3] <= b[1] + 0.03 * SIZE,
    "below|under|beneath|underneath|right under": lambda a, b: b[3] <= a[1] + 0.03 * SIZE,
    "behind|right behind|just behind|in back of": lambda a, b: a[3] < b[3] and gap(a, b) < 0,
    "in front of|just in front of": lambda a, b: a[3] > b[3] and gap(a, b) < 0,
    "next to|right next to|beside|right beside|alongside|to the side of": lambda a, b: gap(a, b) < 0.16 * SIZE
    and abs(a[3] - b[3]) < 0.11 * SIZE,
    "near|close to|not far from": lambda a, b: gap(a, b) < 0.21 * SIZE and abs(a[3] - b[3]) < 0.21 * SIZE,
    "on|on top of": lambda a, b: a[3] < b[3] and gap(a, b) < 0,
}  # fmt: skip


@pytest.mark.parametrize("phrase", TRUE_OF, ids=lambda phrase: phrase.split("|")[0])
def test_relations_hold_in_the_picture(captioned, phrase):
    told = 0
    for picture, said in captioned:
        for caption in said:
            for one, two in said_relations(caption, f"(?:{phrase})"):
                told += 1
                for a in boxes_of(picture, one):
                    assert all(TRUE_OF[phrase](a, b) for b in boxes_of(picture, two)), caption
    assert told >= 2, f"nobody says {phrase}"


def test_counts_and_colours_are_true(captioned):
    for picture, said in captioned:
        for caption in said:
            for number, word in enumerate(("two", "three"), 2):
                for kind in re.findall(rf"\b{word} (?:\w+ )?(\w+)", caption.lower()):
                    if kind in KIND_OF:
                        assert len(boxes_of(picture, KIND_OF[kind])) == number, caption
            for colour, noun in re.findall(rf"\b({'|'.join(COLOURS)}) (\w+)", caption.lower()):
                if noun in KIND_OF:
                    shown = {thing.colour for thing in picture.scene.things if thing.kind == KIND_OF[noun]}
                    assert colour in shown, caption


def test_the_five_captions_differ(captioned):
    for _, said in captioned:
        assert len(said) == len(set(said)) == 5


def test_captions_are_grammatical(captioned):
    every = [caption for _, said in captioned for caption in said]
    for caption in every:
        assert caption[0].isupper() and "  " not in caption and re.fullmatch(r"[A-Za-z, ]+\.?", caption), caption
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption
        assert not re.search(r"\bleft\b|\bright (?!next|beside|under|behind)", caption), caption  # pictures get flipped
        assert 4 <= len(caption.split()) <= 18, caption
    stops = sum(caption.endswith(".") for caption in every) / len(every)
    assert 0.5 < stops < 0.9


def test_the_vocabulary_has_many_words(captioned):
    words = Counter(word for _, said in captioned for caption in said for word in caption.lower().strip(".").split())
    assert sum(count >= 5 for count in words.values()) >= 200


def test_captions_are_reproducible():
    picture = make(1, "train", 7, SIZE)
    assert captions(picture, Random(1)) == captions(picture, Random(1)) != captions(picture, Random(2))


def test_inflected_forms():
    verbs = ("fly", "run", "race", "pass", "lie", "=parked")
    assert [present(verb, False) for verb in verbs] == ["flies", "runs", "races", "passes", "lies", "is parked"]
    assert [participle(verb) for verb in verbs] == ["flying", "running", "racing", "passing", "lying", "parked"]
    assert present("fly", True) == "fly" and present("=set up", True) == "are set up"
    assert with_article("orange kite") == "an orange kite" and with_article("red kite") == "a red kite"
    assert "school buses" in names("bus") and len(NOUNS) == len(KINDS)
