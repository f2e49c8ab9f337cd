"""Evaluating captions: metrics, statements about annotated objects, and a comparison of decodings."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from showtell.core.errors import UserError
from showtell.core.params import PathName, Section
from showtell.core.paths import given
from showtell.core.processes import all_gather, is_main, world
from showtell.core.progress import log, track
from showtell.core.spools import Pickled
from showtell.core.terminal import one_line
from showtell.data.batches import CaptionedImages, every_image
from showtell.data.captions import Entry
from showtell.data.vocabulary import SPECIALS
from showtell.evaluation.confidence_fit import Judged, judged
from showtell.evaluation.known_objects import KEYS, on_things
from showtell.evaluation.views import ByImage, View, references_of
from showtell.generation.bundle import CONFIG
from showtell.generation.captioner import Caption, Captioner, Encoded
from showtell.generation.search_params import MOST, OWN, SearchParams
from showtell.metrics.annotations import Annotations
from showtell.metrics.behaviour import behaviour
from showtell.metrics.bleu import nltk_bleu, nltk_statistics, word_statistics
from showtell.metrics.bootstrap import Measured, intervals
from showtell.metrics.clip_score import CLIP_SUFFIXES, check_clip
from showtell.metrics.diversity import diversity
from showtell.metrics.ngrams import ORDER
from showtell.metrics.protocol import KEYS as COCO
from showtell.metrics.protocol import Protocol, Scores

SCORED_PER_BATCH = 128  # stored images captioned together; bounds memory, does not change results


class EvaluateParams(Section):
    """Settings of `evaluate`."""

    pictures: int = Field(ge=0, le=1000, description="test images whose attention is drawn, word by word")
    captions: int = Field(ge=1, le=MOST, description="captions generated of a test image; the first is judged")
    ensemble: list[PathName] | None = Field(description="folders of models beside the last one; null: none")
    remembered: int = Field(ge=2, le=1_000_000, description="training images that the search compares with, at most")
    clip_model: str | None = Field(description="model of open_clip that scores captions of test; null: none does")
    clip_weights: str | None = Field(description="published weights of it by name, or a file; null without clip_model")

    @field_validator("clip_weights")
    @classmethod
    def _with_a_model(cls, weights: str | None, info: ValidationInfo) -> str | None:
        if (weights is None) != (info.data.get("clip_model") is None):
            raise PydanticCustomError("clip", "evaluate.clip_model and evaluate.clip_weights are set together, or null")
        return weights

    def folders(self) -> list[Path]:
        """The folders of the models in `ensemble`."""
        return [given(folder) for folder in self.ensemble or []]

    @property
    def clip(self) -> tuple[str, str] | None:
        """Model and weights of the CLIP, or None."""
        if self.clip_model is None or self.clip_weights is None:
            return None
        is_file = self.clip_weights.endswith(CLIP_SUFFIXES)
        return self.clip_model, str(given(self.clip_weights)) if is_file else self.clip_weights

    def check(self) -> None:
        """`UserError` when a model of `ensemble` is not there, or the CLIP is not known; models that stages write are
        not looked for."""
        for folder in self.folders():
            if not (folder / CONFIG).is_file() and Path("data").absolute() not in folder.parents:
                raise UserError(f"evaluate.ensemble: {folder} holds no model (no {CONFIG})")
        if self.clip is not None:
            check_clip(*self.clip)


@dataclass(frozen=True)
class Evaluation:
    """The captions of a split with their metrics. `captions[i]` are those of image i, best first, stored on disk."""

    entries: Sequence[Entry]
    captions: Sequence[list[Caption]]
    scores: Scores
    measured: dict[str, Measured]
    metrics: dict[str, float | None]

    @property
    def best(self) -> Sequence[Caption]:
        return View(self.captions, _first)

    @property
    def by_image(self) -> Mapping[Any, Caption]:
        return ByImage(self.scores.image_ids, self.best)

    def intervals(self) -> dict[str, float]:
        """95% bootstrap intervals over images, `<metric>_low` and `<metric>_high`, in the metrics' own units."""
        found: dict[str, float] = {}
        for key, (low, high) in intervals(self.measured).items():
            found |= {f"{key}_low": low, f"{key}_high": high}
        return found

    def hypotheses(self) -> Iterator[dict[str, Any]]:
        """The COCO results format, with log probability (natural) and confidence."""
        for e, c in zip(self.entries, self.best, strict=True):
            yield {"image_id": e["image_id"], "caption": c.text, "logprob": c.logprob, "confidence": c.confidence}

    def judged(self, known: Annotations) -> Judged:
        """CIDEr-D and truth of each caption."""
        return judged(self.entries, self.best, self.scores.images["cider"], known)


def encoded(captioner: Captioner, data: CaptionedImages) -> Iterator[Encoded]:
    """This process's share of the images, encoded, batch by batch in order."""
    batches = every_image(data, SCORED_PER_BATCH)
    for batch in track(batches, "generate", total=len(batches)):
        yield captioner.encode(batch.images)


def evaluate(
    captioner: Captioner, data: CaptionedImages, known: Annotations, n_best: int, meteor: bool = False
) -> Evaluation:
    """Caption every image of `data` and score the first of its `n_best` captions (fewer, where the search finds no
    more); `known`: what is in the images."""
    n_best = min(captioner.search.most, n_best)
    batches = (captioner.decode(images, n_best) for images in encoded(captioner, data))
    of_everybody = batches if world() == 1 else all_gather([*batches])
    captions = Pickled(beams for batch in of_everybody for beams in batch)
    return judge(data.entries, captions, known, meteor)


def _first(beams: list[Caption]) -> Caption:
    return beams[0]


def judge(
    entries: Sequence[Entry], captions: Sequence[list[Caption]], known: Annotations, meteor: bool = False
) -> Evaluation:
    """Metrics of `captions` (fractions; CIDEr-D unscaled); those on objects are None where none are annotated."""
    references, best = references_of(entries), View(captions, _first)
    texts = ByImage(references.image_ids, View(best, lambda caption: caption.text))
    scores = Protocol(references).score(texts, meteor)
    said = ByImage(scores.image_ids, View(entries, lambda entry: entry["words"]))
    words = word_statistics((entry["words"] for entry in entries), (caption.words for caption in best))
    statistics = nltk_statistics(words)
    nltk = {f"nltk_bleu{order + 1}": Measured(statistics, partial(_nltk_of_order, order)) for order in range(ORDER)}
    measured = {**scores.measured(), **nltk, **on_things(ByImage(scores.image_ids, best), known, said)}
    metrics = {**dict.fromkeys(KEYS), **{key: metric.score for key, metric in measured.items()}, **scores.corpus}
    return Evaluation(entries, captions, scores, measured, {key: metrics[key] for key in (*COCO, *nltk, *KEYS)})


def _nltk_of_order(order: int, sums: np.ndarray) -> np.ndarray:
    return nltk_bleu(sums)[..., order]


def unseen_part(evaluation: Evaluation, known: Annotations) -> Evaluation | None:
    """The same captions scored on images with a pair that is in no training image; None where there are none."""
    rows = [row for row, entry in enumerate(evaluation.entries) if known.unseen(entry["image_id"])]
    if len(rows) < 2:  # CIDEr-D needs two
        return None
    return judge([evaluation.entries[row] for row in rows], [evaluation.captions[row] for row in rows], known)


def describe(evaluation: Evaluation, captioner: Captioner, train: Iterable[Entry]) -> dict[str, float | None]:
    """Properties of the captions: variety, copying, length, endings, diversity of an image's captions, and statements
    about objects that are (not) there."""
    habits: dict[str, float | None] = {}
    habits |= behaviour(
        View(evaluation.best, lambda caption: caption.words),
        (words for entry in train for words in entry["words"]),
        captioner.model.vocabulary.words[len(SPECIALS) :],
        [not caption.finished for caption in evaluation.best],
    )
    several = View(evaluation.captions, lambda beams: [caption.words for caption in beams])
    habits |= diversity(several, (entry["words"] for entry in evaluation.entries))
    return habits | {key: evaluation.metrics[key] for key in KEYS}


def sweep(
    captioner: Captioner, data: CaptionedImages, known: Annotations, searches: Sequence[SearchParams]
) -> tuple[list[dict[str, Any]], Judged]:
    """A row for each of `searches`: metrics on `data`, milliseconds an image (encoding included), and `best` (1 for the
    greatest CIDEr-D); and the evaluation with the captioner's own settings, which are among them. Every image is
    encoded once for all decodings. `beam` is empty for a decoding without one."""
    _announce_words(captioner, searches)
    captioners = [captioner.searching(search) for search in searches]
    batches: list[list[list[Caption]]] = [[] for _ in searches]
    seconds = [0.0] * len(searches)
    encoding, started = 0.0, time.perf_counter()
    for images in encoded(captioner, data):
        encoding += time.perf_counter() - started
        for number, one in enumerate(captioners):
            if one.neighbours is not None:
                one.neighbours.forget()  # so that no setting is faster by what another has computed
            started = time.perf_counter()
            batches[number].append([best for best, *_ in one.decode(images, attention=False)])
            seconds[number] += time.perf_counter() - started
        started = time.perf_counter()
    protocol = Protocol(references_of(data.entries))
    rows: list[dict[str, Any]] = []
    for number, search in enumerate(searches):
        found = [caption for batch in all_gather(batches[number]) for caption in batch]
        texts = (caption.text for caption in found)
        scores = protocol.score(dict(zip(protocol.image_ids, texts, strict=True)), meteor=False)
        if search == captioner.search:
            own = judged(data.entries, found, scores.images["cider"], known)
        milliseconds = round(1000 * (encoding + seconds[number]) / len(data), 2)
        name = _name(search, captioner.search)
        settings = {"method": name, "beam": search.beam, "length_penalty": search.length_penalty}
        told = {key: scores.corpus[key] for key in ("cider", "bleu4")}
        rows.append({**settings, **told, "milliseconds": milliseconds})
    best = max(rows, key=lambda row: row["cider"])
    return [{**row, "best": int(row is best)} for row in rows], own


def _announce_words(captioner: Captioner, searches: Sequence[SearchParams]) -> None:
    words = {search.block_around for search in searches if search.block_around is not None}
    for word in sorted(words):
        if word not in captioner.model.vocabulary and is_main():
            log(f"search.block_around: {one_line(word)} is not a word of the vocabulary, and forbids nothing")


def _name(search: SearchParams, own: SearchParams) -> str:
    """Its method, with each setting that differs from `own` and is neither told by the method nor in a column."""
    told = {*OWN, "method", "length_penalty"} - {"patience"}
    changed = [key for key in SearchParams.model_fields if getattr(search, key) != getattr(own, key)]
    return search.described() + "".join(f", {key} {getattr(search, key)}" for key in changed if key not in told)
