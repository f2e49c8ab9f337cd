"""Training curves: one small table for each stage that learns, kept in git, drawn by `dvc plots`."""

import csv
import io
from collections.abc import Sequence

from showtell import paths
from showtell.files import write_json, write_text


def write_curves(stage: str, history: Sequence[dict[str, float]], select: str | None = None) -> None:
    """`metrics/<stage>.tsv`, a row for each epoch, and `metrics/<stage>.json`, the row with the greatest `select`."""
    columns = list(history[0]) if history else ["epoch"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    write_text(paths.METRICS / f"{stage}.tsv", text.getvalue())
    write_json(paths.METRICS / f"{stage}.json", best_row(history, select) if select else {})


def best_row(history: Sequence[dict[str, float]], select: str) -> dict[str, float]:
    """The first row with the greatest `select`: the epoch whose weights were kept."""
    return max(history, key=lambda row: row[select]) if history else {}
