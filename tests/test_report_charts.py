"""Charts of the report: ticks, lines, marks."""

import re

from hypothesis import given
from hypothesis import strategies as st

from showtell.evaluation.report.charts import Point, line_chart, ticks


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_ticks_are_round_and_cover_all_values(values):
    found = ticks(values, 5)
    slack = 1e-6 * max(1, *(abs(v) for v in values))
    assert found[0] <= min(values) + slack and found[-1] >= max(values) - slack
    assert 2 <= len(found) <= 9 and found == sorted(found)


def test_epochs_are_whole_numbers():
    assert ticks([1, 2, 3], 6, whole=True) == [1, 2, 3]


def test_a_chart_marks_the_best_and_names_its_lines():
    chart = line_chart("Scores", {"penalty <0>": [Point(1, 2, "3"), Point(2, 5, "5", best=True)]}, "ms", "CIDEr-D")
    assert chart.count('class="ring"') == 1 and "penalty &lt;0&gt;" in chart and chart.count("<circle") == 3
    assert line_chart("Nothing", {"a": []}, "x", "y") == ""


def heights(chart: str, what: str) -> dict[str, float]:
    """The heights, in pixels from above, of a chart's texts of one class."""
    return {text: float(y) for y, text in re.findall(rf'<text class="{what}"[^>]* y="([0-9.]+)"[^>]*>([^<]+)<', chart)}


def test_labels_stand_above_or_below_their_point_and_cover_lines():
    line = [Point(0, 50, "over"), Point(100, 50, "under", below=True)]
    chart = line_chart("Bins", {"right": line, "exact": [Point(0, 0), Point(100, 100)]}, "x", "y", guides=["exact"])
    marks = heights(chart, "mark")
    (y,) = set(re.findall(r'cy="([0-9.]+)"', chart))
    assert marks["over"] < float(y) - 8 and marks["under"] > float(y) + 12
    assert chart.rindex("<polyline") < chart.index(">over<"), "text is drawn last"


def test_a_name_stands_right_of_its_line_and_below_marks_there():
    """A wider beam may be the faster one: a line then turns back."""
    lines = {"back": [Point(1, 5, "1"), Point(9, 5, "5"), Point(6, 5, "10")], "short": [Point(7, 5)]}
    chart = line_chart("Sweep", lines, "ms", "CIDEr-D")
    (x,) = (float(found) for found in re.findall(r'class="name" x="([0-9.]+)"[^>]*>back<', chart))
    assert x > max(float(found) for found in re.findall(r'cx="([0-9.]+)"', chart))
    names, marks = heights(chart, "name"), heights(chart, "mark")
    assert abs(names["short"] - 4 - marks["5"]) >= 15


def test_names_of_lines_that_end_close_together_are_spread():
    def chart(x: float) -> dict[str, float]:
        lines = {"train": [Point(0, 0), Point(10, 50)], "finetune": [Point(0, 100), Point(x, 50.1)]}
        return heights(line_chart("Scores", lines, "epoch", "CIDEr-D"), "name")

    together, apart = chart(10), chart(3)
    assert abs(together["train"] - together["finetune"]) >= 15
    assert abs(apart["train"] - apart["finetune"]) < 1, "names in different places stay at their lines' ends"
