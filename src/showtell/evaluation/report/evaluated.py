"""Builds the report's content from the results of `evaluate`."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.spools import Pickled
from showtell.data.batches import CaptionedImages
from showtell.data.captions import Entry
from showtell.evaluation.judge import Evaluation
from showtell.evaluation.report.content import ReportData, ReportImage
from showtell.evaluation.report.nearest import TrainingCaptions
from showtell.evaluation.report.report_writer import write_report
from showtell.generation.captioner import Captioner
from showtell.metrics.annotations import Annotations


def read_curves(path: Path) -> list[dict[str, float]]:
    """The rows of a table of numbers (TSV with a header); other values are left out."""
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return [{key: number for key, text in line.items() if (number := _number(text)) is not None} for line in lines]


def learning_curves() -> dict[str, list[dict[str, float]]]:
    """`metrics/<stage>.tsv` of every stage that trains on captions."""
    return {stage: read_curves(paths.METRICS / f"{stage}.tsv") for stage in paths.LEARNING}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def report_images(evaluation: Evaluation, train: Iterable[Entry], known: Annotations) -> Sequence[ReportImage]:
    """Every image of `evaluation`, stored on disk; `known`: what is in them."""
    remembered = TrainingCaptions(words for entry in train for words in entry["words"])
    judged = evaluation.judged(known)
    true = [True] * len(judged.captions) if judged.true is None else judged.true
    return Pickled(
        ReportImage(
            image_id=str(entry["image_id"]),
            captions=captions,
            references=entry["references"],
            cider=cider,
            nearest=remembered.nearest(captions[0].words),
            marks=[
                *(["unseen"] if known.unseen(entry["image_id"]) else []),
                *([] if is_true else ["untrue"]),
            ],
        )
        for entry, captions, cider, is_true in zip(
            evaluation.entries, evaluation.captions, judged.cider.tolist(), true, strict=True
        )
    )


def report_data(
    title: str, evaluation: Evaluation, data: CaptionedImages, train: Iterable[Entry],
    known: Annotations, captioner: Captioner, **tables: Any,
) -> ReportData:  # fmt: skip
    """The report's content for `evaluation` of the images of `data` by `captioner`; `tables`: more fields of
    `ReportData`."""
    model, search, others = captioner.model, captioner.search, len(captioner.models) - 1
    networks = f"{model.encoder.name}, {model.params.kind} decoder" + (f" and {others} more" if others else "")
    return ReportData(
        title=title,
        facts=[
            f"{len(data):,} test images",
            networks,
            search.described(),
            f"scored on {evaluation.scores.tokenisation.text}",
        ],
        metrics=evaluation.metrics,
        params={"search": search.model_dump(), **model.config()},
        images=report_images(evaluation, train, known),
        pixels=lambda image: data.store.rows([image])[0],
        notes=evaluation.scores.notes,
        **tables,
    )


def report_evaluation(title: str, evaluation: Evaluation, *about: Any, **tables: Any) -> None:
    """Write the report's page from `report_data`, with the learning curves of all stages."""
    write_report(paths.REPORT, report_data(title, evaluation, *about, curves=learning_curves(), **tables))
