"""The selected epoch, also where its metric is constant."""

import math

import pytest

from showtell.learning.selection import best_row, fallback, selected_by


def rows(metric: list[float], loss: list[float]) -> list[dict[str, float]]:
    return [{"epoch": n + 1, "cider": m, "val_loss": v} for n, (m, v) in enumerate(zip(metric, loss, strict=True))]


@pytest.mark.parametrize(
    ("metric", "loss", "kept", "by"),
    [
        ([0.1, 0.3, 0.2], [3.0, 2.0, 1.0], 2, "cider"),
        ([0.1, 0.3, 0.3], [3.0, 2.0, 1.0], 3, "cider"),  # equal scores: the lower loss
        ([0.0, 0.0, 0.0], [3.0, 1.0, 2.0], 2, "val_loss"),
        ([math.nan, math.nan], [3.0, 1.0], 2, "val_loss"),
        ([math.nan, 0.1, math.inf], [3.0, 2.0, 1.0], 2, "cider"),
        ([0.2], [1.0], 1, "cider"),
        ([0.0, 0.0], [math.nan, math.nan], 1, "val_loss"),
    ],
)
def test_the_metric_selects_unless_it_cannot(metric, loss, kept, by):
    history = rows(metric, loss)
    assert best_row(history, "cider")["epoch"] == kept
    assert selected_by(history, "cider") == by
    assert (fallback(history, "cider") is None) == (by == "cider")


def test_no_epochs_select_none():
    assert best_row([], "cider") == {}
    assert fallback([], "cider") is None
