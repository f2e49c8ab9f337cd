"""Five people describe one picture, each in their own way. What they say is true; what they leave out differs."""

from collections.abc import Callable
from random import Random

from showtell.datasets.scenes.phrases import (
    Group,
    Habit,
    describe,
    participle,
    pick,
    place,
    present,
    progressive,
    spoken_groups,
    verb,
)
from showtell.datasets.scenes.relations import relation
from showtell.datasets.scenes.scene import Picture
from showtell.datasets.scenes.wording import CLEAR, CLOUDY, FEATURES, OPENINGS, RELATIONS, SCENERY, TIMES

CAPTIONS = 5
PEOPLE: tuple[Habit, ...] = (
    Habit(colour=0.85, size=0.35, place=0.8, when=0.3, behind=0.15, others=0.95, rare=0.2, forms="plain plain with"),
    Habit(colour=0.5, size=0.1, place=0.35, when=0.05, others=0.6, rare=0.15, verb=0.3, forms="plain list"),
    Habit(colour=0.75, size=0.2, place=0.7, when=0.1, others=0.85, rare=0.3, verb=0.8, forms="sentence there"),
    Habit(colour=0.6, size=0.3, place=0.5, when=0.25, behind=0.3, others=0.8, rare=0.5, forms="scenery plain with"),
    Habit(colour=0.35, size=0.15, place=0.7, when=0.35, others=0.7, rare=0.6, the=0.5, verb=0.9, forms="sentence front"),
    Habit(colour=0.8, size=0.5, place=0.6, when=0.15, others=0.9, rare=0.7, verb=0.7, forms="plain while list"),
    Habit(colour=0.65, size=0.1, place=0.45, when=0.15, behind=0.1, others=0.9, rare=0.35, forms="there with opening"),
    Habit(colour=0.55, size=0.25, place=0.9, when=0.5, behind=0.2, others=0.75, rare=0.4, verb=0.8, forms="front while scenery"),
)  # fmt: skip


class Speaker:
    """One person in front of one picture."""

    def __init__(self, rng: Random, picture: Picture, habit: Habit) -> None:
        self.rng, self.picture, self.habit = rng, picture, habit
        groups = spoken_groups(picture)
        rng.shuffle(groups)
        groups.sort(key=lambda group: -max((b[2] - b[0]) * (b[3] - b[1]) for b in group.boxes) * rng.uniform(0.4, 1.6))
        keep = 1 + sum(rng.random() < habit.others for _ in groups[1:])
        self.groups = groups[:keep]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def name(self, group: Group) -> str:
        return describe(self.rng, group, self.habit, the=self.chance(self.habit.the))

    def place(self, group: Group, doing: str | None = None) -> str:
        return place(self.rng, self.picture, group, doing)

    def doing(self, group: Group) -> str:
        """"running along the beach", "parked", or just a place."""
        verb_word = verb(self.rng, group) if self.chance(self.habit.verb) else None
        words = [participle(verb_word)] if verb_word else []
        if self.chance(self.habit.place) or not words:
            words.append(self.place(group, verb_word))
        return " ".join(words)

    def relation(self, one: Group, two: Group) -> str | None:
        """"next to", "behind", ..., or None when nothing simple is true."""
        found = relation(self.picture, list(one.indices), list(two.indices))
        return pick(self.rng, RELATIONS[found]) if found in RELATIONS else None

    def ending(self, said: str) -> str:
        """Time, weather or background, now and then."""
        drop, rng = self.picture.scene.backdrop, self.rng
        if drop.feature in FEATURES and self.chance(self.habit.behind):
            return pick(rng, FEATURES[drop.feature])
        if drop.setting == "room" or not self.chance(self.habit.when) or "night" in said or "day" in said:
            return ""
        if drop.time == "day":
            return pick(rng, CLOUDY if drop.clouds else CLEAR) if self.chance(0.7) else pick(rng, TIMES["day"])
        return pick(rng, TIMES[drop.time])

    def related(self) -> tuple[Group, str, Group] | None:
        """Two groups and how the first lies to the second."""
        pairs = [(one, two) for one in self.groups for two in self.groups if one is not two]
        self.rng.shuffle(pairs)
        for one, two in pairs:
            words = self.relation(one, two)
            if words:
                return one, words, two
        return None


def plain(s: Speaker) -> str:
    """a brown dog sitting next to a red ball on the beach"""
    pair = s.related()
    if pair is None or s.chance(0.25):
        return enumerate_groups(s)
    one, words, two = pair
    doing = f" {participle(verb(s.rng, one))}" if s.chance(s.habit.verb) else ""
    where = f" {s.place(two)}" if s.chance(s.habit.place * 0.7) and words != "on" else ""
    return f"{s.name(one)}{doing} {words} {s.name(two)}{where}"


def enumerate_groups(s: Speaker) -> str:
    """a dog, two balls and a kite on the beach"""
    named = [s.name(group) for group in s.groups]
    if len(named) == 1:
        return f"{named[0]} {s.doing(s.groups[0])}"
    joined = f"{', '.join(named[:-1])} and {named[-1]}"
    zones = {group.things[0].zone for group in s.groups}
    if len(zones) == 1 and s.chance(s.habit.place):
        joined += f" {s.place(s.groups[0])}"
    elif s.chance(s.habit.verb):
        joined += f" {s.doing(s.groups[-1])}"
    return joined


def with_other(s: Speaker) -> str:
    """a dog on the beach with a ball beside it"""
    first = s.groups[0]
    said = f"{s.name(first)} {s.doing(first)}"
    if len(s.groups) == 1:
        return said
    other = s.groups[1]
    words = s.relation(other, first)
    if words:
        return f"{said} with {s.name(other)} {words} {'them' if first.plural else 'it'}"
    return f"{said} with {s.name(other)} {s.doing(other)}"


def sentence(s: Speaker) -> str:
    """a dog is running on the beach / a dog runs behind a ball"""
    pair, first = s.related(), s.groups[0]
    if pair and s.chance(0.6):
        one, words, two = pair
        word = verb(s.rng, one)
        doing = progressive(word, one.plural) if s.chance(0.7) else present(word, one.plural)
        if s.chance(0.3):
            doing = "are" if one.plural else "is"
        return f"{s.name(one)} {doing} {words} {s.name(two)}"
    word = verb(s.rng, first)
    doing = progressive(word, first.plural) if s.chance(0.6) else present(word, first.plural)
    said = f"{s.name(first)} {doing} {s.place(first, word)}"
    if len(s.groups) > 1:
        said += f" with {s.name(s.groups[1])}" if s.chance(0.4) else f" and {clause(s, s.groups[1])}"
    return said


def clause(s: Speaker, group: Group) -> str:
    word = verb(s.rng, group)
    return f"{s.name(group)} {progressive(word, group.plural) if s.chance(0.6) else present(word, group.plural)}"


def there(s: Speaker) -> str:
    """there is a dog behind the ball"""
    return f"there {'are' if s.groups[0].plural else 'is'} {with_other(s) if s.chance(0.5) else enumerate_groups(s)}"


def scenery(s: Speaker) -> str:
    """a sandy beach with a dog and a ball"""
    named = [s.name(group) for group in s.groups]
    joined = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{pick(s.rng, SCENERY[s.picture.scene.backdrop.setting])} with {joined}"


def front(s: Speaker) -> str:
    """on the beach a dog sits next to a ball"""
    first = s.groups[0]
    word = verb(s.rng, first)
    said = f"{s.place(first)} {s.name(first)} {present(word, first.plural)}"
    if len(s.groups) > 1:
        words = s.relation(first, s.groups[1])
        said += f" {words} {s.name(s.groups[1])}" if words else f" and {clause(s, s.groups[1])}"
    return said


def while_other(s: Speaker) -> str:
    """a kite flies in the sky while a dog runs"""
    if len(s.groups) == 1:
        return sentence(s)
    one, two = s.groups[:2]
    return f"{clause(s, one)} {s.place(one)} {s.rng.choice(('while', 'as', 'and'))} {clause(s, two)}"


def opening(s: Speaker) -> str:
    """a picture of a dog and a ball"""
    return f"{pick(s.rng, OPENINGS)} {enumerate_groups(s) if s.chance(0.6) else plain(s)}"


FORMS: dict[str, Callable[[Speaker], str]] = {
    "plain": plain, "list": enumerate_groups, "with": with_other, "sentence": sentence, "there": there,
    "scenery": scenery, "front": front, "while": while_other, "opening": opening,
}  # fmt: skip


def captions(picture: Picture, rng: Random) -> list[str]:
    """Five different captions as people write them: a capital letter, mostly a full stop."""
    found: list[str] = []
    for habit in rng.sample(PEOPLE, CAPTIONS):
        while True:
            speaker = Speaker(rng, picture, habit)
            said = FORMS[rng.choice(habit.forms.split())](speaker)
            said = f"{said} {speaker.ending(said)}".strip()
            if said not in found and 4 <= len(said.split()) <= 18:
                break
        found.append(said)
    return [said[0].upper() + said[1:] + ("." if rng.random() < 0.7 else "") for said in found]


