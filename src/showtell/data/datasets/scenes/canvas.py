"""The surface that a backdrop is painted on: gradients, textured ground, soft shapes. Fractions of the picture."""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from showtell.data.datasets.scenes.brush import Colour, Point, spline, tone

OVERSAMPLE = 2
TILE = 1024


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    """Smooth noise around 0 with a spread of about 1, float32 (TILE, TILE), the same in every process."""
    generator = np.random.default_rng(7)
    total = np.zeros((TILE, TILE), np.float32)
    for cells, weight in ((1024, 0.55), (256, 0.5), (64, 0.5), (16, 0.45)):
        coarse = Image.fromarray(generator.standard_normal((cells, cells)).astype(np.float32))
        total += weight * np.asarray(coarse.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return total


def noise(width: int, height: int, rng: Random) -> np.ndarray:
    """A random piece of noise around 0, float32 (height, width); up to TILE on a side."""
    left, top = rng.randrange(TILE - width + 1), rng.randrange(TILE - height + 1)
    return _noise_tile()[top : top + height, left : left + width]


def eight_bit(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(channel))) for channel in colour)
    return red, green, blue


class Canvas:
    """An RGB picture under way, `OVERSAMPLE` times too large; coordinates are fractions of its side."""

    def __init__(self, size: int, rng: Random) -> None:
        self.side = size * OVERSAMPLE
        self.rng = rng
        self.image = Image.new("RGB", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.image)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.side, y * self.side) for x, y in points]

    def gradient(self, top: float, bottom: float, one: Colour, other: Colour) -> None:
        """A band across the picture that goes from one colour to the other."""
        rows = max(1, round((bottom - top) * self.side))
        ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
        column = np.asarray(one, np.float32) * (1 - ramp) + np.asarray(other, np.float32) * ramp
        band = Image.fromarray(np.clip(column, 0, 255).astype(np.uint8)[:, None, :])
        self.image.paste(band.resize((self.side, rows), Image.Resampling.NEAREST), (0, round(top * self.side)))

    def grain(self, top: float, bottom: float, strength: float, stretch: float = 4.0) -> None:
        """Roughen a band; the grain is `stretch` times wider than high and grows towards the bottom, as ground does."""
        first, last = round(top * self.side), min(self.side, round(bottom * self.side))
        rows = last - first
        if rows < 2:
            return
        wide = max(8, round(self.side / stretch))
        piece = noise(min(wide, TILE), min(rows, TILE), self.rng)
        lines = (np.linspace(0, 1, rows) ** 0.6 * (piece.shape[0] - 1)).astype(int)  # near rows repeat, far ones crowd
        across = np.linspace(0, piece.shape[1] - 1, self.side).astype(int)
        shade = 1 + strength * piece[lines][:, across]
        pixels = np.asarray(self.image.crop((0, first, self.side, last)), np.float32) * shade[..., None]
        self.image.paste(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), (0, first))

    def poly(self, points: Sequence[Point], colour: Colour) -> None:
        self.draw.polygon(self._scaled(points), fill=eight_bit(colour))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.poly([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def oval(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        s = self.side
        self.draw.ellipse(((x - across) * s, (y - down) * s, (x + across) * s, (y + down) * s), fill=eight_bit(colour))

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        self.draw.line(self._scaled(points), fill=eight_bit(colour), width=max(1, round(width * self.side)))

    def ridge(
        self, base: float, rise: float, colour: Colour, bumps: int, rough: float = 0.0, bottom: float = 1.0
    ) -> None:
        """A skyline of `bumps` soft (or, with `rough`, jagged) hills above `base`, filled down to `bottom`."""
        rng = self.rng
        heights = [base - rise * rng.uniform(0.15, 1) * (1 if step % 2 else 0.45) for step in range(2 * bumps + 1)]
        points = [(-0.1 + 1.2 * step / (2 * bumps), height) for step, height in enumerate(heights)]
        if rough:
            line = [(x + rng.uniform(-0.01, 0.01), y + rng.uniform(-rough, rough) * rise * 0.3) for x, y in
                    spline(points, closed=False, steps=5)]
        else:
            line = spline(points, closed=False, steps=9)
        self.poly([*line, (1.1, bottom), (-0.1, bottom)], colour)

    def glow(self, x: float, y: float, radius: float, colour: Colour, opacity: float = 1.0) -> None:
        """A soft round light."""
        small = 48
        span = np.linspace(-1, 1, small, dtype=np.float32)
        strength = np.clip(1 - np.hypot(*np.meshgrid(span, span)), 0, 1) ** 2 * 255 * opacity
        pixels = max(2, round(2 * radius * self.side))
        veil = Image.fromarray(strength.astype(np.uint8)).resize((pixels, pixels), Image.Resampling.BILINEAR)
        corner = (round((x - radius) * self.side), round((y - radius) * self.side))
        self.image.paste(Image.new("RGB", veil.size, eight_bit(colour)), corner, veil)

    def clouds(self, count: int, floor: float, colour: Colour) -> None:
        """Soft heaps of cloud above `floor`."""
        rng, side = self.rng, self.side // OVERSAMPLE  # drawn small: they are soft anyway
        veil = Image.new("L", (side, side))
        draw = ImageDraw.Draw(veil)
        for _ in range(count):
            x, y = rng.uniform(0, 1) * side, rng.uniform(0.04, max(0.06, floor - 0.08)) * side
            reach = rng.uniform(0.07, 0.17) * side
            for _ in range(rng.randint(4, 7)):
                dx, r = rng.uniform(-1, 1) * reach, rng.uniform(0.18, 0.42) * reach
                draw.ellipse((x + dx - r * 1.5, y - r, x + dx + r * 1.5, y + r * 0.6), fill=rng.randint(150, 235))
        veil = veil.filter(ImageFilter.GaussianBlur(side * 0.010)).resize(self.image.size, Image.Resampling.BILINEAR)
        self.image.paste(Image.new("RGB", self.image.size, eight_bit(colour)), (0, 0), veil)

    def pine(self, x: float, foot: float, tall: float, colour: Colour) -> None:
        """A fir tree."""
        wide = tall * self.rng.uniform(0.2, 0.28)
        self.box(x - tall * 0.03, foot - tall * 0.2, x + tall * 0.03, foot, tone(colour, -0.35))
        for layer in range(3):
            top = foot - tall * (1 - layer * 0.25)
            low, spread = foot - tall * (0.56 - layer * 0.21), wide * (0.6 + 0.2 * layer)
            self.poly([(x, top), (x + spread, low), (x - spread, low)], tone(colour, 0.1 - 0.06 * layer))

    def crown(self, x: float, foot: float, tall: float, colour: Colour) -> None:
        """A round leafy tree."""
        rng = self.rng
        self.box(x - tall * 0.05, foot - tall * 0.45, x + tall * 0.05, foot, (112, 82, 58))
        for dx, dy, r, light in ((0, 0.66, 0.3, -0.08), (-0.17, 0.56, 0.2, -0.02), (0.17, 0.58, 0.2, -0.12),
                                 (-0.06, 0.74, 0.2, 0.1)):
            self.oval(x + dx * tall, foot - dy * tall, r * tall * rng.uniform(0.9, 1.1), r * tall,
                      tone(colour, light))

    def finish(self) -> Image.Image:
        return self.image.reduce(OVERSAMPLE)
