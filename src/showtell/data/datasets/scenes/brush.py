"""A small painter: smooth shapes in a thing's own coordinates, antialiased by drawing large, then shaded.

Coordinates: x to the right, y down, in the units of `Kind.shape`. Colours: (red, green, blue), 0-255.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

OVERSAMPLE = 3  # drawn three times too large, then averaged: smooth edges
Point = tuple[float, float]
Colour = tuple[float, float, float]


def tone(colour: Colour, amount: float) -> Colour:
    """The colour made darker (amount < 0, -1 is black) or lighter (amount > 0, 1 is white)."""
    goal, share = (255.0, amount) if amount > 0 else (0.0, -amount)
    red, green, blue = (channel + (goal - channel) * share for channel in colour)
    return red, green, blue


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in the one."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def spline(points: Sequence[Point], closed: bool = True, steps: int = 7) -> list[Point]:
    """A smooth curve (Catmull-Rom) through the points."""
    count = len(points)
    curve: list[Point] = []
    for index in range(count if closed else count - 1):
        if closed:
            a, b, c, d = (points[(index + k - 1) % count] for k in range(4))
        else:
            a, b, c, d = (points[min(max(index + k - 1, 0), count - 1)] for k in range(4))
        for step in range(steps):
            t = step / steps
            curve.append(tuple(_catmull_rom(a[i], b[i], c[i], d[i], t) for i in (0, 1)))  # type: ignore[arg-type]
    if not closed:
        curve.append(points[-1])
    return curve


def _catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


class Brush:
    """Paints one thing on a transparent layer of its own.

    `unit` is how many picture pixels one unit of the thing's coordinates takes. The layer has a margin on every
    side, so that a tilted thing is not cut.
    """

    def __init__(self, shape: tuple[float, float], unit: float, flip: bool = False, tilt: float = 0.0) -> None:
        width, height = shape
        self.scale = unit * OVERSAMPLE
        self.margin = 0.16 * max(width, height)
        self.flip, self.shape = flip, shape
        self.cos, self.sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        pixels = [max(1, math.ceil((side + 2 * self.margin) * unit)) * OVERSAMPLE for side in shape]
        self.image = Image.new("RGBA", (pixels[0], pixels[1]))
        self.draw = ImageDraw.Draw(self.image)

    def place(self, point: Point) -> Point:
        """Where a point of the thing lies on the layer, in oversampled pixels."""
        width, height = self.shape
        x, y = point[0] - width / 2, point[1] - height  # turned about the middle of the feet
        if self.flip:
            x = -x
        x, y = x * self.cos - y * self.sin, x * self.sin + y * self.cos
        return (x + width / 2 + self.margin) * self.scale, (y + height + self.margin) * self.scale

    def poly(self, points: Sequence[Point], colour: Colour, opacity: float = 1.0) -> None:
        fill = (*(min(255, max(0, round(channel))) for channel in colour), round(255 * opacity))
        placed = [self.place(point) for point in points]
        if opacity == 1.0:
            self.draw.polygon(placed, fill=fill)
            return
        veil = Image.new("RGBA", self.image.size)
        ImageDraw.Draw(veil).polygon(placed, fill=fill)
        self.image.alpha_composite(veil)

    def blob(self, points: Sequence[Point], colour: Colour, opacity: float = 1.0) -> None:
        """A smooth closed shape through the points."""
        self.poly(spline(points), colour, opacity)

    def oval(self, x: float, y: float, across: float, down: float, colour: Colour,
             turn: float = 0.0, opacity: float = 1.0) -> None:
        """An ellipse about (x, y) with half-axes `across` and `down`, turned by `turn` degrees."""
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        points = []
        for step in range(36):
            angle = 2 * math.pi * step / 36
            u, v = across * math.cos(angle), down * math.sin(angle)
            points.append((x + u * cos - v * sin, y + u * sin + v * cos))
        self.poly(points, colour, opacity)

    def line(self, points: Sequence[Point], width: float, colour: Colour, taper: float = 1.0) -> None:
        """A stroke with round ends through straight pieces; its width shrinks to `taper` of itself at the end."""
        last = len(points) - 1
        for index, (start, end) in enumerate(pairwise(points)):
            one = width / 2 * (1 + (taper - 1) * index / last)
            two = width / 2 * (1 + (taper - 1) * (index + 1) / last)
            long = math.dist(start, end) or 1e-6
            nx, ny = (end[1] - start[1]) / long, (start[0] - end[0]) / long
            self.poly([(start[0] + nx * one, start[1] + ny * one), (end[0] + nx * two, end[1] + ny * two),
                       (end[0] - nx * two, end[1] - ny * two), (start[0] - nx * one, start[1] - ny * one)], colour)
            self._dot(start, one, colour)
            self._dot(end, two, colour)

    def curve(self, points: Sequence[Point], width: float, colour: Colour, taper: float = 1.0) -> None:
        """A stroke with round ends along a smooth curve through the points."""
        self.line(spline(points, closed=False, steps=5), width, colour, taper)

    def _dot(self, centre: Point, radius: float, colour: Colour) -> None:
        x, y = self.place(centre)
        r = radius * self.scale
        if r >= 0.7:
            fill = (*(min(255, max(0, round(channel))) for channel in colour), 255)
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def finish(self, light: float, noise: np.ndarray) -> Image.Image:
        """The layer at picture size, rounded by light from above and `light` (-1 one side, 1 the other), grainy.

        `noise` is any array of numbers around 0, at least as large as the layer.
        """
        size = self.image.width // OVERSAMPLE, self.image.height // OVERSAMPLE
        small = self.image.resize(size, Image.Resampling.BOX)
        reach = max(1.0, 0.05 * max(small.size))
        thick = np.asarray(small.getchannel("A").filter(ImageFilter.GaussianBlur(reach)), np.float32) / 255
        toward = np.roll(thick, (round(reach), round(-light * reach)), (0, 1))  # how much of the thing lies lightward
        pixels = np.array(small, np.float32)
        shade = 1.14 - 0.42 * (toward - thick) * 1.6 - 0.16 * np.linspace(0, 1, small.height, dtype=np.float32)[:, None]
        shade += 0.035 * noise[: small.height, : small.width]
        pixels[..., :3] = np.clip(pixels[..., :3] * shade[..., None], 0, 255)
        return Image.fromarray(pixels.astype(np.uint8), "RGBA")
