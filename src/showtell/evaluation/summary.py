"""The summary printed at the end of a run: a small table of scores, a few captions, and next commands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from showtell.core import paths
from showtell.core.arrays import evenly_spaced
from showtell.core.code import code_fingerprint
from showtell.core.files import fingerprint
from showtell.data.batches import CaptionedImages
from showtell.evaluation.judge import Evaluation
from showtell.evaluation.report.html_tables import AGREEMENT, HEADLINES, TRUTH, hundred
from showtell.generation.captioner import Captioner

SHOWN = 3  # number of captions shown
NEXT = (
    ("showtell caption PICTURE", "describe a picture; a model knows such as it was trained on"),
    ("showtell import --help", "train on photographs and captions of yours"),
    ("dvc exp run -S beam=3", "change a parameter; `dvc metrics diff` then shows what it changed"),
)


def provenance(dataset: str, test: CaptionedImages, captioner: Captioner, script: Path | str) -> dict[str, str]:
    """What the scores were measured with: dataset, model (each of an ensemble), settings of the search and code, each
    by a hash of its content.

    The hashes are equal for equal parameters, data and code. A commit would be less precise: the code that ran may
    differ from it.
    """
    models = [model.hash() for model in captioner.models]
    return {
        "dataset": dataset,
        "test": test.fingerprint,
        "model": models[0] if len(models) == 1 else fingerprint(models),
        "search": fingerprint(captioner.search),
        "code": code_fingerprint(Path(script)),
    }


def scores(
    last: Evaluation, frozen: Mapping[str, float | None], unseen: Evaluation | None, more: Mapping[str, float | None]
) -> dict[str, float | str | None]:
    """`metrics/evaluate.json`: metrics of test by the last model, of its images with unseen pairs, and by the model of
    stage `train`, whose encoder is frozen; `more` of test."""
    return {
        "tokenisation": last.scores.tokenisation.name,
        **last.metrics,
        "clip": last.scores.notes.get("clipscore"),
        **{f"unseen_{key}": unseen.metrics[key] if unseen else None for key in frozen},
        **more,
        **{f"frozen_{key}": value for key, value in frozen.items()},
    }


def summary(
    last: Evaluation, frozen: Mapping[str, float | None], intervals: Mapping[str, float], captioner: Captioner
) -> str:
    """The lines printed by `evaluate`: metrics of test by the model of stage `train` and by the last one, captions, and
    next commands."""
    count = len(last.entries)
    lines = [f"{count:,} captions of test are in {paths.HYPOTHESES}", "", *_table(last.metrics, frozen, intervals), ""]
    rows = evenly_spaced(count, SHOWN)
    lines += [f"  {last.entries[row]['file']}: {last.best[row].text}" for row in rows]
    width = max(len(command) for command, _ in NEXT)
    steps = [f"  {command:{width}}  {does}" for command, does in NEXT]
    return "\n".join([*lines, "", f"report: {paths.REPORT}/index.html", "next:", *steps])


def _table(last: Mapping[str, Any], frozen: Mapping[str, Any], intervals: Mapping[str, float]) -> list[str]:
    """Times 100; the metrics that were computed."""
    rows = {**AGREEMENT, **TRUTH}
    width = max(len(rows[key].name) for key in HEADLINES)
    lines = [f"  {'':{width}}   train   last  95% interval"]  # the model of stage `train`, and the last one
    for key in HEADLINES:
        if last.get(key) is not None:
            low, high = (hundred(intervals.get(f"{key}_{end}")) for end in ("low", "high"))
            within = f"{low:>6} to {high}" if f"{key}_low" in intervals else ""
            scores = f"{hundred(frozen.get(key)):>6}  {hundred(last[key]):>5}"
            lines.append(f"  {rows[key].name:{width}}  {scores}  {within}")
    return [line.rstrip() for line in lines]
