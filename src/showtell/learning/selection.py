"""Selection of the best epoch: the greatest value of a metric; where that does not decide, the lowest loss on val.

A metric with the same value after every epoch (0 for all captions, say) does not decide, and one that is not finite
cannot be compared. Then, and between epochs with equal metrics, the loss on val decides.
"""

import math
from collections.abc import Sequence

Row = dict[str, float]
LOSS = "val_loss"


def standing(row: Row, select: str) -> tuple[float, float]:
    """The rank of an epoch, greater is better: its metric `select`, then minus its loss on val; not finite is worst."""
    loss = row.get(LOSS, math.nan)
    return row[select] if math.isfinite(row[select]) else -math.inf, -loss if math.isfinite(loss) else -math.inf


def best_row(history: Sequence[Row], select: str) -> Row:
    """The first of the best epochs, whose weights were kept."""
    return max(history, key=lambda row: standing(row, select)) if history else {}


def selected_by(history: Sequence[Row], select: str) -> str:
    """The metric that decided: `select`, or the loss on val where `select` never changed or was not finite."""
    values = {standing(row, select)[0] for row in history}
    return LOSS if values == {-math.inf} or (len(history) > 1 and len(values) == 1) else select


def fallback(history: Sequence[Row], select: str) -> str | None:
    """A line for the log where the loss on val had to decide."""
    if not history or selected_by(history, select) == select:
        return None
    return f"{select} was {history[0][select]:.4g} after every epoch; the epoch with the lowest {LOSS} was kept"
