"""Metrics on annotated objects: CHAIR, pointing, statements of colour.

CHAIR: Rohrbach et al. 2018, "Object Hallucination in Image Captioning", section 3: the share of mentioned things that
are not in the picture, per mention (CHAIR_i) and the share of captions with at least one such mention (CHAIR_s).
What is in the images is told by `annotations.Annotations`. Phrases of the kind "" name no object: "train track" is no
train.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from showtell.core.errors import UserError

NOTHING = ""  # the kind of phrases that name no object
# "The seat of the toilet" is no chair, as in the published program.
SEATS, TOILETS = {"seat", "seats"}, {"toilet", "toilets"}


class Mention(NamedTuple):
    """A thing named in a caption: its kind, the first and last word of the phrase, and whether that is a plural."""

    kind: str
    first: int
    last: int
    plural: bool = False


class Names:
    """Finds the objects that captions mention, by the longest matching phrase; plurals are listed in the table."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self.kinds = [kind for kind in names if kind != NOTHING]
        self._phrases: dict[tuple[str, ...], str] = {}
        for kind, phrases in names.items():
            for phrase in phrases:
                words = tuple(phrase.lower().split())
                if not words:
                    raise UserError(f"objects.json: names: {kind!r} has an empty phrase")
                if self._phrases.setdefault(words, kind) != kind:
                    raise UserError(f"objects.json: names: {phrase!r} means both {self._phrases[words]!r} and {kind!r}")
        longest: dict[str, int] = {}
        for words in self._phrases:
            longest[words[0]] = max(longest.get(words[0], 0), len(words))
        self._longest = longest
        self._plurals = {words for words, kind in self._phrases.items() if self._is_plural(words, kind)}

    def _is_plural(self, words: tuple[str, ...], kind: str) -> bool:
        """Whether the table has the phrase's singular as well, by English spelling."""
        *before, last = words
        singulars = (last.removesuffix("s"), last.removesuffix("es"), f"{last.removesuffix('ies')}y")
        return any(last != one and self._phrases.get((*before, one)) == kind for one in singulars)

    def mentions(self, words: Sequence[str]) -> list[Mention]:
        """Every mention in order, none overlapping; "hot dog" is one mention and never also a dog."""
        words = [word.lower() for word in words]
        found: list[Mention] = []
        place = 0
        while place < len(words):
            for length in range(min(self._longest.get(words[place], 0), len(words) - place), 0, -1):
                phrase = tuple(words[place : place + length])
                kind = self._phrases.get(phrase)
                if kind is not None:
                    if kind != NOTHING:
                        found.append(Mention(kind, place, place + length - 1, phrase in self._plurals))
                    place += length
                    break
            else:
                place += 1
        if TOILETS.isdisjoint(words):
            return found
        return [mention for mention in found if mention.first < mention.last or words[mention.last] not in SEATS]


class ChairCounts(NamedTuple):
    """The counts of one caption: mentions, those of absent objects, kinds present, and those of them mentioned."""

    mentions: int
    absent: int
    present: int
    recalled: int


def chair_counts(found: Sequence[Mention], truth: set[str]) -> ChairCounts:
    """The counts of a caption's mentions `found` against the kinds in its picture, `truth`."""
    absent = sum(mention.kind not in truth for mention in found)
    return ChairCounts(len(found), absent, len(truth), len(truth & {mention.kind for mention in found}))


def kinds(objects: Sequence[Mapping[str, Any]]) -> set[str]:
    """The kinds present among an image's objects."""
    return {item["kind"] for item in objects}


class Pointing(NamedTuple):
    """Mentions with attention, how many of them hit, and how many a random cell would hit on average."""

    mentions: int
    hits: int
    chance: float  # expected number of hits of uniformly random cells


def pointing(
    mentions: Sequence[Mention],
    attention: np.ndarray,
    grid: tuple[int, int],
    objects: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    shift: float = 0.0,
) -> Pointing:
    """How often the attention's maximum lies inside the box of the mentioned object.

    `attention` (step, cell), step = word of the caption, cells row by row over `grid` (rows, columns); `size` is the
    (width, height) of what the encoder sees, in the pixels of the boxes (`known_objects.in_view`). It is stretched to
    a square, so cells are mapped back by scaling; the centre of a cell's receptive field is offset from its middle by
    `shift`, right and down, a fraction of the image. A mention hits if the centre of its best cell, at the
    phrase's last word, lies inside any box of that kind; a mention of a kind that is absent is a miss.
    """
    rows, columns = grid
    x = ((np.arange(columns) + 0.5) / columns + shift) * size[0]  # (column)
    y = ((np.arange(rows) + 0.5) / rows + shift) * size[1]  # (row)
    hits, chance, counted = 0, 0.0, 0
    for mention in mentions:
        if mention.last >= len(attention):
            continue  # the caption was cut before this word
        inside = np.zeros((rows, columns), bool)
        for item in objects:
            if item["kind"] == mention.kind:
                left, top, right, bottom = item["box"]
                inside |= ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None, :]
        counted += 1
        hits += int(inside.flat[int(np.argmax(attention[mention.last]))])
        chance += float(inside.mean())
    return Pointing(counted, hits, chance)
