"""The summary printed at the end of a run: a small table of scores, a few captions, and next commands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core import paths
from showtell.core.code import code_fingerprint
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
    """What the scores were measured with: dataset, model and code, each by a hash of its content.

    The hashes are equal for equal parameters, data and code. A commit would be less precise: the code that ran may
    differ from it.
    """
    code = code_fingerprint(Path(script))
    return {"dataset": dataset, "test": test.fingerprint, "model": captioner.model.hash(), "code": code}


def scores(
    tuned: Evaluation, frozen: Mapping[str, float | None], unseen: Evaluation | None, more: Mapping[str, float | None]
) -> dict[str, float | str | None]:
    """`metrics/evaluate.json`: metrics of test, of its images with unseen pairs, and before fine-tuning; `more` of
    test."""
    return {
        "tokenisation": tuned.scores.tokenisation.name,
        **tuned.metrics,
        "clip": tuned.scores.notes.get("clipscore"),
        **{f"unseen_{key}": unseen.metrics[key] if unseen else None for key in frozen},
        **more,
        **{f"frozen_{key}": value for key, value in frozen.items()},
    }


def summary(
    after: Evaluation, before: Mapping[str, float | None], intervals: Mapping[str, float], captioner: Captioner
) -> str:
    """The lines printed by `evaluate`: metrics of test before and after fine-tuning, captions, next commands; and a
    setting of the search that these models have no use for."""
    count = len(after.entries)
    lines = [f"{count:,} captions of test are in {paths.HYPOTHESES}", "", *_table(after.metrics, before, intervals), ""]
    rows = np.linspace(0, count - 1, min(SHOWN, count)).astype(int)
    lines += [f"  {after.entries[row]['file']}: {after.best[row].text}" for row in rows]
    if captioner.search.detection_weight and not any(model.detector for model in captioner.models):
        lines += ["", "search.detection_weight does nothing here: no detector of words was trained"]
    width = max(len(command) for command, _ in NEXT)
    steps = [f"  {command:{width}}  {does}" for command, does in NEXT]
    return "\n".join([*lines, "", f"report: {paths.REPORT}/index.html", "next:", *steps])


def _table(after: Mapping[str, Any], before: Mapping[str, Any], intervals: Mapping[str, float]) -> list[str]:
    """Times 100; the metrics that were computed."""
    rows = {**AGREEMENT, **TRUTH}
    width = max(len(rows[key].name) for key in HEADLINES)
    lines = [f"  {'':{width}}   train   last  95% interval"]  # the model of stage `train`, and the last one
    for key in HEADLINES:
        if after.get(key) is not None:
            low, high = (hundred(intervals.get(f"{key}_{end}")) for end in ("low", "high"))
            within = f"{low:>6} to {high}" if f"{key}_low" in intervals else ""
            scores = f"{hundred(before.get(key)):>6}  {hundred(after[key]):>5}"
            lines.append(f"  {rows[key].name:{width}}  {scores}  {within}")
    return [line.rstrip() for line in lines]
