"""Judging captions: the field's metrics, what they say about things that are known, and how decoding changes both."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from showtell.batches import CaptionedImages, in_order, load_batches
from showtell.captioner import Caption, Captioner
from showtell.metrics.behaviour import behaviour
from showtell.metrics.bleu import Bleu, nltk_bleu, nltk_statistics
from showtell.metrics.bootstrap import intervals
from showtell.metrics.coco import Protocol, Scores
from showtell.metrics.objects import Names, Pointing, chair, kinds, pointing
from showtell.metrics.statements import (
    PARTLY,
    RIGHT,
    SILENT,
    WRONG,
    Statement,
    all_true,
    colour_counts,
    held_out,
    held_out_outcome,
    statements,
)
from showtell.params import Section
from showtell.processes import fair, gathered, share
from showtell.progress import track
from showtell.search import SearchParams, SweepParams

BATCH = 50  # images decoded side by side; bounds memory, changes no result
ALTERNATIVES = 5  # beams of each test image that the report shows, at most


class EvaluateParams(Section):
    """What `evaluate` shows."""

    pictures: int = Field(ge=0, le=1000, description="test images whose attention is drawn, word by word")


@dataclass(frozen=True)
class Evaluation:
    """One set of captions of a split, judged. `captions[i]` are the beams of image i, best first."""

    entries: list[dict[str, Any]]
    captions: list[list[Caption]]
    scores: Scores
    metrics: dict[str, float | None]

    @property
    def best(self) -> list[Caption]:
        return [beams[0] for beams in self.captions]

    def intervals(self) -> dict[str, float]:
        """95% bootstrap intervals over images, `<metric>_low` and `<metric>_high`, in the metrics' own units."""
        found: dict[str, float] = {}
        for key, (low, high) in intervals(self.scores.measured()).items():
            found |= {f"{key}_low": low, f"{key}_high": high}
        return found

    def hypotheses(self) -> list[dict[str, Any]]:
        """In the format of COCO results, with the log probability (natural)."""
        return [
            {"image_id": entry["image_id"], "caption": caption.text, "logprob": caption.logprob}
            for entry, caption in zip(self.entries, self.best, strict=True)
        ]


def encoded(captioner: Captioner, data: CaptionedImages) -> Iterator[Any]:
    """Features of this process's share of the images, batch by batch in order."""
    batches = load_batches(data, share(in_order(len(data), fair(len(data), BATCH))))
    for batch in track(batches, "generate", total=len(batches)):
        yield captioner.encode(batch.images)


def evaluate(
    captioner: Captioner, data: CaptionedImages, objects: Mapping[str, Any], beam: int, search: SearchParams,
    meteor: bool = False,
) -> Evaluation:  # fmt: skip
    """Caption every image of `data` once and judge the captions; `objects` is `objects.json`."""
    n_best = min(beam, ALTERNATIVES)
    batches = [captioner.decode(f, beam, n_best=n_best, **search.model_dump()) for f in encoded(captioner, data)]
    captions = [beams for batch in gathered(batches) for beams in batch]
    return judge(data.entries, captions, objects, meteor)


def judge(
    entries: list[dict[str, Any]], captions: list[list[Caption]], objects: Mapping[str, Any], meteor: bool = False
) -> Evaluation:
    """Metrics of `captions` (fractions; CIDEr-D unscaled); those on things are None where none are known."""
    best = {entry["image_id"]: beams[0] for entry, beams in zip(entries, captions, strict=True)}
    references = {entry["image_id"]: entry["references"] for entry in entries}
    scores = Protocol(references).score({image_id: caption.text for image_id, caption in best.items()}, meteor)
    on_words = Bleu({entry["image_id"]: [" ".join(words) for words in entry["words"]] for entry in entries})
    statistics = on_words.statistics({image_id: " ".join(caption.words) for image_id, caption in best.items()})
    nltk = nltk_bleu(nltk_statistics(statistics).sum(axis=0))
    metrics: dict[str, float | None] = dict(scores.corpus)
    metrics |= {f"nltk_bleu{order + 1}": float(score) for order, score in enumerate(nltk)}
    metrics |= on_things(best, objects)
    return Evaluation(entries, captions, scores, metrics)


def on_things(best: Mapping[Any, Caption], objects: Mapping[str, Any]) -> dict[str, float | None]:
    """CHAIR (per mention and per caption), the share of things mentioned, pointing and what chance would reach, the
    share of stated colours that are right, and of captions all of whose things and colours are."""
    keys = ("chair_i", "chair_s", "recall", "pointing", "pointing_chance", "colours_right", "captions_true")
    known = objects.get("images", {})
    if not known:
        return dict.fromkeys(keys)
    names = Names(objects["names"])
    mentions = {image_id: names.mentions(caption.words) for image_id, caption in best.items()}
    things = {image_id: known[str(image_id)]["objects"] for image_id in best}
    found: dict[str, float | None] = dict.fromkeys(keys)
    found |= {k: v for k, v in chair(list(mentions.values()), [kinds(t) for t in things.values()]).items() if k in keys}
    said = said_of(best, objects)
    counts = [colour_counts(said[image_id], things[image_id]) for image_id in best]
    found["colours_right"] = sum(right for right, _ in counts) / max(sum(made for _, made in counts), 1)
    found["captions_true"] = sum(all_true(said[image_id], things[image_id]) for image_id in best) / len(best)
    if all(caption.attention is not None for caption in best.values()):
        total = Pointing(0, 0, 0.0)
        for image_id, caption in best.items():
            side = round(caption.attention.shape[1] ** 0.5)
            size = tuple(known[str(image_id)]["size"])
            total += pointing(mentions[image_id], caption.attention, (side, side), things[image_id], size)
        found |= total.shares
    return found


def said_of(best: Mapping[Any, Caption], objects: Mapping[str, Any]) -> dict[Any, list[Statement]]:
    """What each caption says is there, and of which colour."""
    names, colours = Names(objects["names"]), objects.get("colours", {})
    return {
        image_id: statements(caption.words, names.mentions(caption.words), colours)
        for image_id, caption in best.items()
    }


def held_out_metrics(
    evaluation: Evaluation, objects: Mapping[str, Any], train: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """What became of the things of test that are of a kind and colour, or in a setting, that no training image shows:
    shares of captions that name them rightly, without their colour, wrongly, or not at all."""
    keys = {outcome: f"held_out_{outcome}" for outcome in (RIGHT, PARTLY, WRONG, SILENT)}
    known = objects.get("images", {})
    if not known:
        return dict.fromkeys(keys.values())
    pairs = held_out(known, {str(entry["image_id"]) for entry in train})
    best = {entry["image_id"]: caption for entry, caption in zip(evaluation.entries, evaluation.best, strict=True)}
    outcomes = [
        held_out_outcome(said, known[str(image_id)], pairs) for image_id, said in said_of(best, objects).items()
    ]
    total = sum(outcome is not None for outcome in outcomes)
    return {key: outcomes.count(outcome) / total if total else None for outcome, key in keys.items()}


def unseen_part(evaluation: Evaluation, objects: Mapping[str, Any]) -> Evaluation | None:
    """The same captions judged on images that hold a pair no training image shows; None where none is known."""
    known = objects.get("images", {})
    rows = [
        row
        for row, entry in enumerate(evaluation.entries)
        if known.get(str(entry["image_id"]), {}).get("unseen", False)
    ]
    if len(rows) < 2:  # CIDEr-D needs two
        return None
    return judge([evaluation.entries[row] for row in rows], [evaluation.captions[row] for row in rows], objects)


def describe(evaluation: Evaluation, captioner: Captioner, train: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the captions are like, apart from being right: variety, copying, length, endings."""
    return behaviour(
        [caption.words for caption in evaluation.best],
        (words for entry in train for words in entry["words"]),
        captioner.vocabulary.words,
        [not caption.finished for caption in evaluation.best],
    )


def sweep(
    captioner: Captioner, data: CaptionedImages, params: SweepParams, search: SearchParams
) -> list[dict[str, float]]:
    """A row for each beam and length penalty: metrics on `data`, milliseconds an image (encoding included), and `best`
    (1 for the greatest CIDEr-D). Every image is encoded once for all of them."""
    settings = [(beam, penalty) for penalty in params.length_penalties for beam in params.beams]
    texts: dict[tuple[int, float], list[list[str]]] = {setting: [] for setting in settings}
    seconds = dict.fromkeys(settings, 0.0)
    encoding, started = 0.0, time.perf_counter()
    for features in encoded(captioner, data):
        encoding += time.perf_counter() - started
        for beam, penalty in settings:
            started = time.perf_counter()
            options = {**search.model_dump(), "length_penalty": penalty}
            found = captioner.decode(features, beam, attention=False, **options)
            texts[beam, penalty].append([best.text for best, *_ in found])
            seconds[beam, penalty] += time.perf_counter() - started
        started = time.perf_counter()
    protocol = Protocol({entry["image_id"]: entry["references"] for entry in data.entries})
    rows = []
    for beam, penalty in settings:
        found = [text for batch in gathered(texts[beam, penalty]) for text in batch]
        hypotheses = {e["image_id"]: text for e, text in zip(data.entries, found, strict=True)}
        scores = protocol.score(hypotheses, meteor=False).corpus
        milliseconds = 1000 * (encoding + seconds[beam, penalty]) / len(data)
        row = {"beam": beam, "length_penalty": penalty, "cider": scores["cider"], "bleu4": scores["bleu4"]}
        rows.append({**row, "milliseconds": round(milliseconds, 2), "best": 0})
    max(rows, key=lambda row: row["cider"])["best"] = 1
    return rows
