"""What the pictures and captions are like, told before hours are spent on them: `metrics/data.json`."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from showtell.images import orientation
from showtell.vocabulary import Vocabulary


class Facts(NamedTuple):
    """One picture file. `problem` is "" or why it cannot be used; `row` names the resized pixels."""

    file: str
    content: str  # sha256 of the file's bytes, "" when it could not be read
    problem: str  # "", "missing", "broken", "truncated" or "oversized"
    reason: str
    traits: list[str]  # of TRAITS
    row: str


PROBLEMS = ("missing", "broken", "truncated", "oversized")
TRAITS = ("greyscale", "cmyk", "palette", "transparent", "rotated")
GREYSCALE_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def traits(image: Image.Image) -> list[str]:
    """What the transform has to even out in this picture, as the file stores it."""
    found = {
        "greyscale": image.mode in GREYSCALE_MODES,
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "transparent": image.has_transparency_data,
        "rotated": orientation(image) != 1,
    }
    return [name for name in TRAITS if found[name]]


def content_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def summarise(
    facts: dict[str, list[Facts]], entries: dict[str, list[dict[str, Any]]], vocabulary: Vocabulary
) -> dict[str, int | float]:
    """The audit as a flat table: pictures, duplicates, words and caption lengths, per split and over all."""
    table: dict[str, int | float] = {}
    for split, found in facts.items():
        kept = {f.file for f in found if not f.problem}
        table |= {f"{split}_{key}": value for key, value in _pictures(found).items()}
        usable = [entry for entry in entries[split] if entry["file"] in kept]
        table |= {f"{split}_{key}": value for key, value in _captions(usable, vocabulary).items()}
    return table | _duplicates(facts)


def _pictures(facts: Sequence[Facts]) -> dict[str, int]:
    problems = Counter(f.problem for f in facts)
    kinds = Counter(trait for f in facts for trait in f.traits)
    return {
        "images": problems[""],
        **{problem: problems[problem] for problem in PROBLEMS},
        **{trait: kinds[trait] for trait in TRAITS},
        "duplicates": _repeats(f.content for f in facts),
    }


def _repeats(contents: Iterable[str]) -> int:
    """Files beyond the first of each content."""
    return sum(count - 1 for content, count in Counter(contents).items() if content)


def _duplicates(facts: dict[str, list[Facts]]) -> dict[str, int]:
    """Contents that two splits share: what is learnt there is tested here."""
    contents = {split: {f.content for f in found if f.content} for split, found in facts.items()}
    splits = list(facts)
    pairs = [(a, b) for i, a in enumerate(splits) for b in splits[i + 1 :]]
    return {f"duplicates_{a}_{b}": len(contents[a] & contents[b]) for a, b in pairs}


def _captions(entries: Sequence[dict[str, Any]], vocabulary: Vocabulary) -> dict[str, int | float]:
    captions = [words for entry in entries for words in entry["words"]]
    words = Counter(word for caption in captions for word in caption)
    total, unknown = sum(words.values()), sum(n for word, n in words.items() if word not in vocabulary)
    lengths = np.array([len(caption) for caption in captions] or [0])
    return {
        "captions": len(captions),
        "words": total,
        "distinct_words": len(words),
        "unknown_words": unknown / total if total else 0.0,
        "caption_length_mean": float(lengths.mean()),
        "caption_length_median": float(np.median(lengths)),
        "caption_length_max": int(lengths.max()),
    }
