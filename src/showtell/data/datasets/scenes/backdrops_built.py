"""Backdrops that people built: street, city at night, room; and the table of all painters."""

from collections.abc import Callable

from showtell.data.datasets.scenes import backdrops
from showtell.data.datasets.scenes.backdrops import sky, tinted
from showtell.data.datasets.scenes.brush import Colour, mix, tone
from showtell.data.datasets.scenes.canvas import Canvas
from showtell.data.datasets.scenes.structure import Backdrop

WALLS: dict[str, Colour] = {
    "white": (238, 234, 226), "yellow": (244, 222, 150), "blue": (160, 192, 220), "green": (170, 204, 170),
    "pink": (240, 198, 200), "grey": (188, 192, 198),
}  # fmt: skip
FACADES: tuple[Colour, ...] = ((196, 140, 112), (216, 190, 152), (160, 164, 176), (186, 108, 92), (204, 204, 196),
                               (142, 156, 148))


def _house(c: Canvas, left: float, right: float, top: float, foot: float, wall: Colour, lit: float) -> None:
    """A building with rows of windows; `lit` is the share of windows with light in them."""
    rng = c.rng
    c.box(left, top, right, foot, wall)
    c.box(left, top, right, top + 0.012, tone(wall, -0.25))
    columns, rows = max(2, round((right - left) / 0.065)), max(2, round((foot - top) / 0.085))
    wide, high = (right - left) / columns, (foot - top - 0.02) / rows
    pane: Colour = (120, 150, 172) if not lit else tone(wall, -0.45)
    for row in range(rows):
        for column in range(columns):
            x, y = left + wide * (column + 0.24), top + 0.02 + high * (row + 0.16)
            colour = (252, 218, 130) if rng.random() < lit else tone(pane, rng.uniform(-0.12, 0.2))
            c.box(x, y, x + wide * 0.52, y + high * 0.62, colour)


def _row_of_houses(
    c: Canvas, drop: Backdrop, walls: tuple[Colour, ...], heights: tuple[float, float], lit: float
) -> None:
    left = -c.rng.uniform(0, 0.1)
    while left < 1:
        right = left + c.rng.uniform(0.14, 0.28)
        wall = tinted(tone(c.rng.choice(walls), c.rng.uniform(-0.1, 0.1)), drop.time if not lit else "day")
        _house(c, left, right, drop.horizon - c.rng.uniform(*heights), drop.horizon, wall, lit)
        left = right


def _road(c: Canvas, drop: Backdrop, asphalt: Colour, pavement: Colour) -> None:
    kerb = drop.shore
    c.gradient(drop.horizon, kerb, tone(pavement, 0.05), tone(pavement, -0.1))
    c.grain(drop.horizon, kerb, 0.03)
    backdrops.ground(c, kerb, asphalt, 0.04)
    c.line([(0, kerb), (1, kerb)], 0.012, tone(pavement, 0.25))
    middle, gap = kerb + (1 - kerb) * 0.52, c.rng.uniform(0.16, 0.24)
    start = c.rng.uniform(-0.2, 0)
    mark = mix(asphalt, (250, 246, 224), 0.75)
    while start < 1:
        c.poly([(start, middle), (start + gap * 0.55, middle), (start + gap * 0.55 - 0.012, middle + 0.016),
                (start - 0.012, middle + 0.016)], mark)
        start += gap


def street(c: Canvas, drop: Backdrop) -> None:
    sky(c, drop)
    _row_of_houses(c, drop, FACADES, (0.2, 0.42), 0.0)
    _road(c, drop, tinted((112, 114, 120), drop.time), tinted((190, 186, 178), drop.time))


def city(c: Canvas, drop: Backdrop) -> None:
    sky(c, drop)
    far = Backdrop(drop.setting, drop.time, drop.horizon - 0.04, drop.shore, drop.sun, 0, "")
    _row_of_houses(c, far, ((48, 52, 88), (40, 46, 76)), (0.22, 0.4), 0.3)
    _row_of_houses(c, drop, ((34, 36, 58), (46, 42, 62), (30, 40, 58)), (0.1, 0.3), 0.45)
    _road(c, drop, (58, 60, 76), (86, 84, 98))
    for _ in range(5):
        x = c.rng.random()
        c.glow(x, drop.shore + c.rng.uniform(0.02, 0.3), 0.1, c.rng.choice(((250, 206, 120), (240, 160, 110))), 0.22)


def room(c: Canvas, drop: Backdrop) -> None:
    rng, wall = c.rng, WALLS[drop.wall]
    c.gradient(0, drop.horizon, tone(wall, 0.08), tone(wall, -0.06))
    if rng.random() < 0.35:
        stripe = tone(wall, -0.05)
        for step in range(10):
            c.box(step / 10, 0, step / 10 + 0.05, drop.horizon, stripe)
    floor: Colour = rng.choice(((182, 134, 88), (150, 106, 70), (198, 176, 146), (170, 160, 150)))
    backdrops.ground(c, drop.horizon, floor, 0.03, 2.0)
    if rng.random() < 0.7:
        for step in range(-6, 18):  # boards run towards the viewer
            c.line([(0.5 + (step / 12 - 0.5) * 0.75, drop.horizon), (0.5 + (step / 12 - 0.5) * 1.7, 1)], 0.004,
                   tone(floor, -0.16))
    c.box(0, drop.horizon - 0.025, 1, drop.horizon, tone(wall, 0.5))
    if drop.feature in ("window", "both"):
        _window(c, drop)
    if drop.feature in ("painting", "both"):
        x = drop.sun + 0.5 if drop.sun < 0.4 else drop.sun - 0.45
        _painting(c, x, rng.uniform(0.13, 0.2))
    if drop.shore > drop.horizon:  # a rug
        rug: Colour = rng.choice(((176, 84, 78), (92, 118, 158), (206, 184, 142), (120, 148, 122)))
        y, x = drop.shore, rng.uniform(0.35, 0.65)
        c.oval(x, y, 0.42, 0.13, tone(rug, -0.2))
        c.oval(x, y, 0.40, 0.118, rug)
        c.oval(x, y, 0.31, 0.085, tone(rug, 0.25))
        c.oval(x, y, 0.29, 0.076, rug)


def _window(c: Canvas, drop: Backdrop) -> None:
    x, wide, top, low = drop.sun, c.rng.uniform(0.12, 0.16), 0.07, min(0.38, drop.horizon - 0.16)
    c.box(x - wide - 0.018, top - 0.018, x + wide + 0.018, low + 0.024, (246, 244, 238))
    c.box(x - wide, top, x + wide, low, (174, 212, 238))
    c.oval(x - wide * 0.3, low - 0.002, wide * 0.5, 0.03, (150, 192, 150))
    c.box(x - wide, low, x + wide, low + 0.03, (246, 244, 238))
    c.line([(x, top), (x, low)], 0.012, (246, 244, 238))
    c.line([(x - wide, (top + low) / 2), (x + wide, (top + low) / 2)], 0.012, (246, 244, 238))
    if c.rng.random() < 0.6:
        curtain: Colour = c.rng.choice(((214, 130, 110), (126, 150, 190), (226, 206, 160), (150, 176, 140)))
        for side in (-1, 1):
            c.poly([(x + side * (wide + 0.04), top - 0.03), (x + side * wide * 0.55, top - 0.03),
                    (x + side * wide * 0.8, low + 0.04), (x + side * (wide + 0.04), low + 0.04)], curtain)


def _painting(c: Canvas, x: float, y: float) -> None:
    rng = c.rng
    wide, high = rng.uniform(0.07, 0.1), rng.uniform(0.06, 0.08)
    c.box(x - wide, y - high, x + wide, y + high, rng.choice(((120, 84, 56), (60, 56, 58), (206, 176, 110))))
    views = (((150, 190, 220), (90, 140, 96)), ((244, 206, 150), (196, 110, 90)), ((220, 216, 230), (110, 110, 160)))
    one, two = rng.choice(views)
    c.box(x - wide + 0.014, y - high + 0.014, x + wide - 0.014, y + high - 0.014, one)
    c.poly([(x - wide + 0.014, y + high - 0.014), (x - wide * 0.2, y - high * 0.1), (x + wide * 0.3, y + high * 0.4),
            (x + wide * 0.6, y + high * 0.1), (x + wide - 0.014, y + high - 0.014)], two)


PAINTERS: dict[str, Callable[[Canvas, Backdrop], None]] = {
    "beach": backdrops.beach, "field": backdrops.field, "street": street, "snow": backdrops.snow,
    "sea": backdrops.sea, "lake": backdrops.lake, "room": room, "city": city, "forest": backdrops.forest,
    "desert": backdrops.desert, "park": backdrops.park,
}  # fmt: skip
