"""A section of the page: calibration of the confidence, and risk against coverage."""

import numpy as np

from showtell.evaluation.confidence_fit import Sureness
from showtell.evaluation.report.charts import Point, line_chart
from showtell.evaluation.report.content import ReportData
from showtell.evaluation.report.html_tables import figure, hundred, section

KINDS = {  # kind: title, name of the line, name of the opposite
    "good": ("as good as the model's median caption of val (CIDEr-D)", "as good", "not as good"),
    "true": ("all true: every thing and colour it names is there", "all true", "not all true"),
}
RISK_POINTS = 20  # points of a curve, from the most confident twentieth of the captions to all


def confidence(data: ReportData) -> str:
    """Reliability diagrams, a table of their bins, and risk against coverage; empty without calibration."""
    if not data.sure:
        return ""
    charts = [_reliability(kind, sure) for kind, sure in data.sure.items()]
    lead = (
        "Fitted on val from log probability and length, measured on test. <code>--min-confidence</code> asks for the "
        "first of the chances."
    )
    content = f'<p class="lead">{lead}</p><div class="charts">{"".join(charts)}{_risk(data)}{_bins(data)}</div>'
    return section("confidence", "Confidence", content)


def _reliability(kind: str, sure: Sureness) -> str:
    stated, name, _ = KINDS[kind]
    title = f"Chance of being {stated}: calibration error {hundred(sure.error)}"
    bins = [  # the numbers stand away from the diagonal
        Point(100 * b.confidence, 100 * b.right, f"{b.captions}", below=b.right < b.confidence) for b in sure.bins
    ]
    lines = {name: bins, "exact": [Point(0, 0), Point(100, 100)]}
    chart = line_chart(title, lines, "stated, %; the numbers count captions", "right, %", guides=["exact"])
    return figure(title, chart)


def _risk(data: ReportData) -> str:
    title = "Risk against coverage: what is wrong among the captions given, the surest first"
    lines = {KINDS[kind][2]: _thinned(*sure.risk) for kind, sure in data.sure.items()}
    return figure(title, line_chart(title, lines, "captions given, %", "risk, %"))


def _thinned(coverage: np.ndarray, risk: np.ndarray) -> list[Point]:
    """Some points of the curve, including the last."""
    wanted = np.searchsorted(coverage, np.arange(1, RISK_POINTS + 1) / RISK_POINTS - 1e-9)
    places = np.unique(wanted.clip(max=len(coverage) - 1))
    return [Point(100 * float(coverage[place]), 100 * float(risk[place])) for place in places]


def _bins(data: ReportData) -> str:
    heads = "".join(f'<th class="number" scope="col">{head}</th>' for head in ("Captions", "Stated", "Right"))
    rows = "".join(
        f'<tr class="group"><th colspan="4" scope="colgroup">{KINDS[kind][1].capitalize()}</th></tr>'
        + "".join(
            f'<tr><th scope="row">{100 * b.low:.0f} to {100 * b.high:.0f}%</th><td class="number">{b.captions}</td>'
            f'<td class="number">{hundred(b.confidence)}</td><td class="number">{hundred(b.right)}</td></tr>'
            for b in sure.bins
        )
        for kind, sure in data.sure.items()
    )
    table = f'<table><thead><tr><th scope="col">Confidence</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'
