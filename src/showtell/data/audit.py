"""Audit of images and captions, written to `metrics/data.json` before training."""

import array
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from showtell.data.transform import orientation
from showtell.data.vocabulary import Vocabulary


class Facts(NamedTuple):
    """Facts about one picture file."""

    file: str
    content: str  # hash of the file's bytes; "" when they could not be read
    problem: str  # "" or why it cannot be used: one of PROBLEMS
    reason: str
    traits: list[str]  # of TRAITS
    row: int  # CRC-32 of the resized pixels
    look: str = ""  # perceptual hash: `near_duplicates.py`; "" for an empty picture, and one that cannot be used


PROBLEMS = ("missing", "broken", "truncated", "oversized")
TRAITS = ("greyscale", "cmyk", "palette", "transparent", "rotated")
GREYSCALE_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def traits(image: Image.Image) -> list[str]:
    """Properties of this picture, as stored in the file, that the transform changes."""
    found = {
        "greyscale": image.mode in GREYSCALE_MODES,
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "transparent": image.has_transparency_data,
        "rotated": orientation(image) != 1,
    }
    return [name for name in TRAITS if found[name]]


def content_hash(content: bytes) -> str:
    """A hash of a file's content: 64 bits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


Table = dict[str, int | float]


def summarise(
    journals: Mapping[str, Iterable[Facts]],
    entries: Mapping[str, Iterable[dict[str, Any]]],
    vocabulary: Vocabulary,
) -> Table:
    """The audit as a flat table: pictures, duplicates, words and caption lengths per split, duplicates across.

    `journals` and `entries` have the same images of each split, and are read once. Captions of unusable images are left
    out.
    """
    table: Table = {}
    contents: dict[str, np.ndarray] = {}  # (distinct content) of each split
    for split, journal in journals.items():
        pictures, captions = _Pictures(), _Captions(vocabulary)
        for facts, entry in zip(journal, entries[split], strict=True):
            pictures.add(facts)
            if not facts.problem:
                captions.add(entry["words"])
        contents[split] = pictures.distinct()
        counted = pictures.table(len(contents[split])) | captions.table()
        table |= {f"{split}_{key}": value for key, value in counted.items()}
    splits = list(journals)
    for index, one in enumerate(splits):
        for other in splits[index + 1 :]:  # images in two splits are both trained and tested on
            table[f"duplicates_{one}_{other}"] = len(np.intersect1d(contents[one], contents[other], assume_unique=True))
    return table


class _Pictures:
    def __init__(self) -> None:
        self.problems: Counter[str] = Counter()
        self.traits: Counter[str] = Counter()
        self.contents = array.array("Q")  # hashes of all usable pictures

    def add(self, facts: Facts) -> None:
        self.problems[facts.problem] += 1
        self.traits.update(facts.traits)
        if not facts.problem:
            self.contents.append(int(facts.content, 16))

    def distinct(self) -> np.ndarray:
        return np.unique(np.array(self.contents, np.uint64))

    def table(self, distinct: int) -> Table:
        return {
            "images": self.problems[""],
            **{problem: self.problems[problem] for problem in PROBLEMS},
            **{trait: self.traits[trait] for trait in TRAITS},
            "duplicates": len(self.contents) - distinct,
        }


class _Captions:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.lengths: Counter[int] = Counter()
        self.distinct: set[str] = set()
        self.unknown = 0

    def add(self, captions: list[list[str]]) -> None:
        for words in captions:
            self.lengths[len(words)] += 1
            self.distinct.update(words)
            self.unknown += sum(word not in self.vocabulary for word in words)

    def table(self) -> Table:
        captions, words = self.lengths.total(), sum(length * count for length, count in self.lengths.items())
        return {
            "captions": captions,
            "words": words,
            "distinct_words": len(self.distinct),
            "unknown_words": self.unknown / words if words else 0.0,
            "caption_length_mean": words / captions if captions else 0.0,
            "caption_length_median": _median(self.lengths),
            "caption_length_max": max(self.lengths, default=0),
        }


def skipped(ids: Mapping[str, Sequence[str]], facts: Mapping[str, Iterable[Facts]]) -> list[dict[str, str]]:
    """The images that cannot be used, of every split: image_id, file, kind of problem and reason.

    `ids` and `facts` of a split are in the same order.
    """
    return [
        {"split": split, "image_id": image_id, "file": found.file, "problem": found.problem, "reason": found.reason}
        for split in ids
        for image_id, found in zip(ids[split], facts[split], strict=True)
        if found.problem
    ]


def _median(lengths: Counter[int]) -> int:
    """The median; the lower one of two."""
    seen, half = 0, (lengths.total() + 1) // 2
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= half:
            return length
    return 0
