"""Small line charts as SVG that use the page's colours, so that they follow its light and dark modes."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 96, 14, 40  # margins, pixels; the right one has the names of lines


class Point(NamedTuple):
    """A point of a line; `label` is written above or `below` it, `best` draws a ring around it."""

    x: float
    y: float
    label: str = ""
    best: bool = False
    below: bool = False


def line_chart(
    name: str, lines: Mapping[str, Sequence[Point]], x_title: str, y_title: str, guides: Sequence[str] = ()
) -> str:
    """A chart of named lines through points, as an SVG element; "" when there is no point. Lines in `guides` are drawn
    faintly, for comparison."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    x_ticks = ticks([p.x for p in points], 6, whole=all(p.x == int(p.x) for p in points))
    y_ticks = ticks([p.y for p in points], 5)
    frame = _Frame(x_ticks, y_ticks)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">',
        *frame.grid(x_title, y_title),
    ]
    names = _spread([(frame.y(line[-1].y), key) for key, line in lines.items() if line])
    guides_first = sorted(enumerate(lines.items()), key=lambda numbered: numbered[1][0] not in guides)
    for number, (key, line) in guides_first:  # what is drawn later covers it
        if line:
            drawn = _guide if key in guides else _line
            parts.append(drawn(frame, number, key, line, names[key], x_title, y_title))
    return "\n".join([*parts, "</svg>"])


class _Frame:
    """Maps values to pixels."""

    def __init__(self, x_ticks: Sequence[float], y_ticks: Sequence[float]):
        self.x_ticks, self.y_ticks = x_ticks, y_ticks

    def x(self, value: float) -> float:
        share = (value - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self, x_title: str, y_title: str) -> list[str]:
        right, floor_ = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for value in self.y_ticks:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        for value in self.x_ticks:
            x = self.x(value)
            parts.append(f'<text class="tick" x="{x}" y="{floor_ + 17}" text-anchor="middle">{value:g}</text>')
        middle = (LEFT + right) / 2
        parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_title)}</text>')
        return parts


def _line(
    frame: _Frame, number: int, key: str, line: Sequence[Point], name_y: float, x_title: str, y_title: str
) -> str:
    path = " ".join(f"{frame.x(p.x)},{frame.y(p.y)}" for p in line)
    parts = [f'<g class="series series-{number % 4}"><polyline points="{path}"/>']
    for p in line:
        x, y, value = frame.x(p.x), frame.y(p.y), p.label or f"{p.x:g}"
        if p.best:
            parts.append(f'<circle class="ring" cx="{x}" cy="{y}" r="8"/>')
        what = escape(f"{key}, {x_title} {value}: {y_title} {p.y:.4g}" + (" (best)" if p.best else ""))
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.5"><title>{what}</title></circle>')
        if p.label:
            beside = y + 20 if p.below else y - 11
            parts.append(f'<text class="mark" x="{x}" y="{beside:.1f}" text-anchor="middle">{escape(p.label)}</text>')
    parts.append(f'<text class="name" x="{frame.x(line[-1].x) + 12}" y="{name_y + 4}">{escape(key)}</text></g>')
    return "".join(parts)


def _guide(
    frame: _Frame, number: int, key: str, line: Sequence[Point], name_y: float, x_title: str, y_title: str
) -> str:
    path = " ".join(f"{frame.x(p.x)},{frame.y(p.y)}" for p in line)
    name = f'<text class="tick" x="{frame.x(line[-1].x) + 12}" y="{name_y + 4}">{escape(key)}</text>'
    return f'<polyline class="guide" points="{path}"/>{name}'


def _spread(places: Sequence[tuple[float, str]], apart: float = 15) -> dict[str, float]:
    """Heights for the names of lines, near the ends of the lines and without overlap."""
    heights: dict[str, float] = {}
    last = -apart
    for y, key in sorted(places):
        last = max(y, last + apart)
        heights[key] = last
    return heights


def ticks(values: Sequence[float], count: int, whole: bool = False) -> list[float]:
    """About `count` round numbers that cover the range of `values`; at least two."""
    low, high = min(values), max(values)
    rough = max((high - low) / count, abs(high) * 1e-6, 1e-9)
    size = 10 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    if whole:
        step = max(1, ceil(step))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]
