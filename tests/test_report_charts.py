"""Charts of the report: ticks, lines, marks."""

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
