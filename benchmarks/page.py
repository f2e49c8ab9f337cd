"""The measured parts of docs/performance.md, each between two marks. The rest of the page is not changed."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import short

from showtell.core.errors import UserError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
COLUMNS = ("claim", "reached", "asked for", "sizes", "threads", "in detail", "script")
MEASURED = "Measured on "

Row = dict[str, Any]  # a `measure.Result` as JSON, and `script`


def part(page: str, name: str) -> str:
    """The text between the marks of `name`; `UserError` if the page lacks them."""
    return _split(page, name)[1]


def rewritten(page: str, name: str, content: str) -> str:
    """The page with `content` between the marks of `name`."""
    before, _, after = _split(page, name)
    return f"{before}\n{content.strip()}\n{after}"


def _split(page: str, name: str) -> tuple[str, str, str]:
    return split(page, f"<!-- {name} -->", f"<!-- end of {name} -->", PAGE)


def split(page: str, begin: str, end: str, path: Path) -> tuple[str, str, str]:
    """A page up to the mark `begin`, the text between, and from the mark `end`; `UserError` names a missing mark."""
    before, first, rest = page.partition(begin)
    inside, last, after = rest.partition(end)
    if not first or not last:
        raise UserError(f"{path} lacks the lines {begin} and {end}, between which measured figures go")
    return before + begin, inside.strip(), end + after


def claims(old: str, rows: Sequence[Row], whole: Sequence[str], order: Sequence[str], machine: str) -> str:
    """A part with the results `rows`; `old` is its previous text.

    Lines of scripts that were not run are kept if they are from the same machine, and so are lines of a failed script
    (one not in `whole`) unless it measured them again. `order` is that of the scripts.
    """
    heading = f"{MEASURED}{machine}."
    lines = {(row["script"], row["claim"]): line(row) for row in rows}
    kept = {}
    for text in old.splitlines() if old.startswith(heading) else []:
        cells = text.strip("| ").split(" | ")
        script = cells[-1].strip("`").removesuffix(".py")
        if script in order and script not in whole:
            kept[script, cells[0]] = text
    ranked = sorted((kept | lines).items(), key=lambda item: order.index(item[0][0]))
    table = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}", *(text for _, text in ranked)]
    return f"{heading}\n\n" + "\n".join(table)


def line(row: Row) -> str:
    """One claim as a line of the table, marked if it misses its target."""
    reached = f"{short(row['ratio'])}{row['unit']}"
    reached = f"**{reached}**" if row["reached"] else f"{reached}, short of it"
    cells = [row["claim"], reached, row["aim"], row["sizes"], row["threads"], row["detail"], f"`{row['script']}.py`"]
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def machine(device: str = "cpu") -> str:
    """Processor, cores, GPU and versions of the libraries."""
    parts = [] if device == "cpu" else [device]
    parts += [_processor(), f"{len(os.sched_getaffinity(0))} cores", f"torch {version('torch')}"]
    return ", ".join([*parts, f"Python {platform.python_version()}"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
