"""The choices of one caption of one picture: which groups it mentions, and the phrases for them."""

from random import Random

from showtell.data.datasets.scenes.phrases import (
    Group,
    Habit,
    depth,
    describe,
    detail,
    participle,
    pick,
    place,
    present,
    progressive,
    spoken_groups,
    verb,
)
from showtell.data.datasets.scenes.places import CLEAR, CLOUDY, FEATURES, TIMES
from showtell.data.datasets.scenes.relations import relation
from showtell.data.datasets.scenes.structure import Picture
from showtell.data.datasets.scenes.wording import ALONE, RELATIONS, STILL, TOGETHER


class Speaker:
    """`groups` are those that the caption mentions, the most prominent mostly first."""

    def __init__(self, rng: Random, picture: Picture, habit: Habit) -> None:
        self.rng, self.picture, self.habit = rng, picture, habit
        groups = spoken_groups(picture)
        striking = {group: max((b[2] - b[0]) * (b[3] - b[1]) for b in group.boxes) * rng.uniform(0.3, 1.7)
                    for group in groups}  # fmt: skip
        groups.sort(key=lambda group: -striking[group])
        self.all_seen = len(groups) == 1
        self.groups = groups[: 1 + sum(rng.random() < habit.others for _ in groups[1:])]
        self.the = self.chance(habit.the)
        self.detailed = False

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def name(self, group: Group) -> str:
        """A noun phrase, now and then with a part of the thing."""
        words = describe(self.rng, group, self.habit, the=self.the)
        more = detail(self.rng, group) if not self.detailed and self.chance(self.habit.detail) else ""
        self.detailed = self.detailed or bool(more)
        return f"{words} {more}".strip()

    def short_name(self, group: Group) -> str:
        """A noun phrase and nothing after it."""
        return describe(self.rng, group, self.habit, the=self.the)

    def listed(self) -> str:
        """a dog, two balls and a kite"""
        named = [self.short_name(group) for group in self.groups]
        return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"

    def verb(self, group: Group) -> str:
        return verb(self.rng, group, self.picture.scene.backdrop.setting)

    def place(self, group: Group, doing: str | None = None, bare: bool = False) -> str:
        """Where; unless `bare`, now and then "in the distance", or how its members are arranged."""
        words = ""
        if bare:
            pass
        elif self.chance(self.habit.depth):
            words = depth(self.rng, self.picture, group)
        elif self.all_seen and not group.plural and self.chance(0.12):
            words = pick(self.rng, ALONE)
        elif group.plural and self.chance(0.25) and self.side_by_side(group):
            words = pick(self.rng, TOGETHER)
        return f"{words} {place(self.rng, self.picture, group, doing)}".strip()

    def side_by_side(self, group: Group) -> bool:
        """Whether every member has another one beside it."""
        return all(
            any(relation(self.picture, [one], [other]) == "beside" for other in group.indices if other != one)
            for one in group.indices
        )

    def doing(self, group: Group) -> str:
        """ "running along the beach", "parked", or just a place."""
        word = self.verb(group) if self.chance(self.habit.verb) else None
        words = [participle(word)] if word else []
        if self.chance(self.habit.place) or not words:
            words.append(self.place(group, word))
        return " ".join(words)

    def acts(self, group: Group, word: str) -> str:
        """runs, is running"""
        return progressive(word, group.plural) if self.chance(0.6) else present(word, group.plural)

    def clause(self, group: Group, after: Group | None = None) -> str:
        """a dog is running; said after another group it says where, too, unless both are in the same place."""
        word = self.verb(group)
        said = f"{self.short_name(group)} {self.acts(group, word)}"
        elsewhere = after is not None and after.things[0].zone != group.things[0].zone
        if after is not None and (word in STILL or (elsewhere and self.chance(0.5))):
            words = self.relation(group, after)
            where = f"{words} {'them' if after.plural else 'it'}" if words else self.place(group, word)
            return f"{said} {where}"
        return said

    def relation(self, one: Group, two: Group) -> str | None:
        """ "next to", "behind", ..., or None when nothing simple is true."""
        found = relation(self.picture, list(one.indices), list(two.indices))
        return pick(self.rng, RELATIONS[found]) if found in RELATIONS else None

    def related(self) -> tuple[Group, str, Group] | None:
        """Two of the groups and how the first lies to the second."""
        pairs = [(one, two) for one in self.groups for two in self.groups if one is not two]
        self.rng.shuffle(pairs)
        for one, two in pairs:
            words = self.relation(one, two)
            if words:
                return one, words, two
        return None

    def ending(self, said: str) -> str:
        """Time, weather or background, now and then."""
        drop, rng = self.picture.scene.backdrop, self.rng
        if "with" in said.split() and self.chance(0.7):
            return ""
        if drop.feature in FEATURES and self.chance(self.habit.behind):
            return pick(rng, FEATURES[drop.feature])
        told = any(word in said.split() for word in ("night", "dark", "day", "sky", "lights"))
        if drop.setting == "room" or told or not self.chance(self.habit.when):
            return ""
        if drop.time == "day" and drop.setting != "forest" and self.chance(0.7):
            return pick(rng, CLOUDY if drop.clouds else CLEAR)
        return pick(rng, TIMES[drop.time])
