"""Small line charts as SVG that use the page's colours, so that they follow its light and dark modes."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 96, 14, 40  # margins, pixels; the right one has the names of lines
APART = 15  # pixels between the names of lines


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
    drawn = {key: line for key, line in lines.items() if line}
    marks = [_mark(frame, point) for line in drawn.values() for point in line if point.label]
    heights = _spread([(*_end(frame, line), key) for key, line in drawn.items()], marks)
    series = {key: f"series series-{number % 4}" for number, key in enumerate(lines) if key not in guides}
    for key, line in drawn.items():
        parts.append(_line(frame, key, line, series[key], x_title, y_title) if key in series else _guide(frame, line))
    for key, line in drawn.items():  # last, since text covers what it crosses
        parts.append(_labels(frame, key, line, series.get(key), heights[key]))
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


def _line(frame: _Frame, key: str, line: Sequence[Point], style: str, x_title: str, y_title: str) -> str:
    path = " ".join(f"{frame.x(p.x)},{frame.y(p.y)}" for p in line)
    parts = [f'<g class="{style}"><polyline points="{path}"/>']
    for p in line:
        x, y, value = frame.x(p.x), frame.y(p.y), p.label or f"{p.x:g}"
        if p.best:
            parts.append(f'<circle class="ring" cx="{x}" cy="{y}" r="8"/>')
        what = escape(f"{key}, {x_title} {value}: {y_title} {p.y:.4g}" + (" (best)" if p.best else ""))
        parts.append(f'<circle cx="{x}" cy="{y}" r="3.5"><title>{what}</title></circle>')
    return "".join([*parts, "</g>"])


def _guide(frame: _Frame, line: Sequence[Point]) -> str:
    path = " ".join(f"{frame.x(p.x)},{frame.y(p.y)}" for p in line)
    return f'<polyline class="guide" points="{path}"/>'


def _labels(frame: _Frame, key: str, line: Sequence[Point], style: str | None, name_y: float) -> str:
    """The points' labels, and the line's name at its end; `style` is None for a guide."""
    parts = [
        f'<text class="mark" x="{x}" y="{y:.1f}" text-anchor="middle">{escape(p.label)}</text>'
        for p in line
        if p.label
        for y, x in [_mark(frame, p)]
    ]
    kind = "name" if style else "tick"
    parts.append(f'<text class="{kind}" x="{_end(frame, line)[1] + 12}" y="{name_y + 4}">{escape(key)}</text>')
    return f'<g class="{style}">{"".join(parts)}</g>' if style else "".join(parts)


def _mark(frame: _Frame, point: Point) -> tuple[float, float]:
    """(y, x) of a point's label."""
    return frame.y(point.y) + (20 if point.below else -11), frame.x(point.x)


def _end(frame: _Frame, line: Sequence[Point]) -> tuple[float, float]:
    """(y, x) of a line's rightmost point, beside which its name stands."""
    last = max(line, key=lambda point: point.x)
    return frame.y(last.y), frame.x(last.x)


def _spread(places: Sequence[tuple[float, float, str]], marks: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Heights for the names of lines that end at (y, x): near the ends, without overlap of one another and of the
    `marks` (y, x) to the right of the ends."""
    found: list[tuple[float, float, str]] = []
    for y, x, key in sorted(places):
        taken = [height for height, other, _ in found if abs(other - x) < RIGHT]
        taken += [height for height, other in marks if 0 < other - x < RIGHT]
        for height in sorted(taken):
            if abs(height - y) < APART:
                y = height + APART
        found.append((y, x, key))
    return {key: height for height, _, key in found}


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
