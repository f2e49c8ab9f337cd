"""Scores as a text table: times 100, with intervals."""

from collections.abc import Mapping

from showtell.metrics.bootstrap import Difference
from showtell.metrics.protocol import Scores

NAMES = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D",
    "meteor": "METEOR",
    "spice": "SPICE",
    "clipscore": "CLIPScore",
    "refclipscore": "RefCLIPScore",
}


def format_scores(scores: Scores, intervals: Mapping[str, tuple[float, float]] | None = None) -> str:
    """A title, then a line for each metric, times 100 (CIDEr-D, too: 1000 at most), with 95% intervals where given."""
    title = f"{len(scores.image_ids)} images; scores x100"
    lines = [f"{title}; 95% bootstrap interval over images" if intervals else title]
    lines.append(f"scored on {scores.tokenisation.text}")
    width = max(8, *(len(NAMES[key]) for key in scores.corpus))
    for key, value in scores.corpus.items():
        shown = scores.notes.get(key, "not computed") if value is None else f"{100 * value:7.2f}"
        bounds = (intervals or {}).get(key)
        tail = f"   {100 * bounds[0]:.2f} to {100 * bounds[1]:.2f}" if bounds else ""
        by = f"   {scores.notes[key]}" if value is not None and key in scores.notes else ""
        lines.append(f"{NAMES[key]:{width}} {shown}{tail}{by}")
    return "\n".join(lines)


def format_differences(differences: Mapping[str, Difference]) -> str:
    """One line for each metric: both scores, b - a with its 95% interval, all times 100, and the p-value."""
    lines = [f"{'x100':8} {'A':>7} {'B':>7} {'B - A':>7}   95% interval       p"]
    for key, d in differences.items():
        scores = f"{100 * d.a:7.2f} {100 * d.b:7.2f} {100 * d.difference:+7.2f}"
        bounds = f"{100 * d.low:+.2f} to {100 * d.high:+.2f}"
        lines.append(f"{NAMES.get(key, key):8} {scores}   {bounds:18} {d.p:.3f}")
    return "\n".join(lines)
