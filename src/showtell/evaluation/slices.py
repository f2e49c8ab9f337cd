"""Scores of slices of test, with intervals.

Document frequencies of CIDEr-D are those of the whole set, so that slices can be compared with it and each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from showtell.data.vocabulary import SPECIALS, Vocabulary
from showtell.evaluation.judge import Evaluation
from showtell.evaluation.views import View
from showtell.metrics.annotations import Annotations
from showtell.metrics.bootstrap import Measured, intervals

METRICS = ("cider", "bleu4", "chair_i", "captions_true")  # as far as they were computed
RARE = 30  # occurrences in the train captions below which a word is rare
FEWEST = 2  # fewest images of a slice: one has no interval
MANY = 4  # objects; images with so many or more are one slice
# Words that state a person's gender, after Hendricks et al. 2018, "Women also Snowboard"; with lists of our own.
_WOMEN = "woman women female females girl girls lady ladies mother sister daughter wife she her hers"
_MEN = "man men male males boy boys guy guys gentleman father brother son husband he his him"
WOMEN, MEN = frozenset(_WOMEN.split()), frozenset(_MEN.split())

Parts = Mapping[str, np.ndarray]  # bool (image), by the slice's name


def slice_rows(evaluation: Evaluation, vocabulary: Vocabulary, known: Annotations) -> list[dict[str, Any]]:
    """A row for each slice of the test images: `by`, `part`, `images`, and each metric with `_low` and `_high` (95%
    bootstrap interval over its images). Divisions with a single slice are left out."""
    words = View(evaluation.entries, lambda entry: entry["words"])  # read again for each division
    image_ids = [entry["image_id"] for entry in evaluation.entries]
    divisions: dict[str, Parts] = {
        "length of references": _by_length(words),
        "number of objects": _by_objects(image_ids, known),
        "rare words in references": _by_rarity(words, vocabulary),
        "gendered words in references": _by_gender(words),
    }
    measured = {key: evaluation.measured[key] for key in METRICS if key in evaluation.measured}
    rows = []
    for by, parts in divisions.items():
        there = {name: inside for name, inside in parts.items() if inside.sum() >= FEWEST}
        if len(there) > 1:
            rows += [{"by": by, "part": name, **_scores(measured, inside)} for name, inside in there.items()]
    return rows


def _scores(measured: Mapping[str, Measured], inside: np.ndarray) -> dict[str, float]:
    parts = {key: Measured(metric.statistics[inside], metric.value) for key, metric in measured.items()}
    found: dict[str, float] = {"images": int(inside.sum())}
    for key, (low, high) in intervals(parts).items():
        found |= {key: parts[key].score, f"{key}_low": low, f"{key}_high": high}
    return found


def _by_length(words: Sequence[Sequence[Sequence[str]]]) -> Parts:
    """Thirds of the images by the mean length of their references."""
    lengths = np.array([np.mean([len(caption) for caption in captions]) for captions in words])
    short, long = np.quantile(lengths, [1 / 3, 2 / 3])
    middle = (lengths > short) & (lengths <= long)
    return {
        f"short, to {short:.1f} words": lengths <= short,
        f"middle, to {long:.1f} words": middle,
        f"long, above {long:.1f} words": lengths > long,
    }


def _by_objects(image_ids: Sequence[Any], known: Annotations) -> Parts:
    if not known:
        return {}
    numbers = np.array([len(known.objects(image_id)) for image_id in image_ids])
    few = {str(number): numbers == number for number in range(MANY)}
    return {**few, f"{MANY} or more": numbers >= MANY}


def _by_rarity(words: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary) -> Parts:
    """Words out of the vocabulary count as rare; where it leaves out common ones too, the name of the part says so."""
    counts = dict(zip(vocabulary.words, vocabulary.counts, strict=True))
    common = {word for word, count in counts.items() if count >= RARE}
    rare = np.array([any(word not in common for caption in captions for word in caption) for captions in words])
    least = min(vocabulary.counts[len(SPECIALS) :], default=0)  # of words in it: others are no commoner
    name = f"a word seen under {RARE} times in training"
    return {name if least <= RARE else f"{name} or out of the vocabulary": rare, "common words alone": ~rare}


def _by_gender(words: Sequence[Sequence[Sequence[str]]]) -> Parts:
    said = ({word.lower() for caption in captions for word in caption} for captions in words)
    women, men = np.array([(not WOMEN.isdisjoint(one), not MEN.isdisjoint(one)) for one in said]).T
    return {
        "women": women & ~men, "men": men & ~women, "both": women & men, "neither": ~women & ~men,
    }  # fmt: skip
