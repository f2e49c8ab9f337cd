"""Small tables of numbers, kept in git and drawn by `dvc plots`: training curves and the decoding sweep."""

import csv
import io
from collections.abc import Sequence

from showtell.core import paths
from showtell.core.files import write_json, write_text
from showtell.core.processes import world


def write_table(name: str, rows: Sequence[dict[str, float]]) -> None:
    """`metrics/<name>.tsv`, a line for each row."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else ["epoch"], delimiter="\t", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(paths.METRICS / f"{name}.tsv", text.getvalue())


def write_curves(stage: str, history: Sequence[dict[str, float]], select: str) -> None:
    """`metrics/<stage>.tsv`, a line for each epoch, and `metrics/<stage>.json`, the epoch that was kept.

    With the number of processes, which is no parameter and changes the result: statistics and random numbers are each
    process's own.
    """
    write_table(stage, history)
    write_json(paths.METRICS / f"{stage}.json", {**best_row(history, select), "processes": world()})


def best_row(history: Sequence[dict[str, float]], select: str) -> dict[str, float]:
    """The first row with the greatest `select`: the epoch whose weights were kept."""
    return max(history, key=lambda row: row[select]) if history else {}


def told(history: Sequence[dict[str, float]], select: str) -> str:
    """Which epoch was kept, in words."""
    if not history:
        return "nothing to learn (0 epochs)"
    best = best_row(history, select)
    return f"epoch {best['epoch']} of {len(history)} is kept, {select} {best[select]:.4f} on val"
