"""Names of COCO's 80 kinds of objects: the words and phrases that count as a mention, singular and plural.

`coco_synonyms.txt` beside this module is in the format of the published list of CHAIR (Rohrbach et al., "Object
Hallucination in Image Captioning", 2018, section 3): a line for each kind, which comes first, then its synonyms,
commas between them. It is this package's own list; words with several meanings (`glass`, `board`) are left out, since a
mention must be safe to compare with the image. A file `synonyms.txt` beside COCO's annotations replaces it.
"""

from collections.abc import Iterable
from pathlib import Path

from showtell.core.errors import UserError

SYNONYMS = Path(__file__).with_name("coco_synonyms.txt")

PLURALS: dict[str, str] = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "policeman": "policemen",
    "fireman": "firemen", "goose": "geese", "sheep": "sheep", "cattle": "cattle", "calf": "calves", "ox": "oxen",
    "aircraft": "aircraft", "knife": "knives", "luggage": "luggage", "broccoli": "broccoli",
    "computer mouse": "computer mice",
    "mouse": "mice",
    "pair of scissors": "pairs of scissors", "scissors": "scissors",
    "skis": "skis",
}  # fmt: skip


# Mostly a colour in the singular.
AMBIGUOUS = {"orange"}


def plural(name: str) -> str:
    """The plural of an English word or phrase: `bus` is `buses`, `lady` is `ladies`."""
    if name in PLURALS:
        return PLURALS[name]
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def read_synonyms(path: Path, kinds: Iterable[str]) -> dict[str, list[str]]:
    """{kind: phrases} of a list of synonyms, in lower case, with their plurals; kinds without a line have their name
    only.

    A phrase of two kinds belongs to the later line, as the published program has it. `UserError` for a line without
    any of `kinds`.
    """
    known = list(kinds)
    meant: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        phrases = [" ".join(phrase.lower().split()) for phrase in line.split(",")]
        phrases = [phrase for phrase in phrases if phrase]
        if not phrases:
            continue
        kind = next((phrase for phrase in phrases if phrase in known), None)
        # in this package's list some lines are unused where the annotations have fewer kinds
        if kind is None and path != SYNONYMS:
            raise UserError(f"{path}: line {number} ({line[:60]!r}) names none of the kinds of the annotations")
        if kind is None:
            continue
        meant.update(dict.fromkeys(sorted({*phrases, *map(plural, phrases)}), kind))
    names = {kind: sorted(phrase for phrase, of in meant.items() if of == kind) for kind in known}
    return {kind: [name for name in phrases if name not in AMBIGUOUS] or [kind] for kind, phrases in names.items()}
