"""Truth of captions' statements about objects and their colours, and of those about combinations held out of training.

For data with annotated objects (see `objects`). A statement is a colour and an object in one phrase: "a red car", "a
black little dog". Images marked unseen have a (kind, colour) or a (kind, setting) that is in no training image, so that
a model cannot caption them by copying training captions.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from showtell.metrics.objects import Mention

# A colour word belongs to an object if only adjectives stand between them: these words end the phrase
_PHRASE_ENDS = """a an the and or but of in on at by to from with near beside behind above below under over across its
is are was were while as next front two three four several some his her their"""
PHRASE_ENDS = frozenset(_PHRASE_ENDS.split())

NUMBERS = {"two": 2, "pair": 2, "couple": 2, "three": 3, "trio": 3, "four": 4}

RIGHT, PARTLY, WRONG, SILENT = "right", "partly", "wrong", "silent"


class Statement(NamedTuple):
    """A mentioned object, its stated colour and its stated number, None when none is stated."""

    mention: Mention
    colour: str | None
    number: int | None = None


def statements(
    words: Sequence[str], mentions: Sequence[Mention], colours: Mapping[str, Sequence[str]]
) -> list[Statement]:
    """Each mention with the nearest colour word before it in its own phrase; `colours` {colour: [words for it]}."""
    meaning = {word: colour for colour, names in colours.items() for word in (colour, *names)}
    result = []
    earliest = 0
    for mention in mentions:
        colour = None
        for place in range(mention.first - 1, earliest - 1, -1):
            word = words[place].lower()
            if word in meaning:
                colour = meaning[word]
                break
            if word in PHRASE_ENDS:
                break
        result.append(Statement(mention, colour, _number([word.lower() for word in words[earliest : mention.first]])))
        earliest = mention.last + 1
    return result


def _number(before: Sequence[str]) -> int | None:
    """The number stated by the words before a mention: "three", "a pair of", adjectives in between; None without."""
    while before and before[-1] not in PHRASE_ENDS:
        before = before[:-1]
    if before[-1:] == ["of"]:
        before = before[:-1]
    return NUMBERS.get(before[-1]) if before else None


def is_true(statement: Statement, objects: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some object has the kind and, if one is stated, the colour."""
    return number_there(statement, objects) > 0


def right_number(statement: Statement, objects: Sequence[Mapping[str, Any]]) -> bool:
    """Whether as many objects have the kind and the stated colour as the statement says: exactly, or one or several."""
    there = number_there(statement, objects)
    return there == statement.number if statement.number else statement.mention.plural == (there > 1)


def number_there(statement: Statement, objects: Sequence[Mapping[str, Any]]) -> int:
    """How many objects have the kind and, if one is stated, the colour."""
    kind, colour = statement.mention.kind, statement.colour
    return sum(item["kind"] == kind and colour in (None, item["colour"]) for item in objects)


def all_true(said: Sequence[Statement], objects: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a caption names at least one thing, and every thing and colour that it names is in the picture."""
    return bool(said) and all(is_true(statement, objects) for statement in said)


def colour_counts(said: Sequence[Statement], objects: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Statements of colour about kinds that are present: how many are right, and how many there are."""
    present = {item["kind"] for item in objects}
    made = [s for s in said if s.colour is not None and s.mention.kind in present]
    return sum(is_true(s, objects) for s in made), len(made)


class HeldOut(NamedTuple):
    """Pairs that no training image has: (kind, colour) and (kind, setting)."""

    colours: frozenset[tuple[str, str]]
    settings: frozenset[tuple[str, str]]

    def kinds(self, image: Mapping[str, Any]) -> set[tuple[str, str | None]]:
        """The held-out things of an image: (kind, its colour), or (kind, None) when only its setting is new."""
        found: set[tuple[str, str | None]] = set()
        for item in image["objects"]:
            if (item["kind"], item["colour"]) in self.colours:
                found.add((item["kind"], item["colour"]))
            elif (item["kind"], image["setting"]) in self.settings:
                found.add((item["kind"], None))
        return found


def held_out(images: Mapping[str, Mapping[str, Any]], train: Collection[str]) -> HeldOut:
    """The pairs that images marked unseen have and no training image has.

    `images` {image id: entry of objects.json}, `train` the ids of the training images.
    """
    known_colours, known_settings = set(), set()
    new_colours, new_settings = set(), set()
    trained = set(train)
    for image_id, image in images.items():
        unseen, known = image.get("unseen", False), image_id in trained
        for item in image["objects"]:
            if known:
                known_colours.add((item["kind"], item["colour"]))
                known_settings.add((item["kind"], image["setting"]))
            elif unseen:
                new_colours.add((item["kind"], item["colour"]))
                new_settings.add((item["kind"], image["setting"]))
    colours = {pair for pair in new_colours - known_colours if pair[1] is not None}
    settings = {pair for pair in new_settings - known_settings if pair[1] is not None}
    return HeldOut(frozenset(colours), frozenset(settings))


def held_out_outcome(said: Sequence[Statement], image: Mapping[str, Any], pairs: HeldOut) -> str | None:
    """How a caption describes its image's held-out object; None when the image has none.

    "right": named, with its new colour where the colour is what is new; "partly": named without a colour; "wrong":
    named with a colour that no object of that kind has there; "silent": not named. The best of several things counts.
    """
    things = pairs.kinds(image)
    if not things:
        return None
    outcomes = []
    for kind, colour in things:
        about = [s for s in said if s.mention.kind == kind]
        if not about:
            outcomes.append(SILENT)
        elif not all(is_true(s, image["objects"]) for s in about):
            outcomes.append(WRONG)
        elif colour is None or any(s.colour == colour for s in about):
            outcomes.append(RIGHT)
        else:
            outcomes.append(PARTLY)
    return min(outcomes, key=(RIGHT, PARTLY, WRONG, SILENT).index)
