"""Small tables of numbers, kept in git and plotted by `dvc plots`: learning curves and the decoding sweep."""

import csv
import io
from collections.abc import Sequence

from showtell.core import paths
from showtell.core.files import write_json, write_text
from showtell.core.processes import world
from showtell.learning.selection import best_row, selected_by


def write_table(name: str, rows: Sequence[dict[str, float]], first: str = "epoch") -> None:
    """Write `metrics/<name>.tsv`, a line for each row; without rows, the name of its `first` column alone."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row)) or [first]  # rows may lack some columns
    table = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(paths.METRICS / f"{name}.tsv", text.getvalue())


def write_curves(stage: str, history: Sequence[dict[str, float]], select: str) -> None:
    """Write `metrics/<stage>.tsv`, a line for each epoch, and `metrics/<stage>.json`, the selected epoch and its
    metric.

    The number of processes is recorded: it is not a parameter and changes the result, since batch statistics and random
    numbers are computed in each process.
    """
    write_table(stage, history)
    kept = best_row(history, select)
    notes = {"selected_by": selected_by(history, select)} if history else {}
    write_json(paths.METRICS / f"{stage}.json", {**kept, **notes, "processes": world()})


def selected_epoch(history: Sequence[dict[str, float]], select: str) -> str:
    """The selected epoch, for the log."""
    if not history:
        return "nothing to learn (0 epochs)"
    best, by = best_row(history, select), selected_by(history, select)
    return f"epoch {best['epoch']} of {history[-1]['epoch']} is kept, {by} {best[by]:.4f} on val"
