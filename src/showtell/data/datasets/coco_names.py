"""Names of COCO's 80 kinds of objects: the words and phrases that count as a mention, singular and plural.

`coco_synonyms.txt` beside this module is in the format of the published list of CHAIR (Rohrbach et al., "Object
Hallucination in Image Captioning", 2018, section 3): a line for each kind, which comes first, then its synonyms,
commas between them. It is this package's own list; words with several meanings (`glass`, `board`) are left out, since a
mention must be safe to compare with the image. A file `synonyms.txt` beside COCO's annotations replaces it.

With either list the special cases of the published program hold: pairs of words that are one thing or none.
"""

from collections.abc import Iterable
from pathlib import Path

from showtell.core.errors import UserError

SYNONYMS = Path(__file__).with_name("coco_synonyms.txt")

PLURALS: dict[str, str] = {
    "person": "people", "human": "humans", "goose": "geese", "sheep": "sheep", "cattle": "cattle", "calf": "calves",
    "ox": "oxen",
    "aircraft": "aircraft", "knife": "knives", "luggage": "luggage", "broccoli": "broccoli",
    "computer mouse": "computer mice",
    "mouse": "mice",
    "pair of scissors": "pairs of scissors", "scissors": "scissors",
    "skis": "skis",
}  # fmt: skip


NOTHING = ""  # in objects.json the kind of phrases that name no object

# Pairs with the meaning of their second word alone: a baby elephant is no person, nor is a passenger train.
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
QUALIFIED = [
    *(f"{age} {animal}" for age in ("baby", "adult") for animal in _ANIMALS),
    "passenger jet", "passenger train", "bow tie",
]  # fmt: skip
# Pairs that are none of their words: what the list says of them, else nothing.
PAIRS = (
    "motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light",
    "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove",
    "tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier", "potted plant",
    "laptop computer", "home plate", "train track",
)  # fmt: skip

# Mostly a colour in the singular.
AMBIGUOUS = {"orange"}


def plural(name: str) -> str:
    """The plural of an English word or phrase: `bus` is `buses`, `lady` is `ladies`."""
    if name in PLURALS:
        return PLURALS[name]
    if name.endswith("man"):  # gentleman, serviceman
        return f"{name[:-3]}men"
    if name.endswith("child"):
        return f"{name}ren"
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"


def _special_cases(meant: dict[str, str]) -> None:
    """Give the pairs of the published program their kinds in `meant`, {phrase: kind}, singular and plural."""
    for pair in QUALIFIED:
        first, second = pair.split()
        for word in (second, plural(second)):
            meant[f"{first} {word}"] = meant.get(second, NOTHING)
    for word in ("seat", "seats"):
        meant[f"toilet {word}"] = meant.get("toilet", NOTHING)
    for pair in PAIRS:
        for phrase in (pair, plural(pair)):
            meant.setdefault(phrase, NOTHING)


def read_synonyms(path: Path, kinds: Iterable[str]) -> dict[str, list[str]]:
    """{kind: phrases} of a list of synonyms, in lower case, with their plurals; kinds without a line have their name
    only. Phrases of the kind "" name no object.

    A phrase of two kinds belongs to the later line, as the published program has it. `UserError` for a line without
    any of `kinds`.
    """
    known = list(kinds)
    meant: dict[str, str] = {kind: kind for kind in known}
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
    _special_cases(meant)
    names = {kind: sorted(phrase for phrase, of in meant.items() if of == kind) for kind in (*known, NOTHING)}
    return {kind: [name for name in phrases if name not in AMBIGUOUS] or [kind] for kind, phrases in names.items()}
