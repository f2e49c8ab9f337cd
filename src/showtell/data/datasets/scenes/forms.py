"""Sentence forms. Each takes a speaker and returns a caption, in lower case without a full stop.

Their docstrings are example captions.
"""

from collections.abc import Callable
from dataclasses import replace

from showtell.data.datasets.scenes.phrases import participle, pick, present
from showtell.data.datasets.scenes.places import OPENINGS, SCENERY, SEEN, SEEN_MANY, THERE, VIEW_FEATURES
from showtell.data.datasets.scenes.speaker import Speaker


def plain(s: Speaker) -> str:
    """a brown dog sitting next to a red ball on the beach"""
    pair = s.related()
    if pair is None or s.chance(0.25):
        return enumerate_groups(s)
    one, words, two = pair
    doing = f" {participle(s.verb(one))}" if s.chance(s.habit.verb) else ""
    where = f" {s.place(two)}" if s.chance(s.habit.place * 0.6) and not words.startswith("on") else ""
    return f"{s.short_name(one)}{doing} {words} {s.name(two)}{where}"


def enumerate_groups(s: Speaker) -> str:
    """a dog, two balls and a kite on the beach"""
    if len(s.groups) == 1:
        return f"{s.name(s.groups[0])} {s.doing(s.groups[0])}"
    zones = {group.things[0].zone for group in s.groups}
    if len(zones) == 1 and s.chance(s.habit.place):
        return f"{s.listed()} {s.place(s.groups[0], bare=True)}"
    if s.chance(s.habit.verb):
        return f"{s.listed()} {s.doing(s.groups[-1])}"
    return s.listed()


def with_other(s: Speaker) -> str:
    """a dog on the beach with a ball beside it"""
    first = s.groups[0]
    said = f"{s.short_name(first)} {s.doing(first)}"
    if len(s.groups) == 1:
        return said
    other = s.groups[1]
    words = s.relation(other, first)
    if words:
        return f"{said} with {s.short_name(other)} {words} {'them' if first.plural else 'it'}"
    return f"{said} with {s.short_name(other)} {s.doing(other)}"


def sentence(s: Speaker) -> str:
    """a dog is running on the beach"""
    pair, first = s.related(), s.groups[0]
    if pair and s.chance(0.6):
        one, words, two = pair
        doing = s.acts(one, s.verb(one)) if s.chance(0.7) else ("are" if one.plural else "is")
        return f"{s.short_name(one)} {doing} {words} {s.short_name(two)}"
    word = s.verb(first)
    said = f"{s.short_name(first)} {s.acts(first, word)} {s.place(first, word)}"
    if len(s.groups) > 1:
        said += f" with {s.short_name(s.groups[1])}" if s.chance(0.4) else f" and {s.clause(s.groups[1], first)}"
    return said


def there(s: Speaker) -> str:
    """there is a dog behind the ball"""
    s.the = False
    said = with_other(s) if s.chance(0.5) or len(s.groups) > 2 else enumerate_groups(s)
    return f"{pick(s.rng, THERE).format(be='are' if s.groups[0].plural else 'is')} {said}"


def seen(s: Speaker) -> str:
    """a dog can be seen in the park"""
    first = s.groups[0]
    said = f"{s.short_name(first)} {pick(s.rng, SEEN_MANY if first.plural else SEEN)} {s.place(first)}"
    if len(s.groups) > 1 and s.chance(0.7):
        words = s.relation(s.groups[1], first)
        said += f" with {s.short_name(s.groups[1])}"
        said += f" {words} {'them' if first.plural else 'it'}" if words else ""
    return said


def scenery(s: Speaker) -> str:
    """a sandy beach with a dog and a ball"""
    s.the = False
    view = pick(s.rng, SCENERY[s.picture.scene.backdrop.setting])
    feature = s.picture.scene.backdrop.feature
    if feature in VIEW_FEATURES and len(s.groups) == 1 and s.chance(0.4):
        return f"{s.short_name(s.groups[0])} in {view} {pick(s.rng, VIEW_FEATURES[feature])}"
    return f"{view} with {s.listed()}"


def holds(s: Speaker) -> str:
    """some grass, a dog and a kite in the sky"""
    s.the = False
    last = s.groups[-1]
    if len(s.groups) == 1:
        return f"{s.name(last)} {s.place(last)}"
    return f"{s.listed()} {s.doing(last)}"


def front(s: Speaker) -> str:
    """on the beach a dog sits next to a ball"""
    first = s.groups[0]
    word = s.verb(first)
    said = s.place(first, word, bare=True) + ("," if s.chance(0.4) else "")
    said += f" {s.short_name(first)} {present(word, first.plural)}"
    if len(s.groups) > 1:
        words = s.relation(first, s.groups[1])
        said += f" {words} {s.short_name(s.groups[1])}" if words else f" and {s.clause(s.groups[1], first)}"
    return said


def while_other(s: Speaker) -> str:
    """a kite flies in the sky while a dog runs"""
    if len(s.groups) == 1:
        return sentence(s)
    one, two = s.groups[:2]
    return f"{s.clause(one)} {s.place(one)} {s.rng.choice(('while', 'as', 'and'))} {s.clause(two, one)}"


def opening(s: Speaker) -> str:
    """a picture of a dog and a ball"""
    s.the = False
    return f"{pick(s.rng, OPENINGS)} {enumerate_groups(s) if s.chance(0.6) else plain(s)}"


def colour(s: Speaker) -> str:
    """the dog on the beach is brown"""
    first = s.groups[0]
    colours = {thing.colour for thing in first.things}
    if len(colours) > 1:
        return plain(s)
    s.the = True
    s.habit = replace(s.habit, colour=0)
    said = f"{s.short_name(first)} {s.place(first)} {'are' if first.plural else 'is'} {colours.pop()}"
    return said + (f" and {s.clause(s.groups[1], first)}" if len(s.groups) > 1 and s.chance(0.6) else "")


def two_parts(s: Speaker) -> str:
    """the dog is sitting, the ball is behind it"""
    if len(s.groups) == 1:
        return sentence(s)
    first, other = s.groups[:2]
    words = s.relation(other, first)
    if words is None:
        return f"{s.clause(first)}, {s.clause(other)} {s.place(other)}"
    it = "them" if first.plural else "it"
    return f"{s.clause(first)} and {s.short_name(other)} {'are' if other.plural else 'is'} {words} {it}"


FORMS: dict[str, Callable[[Speaker], str]] = {
    "plain": plain, "list": enumerate_groups, "with": with_other, "sentence": sentence, "there": there, "seen": seen,
    "scenery": scenery, "holds": holds, "front": front, "while": while_other, "opening": opening, "colour": colour,
    "two": two_parts,
}  # fmt: skip
