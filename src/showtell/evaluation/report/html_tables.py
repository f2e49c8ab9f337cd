"""Sections of the page that need no JavaScript: headline figures, scores, properties of captions, charts, settings."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import NamedTuple

from showtell.evaluation.report.charts import Point, line_chart
from showtell.evaluation.report.content import ReportData


class Row(NamedTuple):
    """Display name and meaning of a metric; `top` is the end of its scale on the page."""

    name: str
    tells: str
    top: float = 1.0


AGREEMENT = {
    "cider": Row("CIDEr-D", "wording shared with the references, rare words count more", 2.5),
    "bleu1": Row("BLEU-1", "words shared with the references"),
    "bleu2": Row("BLEU-2", "pairs of words shared"),
    "bleu3": Row("BLEU-3", "triples of words shared"),
    "bleu4": Row("BLEU-4", "runs of four words shared"),
    "rouge_l": Row("ROUGE-L", "longest common sequence of words"),
    "meteor": Row("METEOR", "words matched by form, stem and synonym"),
    "clipscore": Row("CLIPScore", "how near the caption is to the picture in the space of a CLIP"),
    "refclipscore": Row("RefCLIPScore", "the same, and how near to the references"),
    "nltk_bleu1": Row("BLEU-1, tutorials'", "NLTK, on vocabulary words"),
    "nltk_bleu2": Row("BLEU-2, tutorials'", "NLTK, on vocabulary words"),
    "nltk_bleu3": Row("BLEU-3, tutorials'", "NLTK, on vocabulary words"),
    "nltk_bleu4": Row("BLEU-4, tutorials'", "NLTK, on vocabulary words"),
}
TRUTH = {
    "chair_i": Row("CHAIR, per mention", "share of things named that are not there; less is better"),
    "chair_s": Row("CHAIR, per caption", "share of captions that name such a thing; less is better"),
    "recall": Row("Things named", "share of the things there that the caption names"),
    "pointing": Row("Pointing", "share of nouns whose attention peaks inside the thing's box"),
    "pointing_chance": Row("Pointing by chance", "what random cells would reach"),
    "colours_right": Row("Colours right", "share of stated colours that are true"),
    "captions_true": Row("Captions true", "share of captions whose things and colours are all there"),
}
HEADLINES = ("cider", "bleu4", "chair_i", "captions_true", "pointing", "rouge_l", "meteor")
BEHAVIOUR = {
    "captions": "Captions", "distinct_captions": "Different captions", "distinct": "Unlike all others",
    "copied": "Copied word for word from training", "words_used": "Words used", "vocabulary_used": "Vocabulary used",
    "mean_length": "Mean length, words", "function_word_endings": "End in a function word",
    "repeated_ngrams": "A pair of words twice", "empty": "Empty", "unknown": "<unk>, per word",
    "unfinished": "Unfinished",
    "captions_an_image": "Captions an image", "distinct_words": "Their different words, per word",
    "distinct_pairs": "Their different pairs of words, per word", "self_cider": "Their diversity (self-CIDEr)",
}  # fmt: skip
CURVES = {
    "cider": ("CIDEr-D on val, by epoch", 100),
    "bleu4": ("BLEU-4 on val, by epoch", 100),
    "loss": ("Training loss in nats a word, by epoch", 1),
    "reward": ("Reward of sampled captions, by epoch", 1),
    "val_loss": ("Validation loss in nats a word, by epoch", 1),
}


def hundred(value: float | None) -> str:
    """A fraction times 100, or a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}".replace("-", "−")


def tiles(data: ReportData) -> str:
    """The headline figures, with their intervals."""
    known = [key for key in HEADLINES if data.metrics.get(key) is not None][:4]
    return "\n".join(_tile(data, key) for key in known)


def _tile(data: ReportData, key: str) -> str:
    row, bounds = row_of(key), _bounds(data, key)
    under = f"95% interval {bounds}" if bounds else escape(row.tells)
    value = hundred(data.metrics[key])
    return f'<div class="tile"><p>{escape(row.name)}</p><p class="value">{value}</p><p>{under}</p></div>'


def scores(data: ReportData) -> str:
    """The table of all metrics, beside the same metrics of other captions."""
    heads = "".join(f'<th class="number" scope="col">{escape(name)}</th>' for name in data.others)
    rest = dict.fromkeys(key for key in data.metrics if key not in AGREEMENT and key not in TRUTH)
    groups = (("Agreement with references", AGREEMENT), ("Truth", TRUTH), ("More", {key: Row(key, "") for key in rest}))
    body = []
    for title, rows in groups:
        shown = [key for key in rows if key in data.metrics and (data.metrics[key] is not None or key in data.notes)]
        if shown:
            body.append(f'<tr class="group"><th colspan="{5 + len(data.others)}" scope="colgroup">{title}</th></tr>')
            body += [_score(data, key) for key in shown]
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">Metric</th><th class="number" scope="col">Test</th>'
        f'<th scope="col">95% interval</th><td></td>{heads}<th scope="col">What it tells</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def row_of(key: str) -> Row:
    """Display name and meaning of a metric by its key."""
    return AGREEMENT.get(key) or TRUTH.get(key) or Row(key, "")


def _score(data: ReportData, key: str) -> str:
    row, value = row_of(key), data.metrics[key]
    if value is None:
        note, span = escape(data.notes.get(key, "not computed")), 4 + len(data.others)
        return f'<tr><th scope="row">{escape(row.name)}</th><td class="none" colspan="{span}">{note}</td></tr>'
    others = "".join(f'<td class="number">{hundred(metrics.get(key))}</td>' for metrics in data.others.values())
    cells = [
        f'<th scope="row">{escape(row.name)}</th>',
        f'<td class="number">{hundred(value)}</td>',
        f"<td>{_bounds(data, key)}</td>",
        f"<td>{_range(data, key, value, row.top)}</td>",
        others,
        f'<td class="none">{escape("; ".join(filter(None, (row.tells, data.notes.get(key)))))}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _bounds(data: ReportData, key: str) -> str:
    low, high = data.intervals.get(f"{key}_low"), data.intervals.get(f"{key}_high")
    return "" if low is None or high is None else f"{hundred(low)} to {hundred(high)}"


def _range(data: ReportData, key: str, value: float, top: float) -> str:
    """The value, and its interval, on a bar from 0 to `top`."""
    ends = (data.intervals.get(f"{key}_{end}", value) for end in ("low", "high"))
    low, high, middle = (100 * min(max(number / top, 0), 1) for number in (*ends, value))
    return (
        f'<span class="range" aria-hidden="true"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<b style="left:{middle:.1f}%"></b></span>'
    )


def behaviour(data: ReportData) -> str:
    """Properties of the captions: a section, or nothing."""
    entries = []
    for key, value in data.behaviour.items():
        if key in data.metrics or value is None:
            continue  # shown among the scores, with its interval; or not computed
        whole = key in ("captions", "distinct_captions", "words_used", "captions_an_image")
        shown = f"{value:,.0f}" if whole else f"{value:.1f}" if key == "mean_length" else f"{hundred(value)}%"
        name = BEHAVIOUR.get(key, key.replace("_", " "))
        entries.append(f"<div><dt>{escape(name)}</dt><dd>{shown}</dd></div>")
    return section("behaviour", "Behaviour", f'<dl class="habits">{"".join(entries)}</dl>') if entries else ""


def curves(data: ReportData) -> str:
    """Learning curves: a section of charts, or nothing."""
    figures = []
    for key, (title, scale) in CURVES.items():
        lines = {
            stage: [Point(row["epoch"], scale * row[key]) for row in rows if row.get(key) is not None]
            for stage, rows in data.curves.items()
            if not (key == "loss" and stage == "reinforce")  # it is of rewards, which are no nats
        }
        lines = {stage: _best_ringed(line) if key == "cider" else line for stage, line in lines.items() if line}
        figures.append(figure(title, line_chart(title, lines, "epoch", key)))
    charts = "".join(figures)
    return section("curves", "Training", f'<div class="charts">{charts}</div>') if charts else ""


def _best_ringed(line: list[Point]) -> list[Point]:
    best = max(line, key=lambda point: point.y)
    return [point._replace(best=point is best) for point in line]


def sweep(data: ReportData) -> str:
    """Quality against time for each decoding: a section of a chart and a table, or nothing."""
    if not data.sweep:
        return ""
    lines: dict[str, list[Point]] = {}
    for row in data.sweep:
        beam = f"{row['beam']:g}" if row["method"].startswith("beam") else ""
        plain = row["method"] == f"beam {beam}"  # otherwise it is named with what else it changes
        line = f"penalty {row['length_penalty']:g}" if plain else row["method"]
        lines.setdefault(line, []).append(Point(row["milliseconds"], 100 * row["cider"], beam, bool(row["best"])))
    title = "CIDEr-D on val against milliseconds an image; numbers are beam widths"
    rows = "".join(
        f'<tr{" class=best" if row["best"] else ""}><th scope="row">{escape(row["method"])}</th>'
        f'<td class="number">{row["length_penalty"]:g}</td><td class="number">{hundred(row["cider"])}</td>'
        f'<td class="number">{hundred(row["bleu4"])}</td><td class="number">{row["milliseconds"]:.1f}</td>'
        f"<td>{'best' if row['best'] else ''}</td></tr>"
        for row in data.sweep
    )
    heads = "".join(f'<th class="number" scope="col">{h}</th>' for h in ("Penalty", "CIDEr-D", "BLEU-4", "ms"))
    heads = f'<tr><th scope="col">Search</th>{heads}<td></td></tr>'
    table = f'<div class="scroll"><table><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'
    chart = figure(title, line_chart(title, lines, "milliseconds an image", "CIDEr-D"))
    return section("sweep", "Decoding", f'<div class="charts">{chart}{table}</div>')


def figure(title: str, svg: str) -> str:
    """A chart with its title, or nothing."""
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" if svg else ""


def section(name: str, title: str, content: str) -> str:
    """A section of the page, a target of `links`."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>\n{content}\n</section>'
    )


def links(sections: Mapping[str, str]) -> str:
    """Links to the sections that are not empty."""
    return " ".join(f'<a href="#{name}">{title}</a>' for name, title in _present(sections))


def _present(sections: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    titles = {
        "behaviour": "Behaviour", "confidence": "Confidence", "slices": "Slices", "curves": "Training",
        "sweep": "Decoding",
    }  # fmt: skip
    return ((name, titles[name]) for name, content in sections.items() if content)
