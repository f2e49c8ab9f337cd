"""A section of the page: scores of slices of test with their intervals."""

from collections.abc import Mapping
from html import escape
from typing import Any

from showtell.evaluation.report.content import ReportData
from showtell.evaluation.report.html_tables import hundred, row_of, section


def slices(data: ReportData) -> str:
    """One table, its slices grouped by how test is divided; empty without slices."""
    if not data.slices:
        return ""
    metrics = [key.removesuffix("_low") for key in data.slices[0] if key.endswith("_low")]
    heads = "".join(f'<th colspan="2" scope="colgroup">{escape(row_of(key).name)}</th>' for key in metrics)
    body, by = [], None
    for row in data.slices:
        if row["by"] != by:
            by = row["by"]
            title = escape(row["by"])
            body.append(f'<tr class="group"><th colspan="{2 + 2 * len(metrics)}" scope="colgroup">By {title}</th></tr>')
        body.append(_row(row, metrics))
    table = f'<tr><th scope="col">Part</th><th class="number" scope="col">Images</th>{heads}</tr>'
    lead = "Parts of the test images, with 95% intervals. Document frequencies of CIDEr-D are those of all of them."
    return section(
        "slices", "Slices",
        f'<p class="lead">{lead}</p><div class="scroll"><table><thead>{table}</thead><tbody>{"".join(body)}</tbody>'
        "</table></div>",
    )  # fmt: skip


def _row(row: Mapping[str, Any], metrics: list[str]) -> str:
    cells = "".join(
        f'<td class="number">{hundred(row[key])}</td><td class="interval">{hundred(row[f"{key}_low"])} to '
        f"{hundred(row[f'{key}_high'])}</td>"
        for key in metrics
    )
    return f'<tr><th scope="row">{escape(row["part"])}</th><td class="number">{row["images"]}</td>{cells}</tr>'
