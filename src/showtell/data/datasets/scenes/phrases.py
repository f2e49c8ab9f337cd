"""Phrases that name, count and colour a group of things, and describe its action and place."""

import re
from dataclasses import dataclass
from random import Random

from showtell.data.datasets.scenes.places import FAR_OFF, NEAR_US, PLACES
from showtell.data.datasets.scenes.relations import groups_of
from showtell.data.datasets.scenes.structure import Picture, Thing
from showtell.data.datasets.scenes.wording import (
    COLOUR_WORDS,
    COUNTS,
    DETAILS,
    DOUBLED,
    GRASSY,
    LARGE,
    MOVING,
    NOUNS,
    ONLY_IF,
    OPINIONS,
    SMALL,
    VERBS,
)
from showtell.data.datasets.scenes.world import KINDS


@dataclass(frozen=True)
class Habit:
    """A style of captions: probabilities, 0-1, of each kind of detail."""

    colour: float = 0.6
    size: float = 0.2
    place: float = 0.6
    when: float = 0.2
    behind: float = 0.08  # what stands out in the background
    detail: float = 0.1  # a part of a thing: "with a long tail"
    opinion: float = 0.06  # "cute"
    depth: float = 0.05  # "in the distance"
    others: float = 0.75  # mentions a second and a third group
    rare: float = 0.3  # uses a word that is not the commonest
    the: float = 0.1  # says "the dog"
    verb: float = 0.5
    forms: str = ""  # the sentence forms this person likes


@dataclass(frozen=True)
class Group:
    """Things of one kind that are named together."""

    indices: tuple[int, ...]
    things: tuple[Thing, ...]
    boxes: tuple[tuple[int, int, int, int], ...]
    size: int  # the picture's, pixels

    @property
    def kind(self) -> str:
        return self.things[0].kind

    @property
    def plural(self) -> bool:
        return len(self.things) > 1


def spoken_groups(picture: Picture) -> list[Group]:
    return [
        Group(tuple(indices), tuple(picture.scene.things[i] for i in indices),
              tuple(picture.boxes[i] for i in indices), picture.size)
        for indices in groups_of(picture)
    ]  # fmt: skip


def pick(rng: Random, choices: str) -> str:
    """A random alternative of those between bars."""
    return rng.choice(choices.split("|"))


def with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def names(kind: str) -> list[str]:
    """Every word or phrase, singular and plural, that means this kind."""
    forms = [form for pair in NOUNS[kind].split() for form in pair.split("/")]
    return [form.replace("_", " ") for form in dict.fromkeys(forms)]


def colour_words(colour: str) -> list[str]:
    """All words for a colour of a thing; "bright red" counts by its last word."""
    return sorted({phrase.split()[-1] for phrase in COLOUR_WORDS.get(colour, colour).split("|")})


def noun(rng: Random, group: Group, habit: Habit) -> str:
    fitting = []
    looks = {group.things[0].pose} | {group.things[0].colour if _one_colour(group) else ""}
    for pair in NOUNS[group.kind].split():
        needed = ONLY_IF.get(pair.split("/")[0].replace("_", " "))
        if needed is None or needed in looks or not needed:
            fitting.append(pair)
    rare = habit.rare * min(1.0, (len(fitting) - 1) / 3)  # more probable with more alternatives
    pair = rng.choice(fitting[1:]) if rng.random() < rare else fitting[0]
    return pair.split("/")[group.plural].replace("_", " ")


def _one_colour(group: Group) -> bool:
    return len({thing.colour for thing in group.things}) == 1


def _size_word(rng: Random, group: Group) -> str | None:
    """Small or large, by the group's size in the picture relative to its kind's usual size."""
    usual = KINDS[group.kind].tall * 0.85
    looks = [thing.tall / usual for thing in group.things]
    if max(looks) < 0.8:
        return pick(rng, SMALL)
    return pick(rng, LARGE) if min(looks) > 1.12 else None


def _colour_word(rng: Random, thing: Thing, habit: Habit) -> str:
    word = pick(rng, COLOUR_WORDS.get(thing.colour, thing.colour))
    if word == "silver" and thing.kind not in ("car", "plane"):
        word = "gray"
    if thing.kind == "cat" and thing.colour == "orange" and rng.random() < 0.3:
        return "ginger"
    if thing.colour in ("blue", "green", "brown", "grey") and word == thing.colour and rng.random() < 0.5:
        if thing.shade > 0.45:
            return f"light {word}"
        if thing.shade < -0.45:
            return f"dark {word}"
    return word


def describe(rng: Random, group: Group, habit: Habit, the: bool = False) -> str:
    """A noun phrase: "two small brown dogs", "a kite", "the red car"."""
    words = []
    size = _size_word(rng, group) if rng.random() < habit.size * 2 else None
    if size:
        words.append(size)
    elif rng.random() < habit.opinion:
        words.append(pick(rng, OPINIONS[group.kind]))
    if _one_colour(group) and rng.random() < habit.colour:
        striped = group.things[0].pose == "striped" and rng.random() < 0.3
        words.append(_colour_word(rng, group.things[0], habit) + (" striped" if striped else ""))
    name = noun(rng, group, habit)
    words.append(name)
    if the:
        number = [_number(group)] if group.plural and rng.random() < 0.5 else []
        return " ".join(["the", *number, *words])
    if not group.plural:
        return with_article(" ".join(words))
    phrase = " ".join([pick(rng, COUNTS[len(group.things)]), *words])
    if len(group.things) == 2 and not _one_colour(group) and rng.random() < habit.colour * 0.6:
        one, two = (_colour_word(rng, thing, habit) for thing in group.things)
        if one != two:
            return f"{with_article(one)} and {with_article(two)} {_singular(group, name)}"
    return phrase


def _singular(group: Group, plural: str) -> str:
    for pair in NOUNS[group.kind].split():
        one, many = pair.replace("_", " ").split("/")
        if many == plural:
            return one
    return plural


def _number(group: Group) -> str:
    return {1: "one", 2: "two", 3: "three"}[len(group.things)]


def verb(rng: Random, group: Group, setting: str) -> str:
    thing = group.things[0]
    if thing.pose == "graze" and setting not in GRASSY:
        return rng.choice(("=looking down", "stand"))
    for key in (f"{thing.kind} {thing.pose}", f"{thing.kind} {thing.zone}", thing.kind):
        if key in VERBS:
            return rng.choice(VERBS[key].split()).replace("_", " ")
    raise KeyError(f"no verb for a {thing.kind} ({thing.pose}, {thing.zone})")


def participle(word: str) -> str:
    """running, parked"""
    if word.startswith("="):
        return word[1:]
    if word in DOUBLED:
        return word + word[-1] + "ing"
    if word == "lie":
        return "lying"
    return (word[:-1] if word.endswith("e") else word) + "ing"


def progressive(word: str, plural: bool) -> str:
    """is running, are parked"""
    return ("are " if plural else "is ") + participle(word)


def present(word: str, plural: bool) -> str:
    """runs, run, is parked"""
    if word.startswith("="):
        return ("are " if plural else "is ") + word[1:]
    if plural:
        return word
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("sh", "ss", "ch")) else "s")


def detail(rng: Random, group: Group) -> str:
    """A part of a single thing that anybody can see: "with a long tail"; often empty."""
    thing = group.things[0]
    found = DETAILS.get(f"{thing.kind} {thing.pose}", DETAILS.get(thing.kind))
    return pick(rng, found) if found and not group.plural else ""


def depth(rng: Random, picture: Picture, group: Group) -> str:
    """"in the foreground" or "in the distance" when everything in the group is there; else empty."""
    if group.things[0].zone == "air":
        return ""
    feet = [box[3] / group.size for box in group.boxes]
    if min(feet) > 0.86:
        return pick(rng, NEAR_US)
    far = max(feet) < picture.scene.backdrop.horizon + 0.17 and picture.scene.backdrop.setting != "room"
    return pick(rng, FAR_OFF) if far else ""


def place(rng: Random, picture: Picture, group: Group, doing: str | None) -> str:
    """Where the group is: "on the beach", or with a verb of motion "along the beach"."""
    zone = group.things[0].zone
    if zone == "land" and doing in MOVING:
        zone = "move"
    places = PLACES[f"{picture.scene.backdrop.setting} {zone}"].split("|")
    if any(thing.on is not None for thing in group.things):  # what sits on a chair is not on the ground
        places = [words for words in places if not re.match("on |in .*(grass|sand|snow)", words)]
    return rng.choice(places)
