"""The table of docs/systems.md, from the results of benchmarks/systems.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page import split

PAGE = Path(__file__).resolve().parents[1] / "docs" / "systems.md"
BEGIN = {
    "scenes": "<!-- table: make systems -->",
    "photographs": "<!-- table: benchmarks/systems.py --photographs -->",
}
END = "<!-- end of table -->"
COLUMNS = (
    "system", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr-D", "encoder frozen", "CHAIR", "seconds an epoch",
    "parameters", "best epoch",
)  # fmt: skip
NONE = "·"

Result = dict[str, Any]


def table(results: Sequence[Result]) -> str:
    """Markdown: a line for each result, and below the circumstances of the runs."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(result) for result in results)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{circumstances(results)}" if results else text


def cells(result: Result) -> list[str]:
    """One result in the order of the columns; scores x100."""
    test, spread = result["test"], result["intervals"]
    name = f"`{result['recipe']}`{', ' if result['what'] else ''}{result['what']}"
    bleu = [f"{100 * test[f'bleu{order}']:.1f}" for order in range(1, 5)]
    cider = f"{100 * test['cider']:.1f} ({100 * spread['cider_low']:.1f}-{100 * spread['cider_high']:.1f})"
    frozen = f"{100 * test['frozen_cider']:.1f}" if result["train"]["epochs"] else NONE
    chair = NONE if test["chair_i"] is None else f"{100 * test['chair_i']:.1f}"
    seconds = _both(result, lambda stage: NONE if stage["seconds"] is None else f"{stage['seconds']:.0f}")
    sizes = f"{result['decoder'] / 1e6:.2f} M / {result['learning'] / 1e6:.2f} M"
    return [name, *bleu, cider, frozen, chair, seconds, sizes, _both(result, lambda s: f"{s['best']} of {s['epochs']}")]


def _both(result: Result, shown: Any) -> str:
    """Values of `train` / `finetune`; NONE for a stage without epochs."""
    return " / ".join(shown(result[stage]) if result[stage]["epochs"] else NONE for stage in ("train", "finetune"))


def circumstances(results: Sequence[Result]) -> str:
    """Commit, threads, parallel runs, and whether all frozen encoders are the same."""
    encoders = {result["encoder"] for result in results} - {None}
    same = "one and the same" if len(encoders) == 1 else f"{len(encoders)} different ones"
    commits = sorted({result["commit"][:9] for result in results})
    ran = {(r[s]["threads"], r[s]["jobs"]) for r in results for s in ("train", "finetune") if r[s]["threads"]}
    ways = [f"{threads} thread{'s' * (threads > 1)} a run, {jobs} at a time" for threads, jobs in sorted(ran)]
    return f"Commit {', '.join(commits)}; {' and '.join(ways) or 'times not known'}. Frozen encoders: {same}."


def lacking(page: str, lines: str, name: str = "scenes") -> list[str]:
    """The systems of the page's table `name` that `lines` does not have."""
    _, old, _ = split(page, BEGIN[name], END, PAGE)
    before, now = ([row.split(" | ")[0] for row in text.splitlines() if row.startswith("| `")] for text in (old, lines))
    return [system.removeprefix("| ") for system in before if system not in now]


def rewritten(page: str, lines: str, name: str = "scenes") -> str:
    """`page` with `lines` between the marks of the table `name`."""
    before, _, after = split(page, BEGIN[name], END, PAGE)
    return f"{before}\n{lines}\n{after}"
