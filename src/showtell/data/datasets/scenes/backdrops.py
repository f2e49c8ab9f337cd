"""Sky, land and water behind the things: one painter per outdoor setting."""

import math

from showtell.data.datasets.scenes.brush import Colour, mix, tone
from showtell.data.datasets.scenes.canvas import Canvas
from showtell.data.datasets.scenes.structure import Backdrop

# The sky's colours at the top and at the horizon, and how the land is tinted: colour and share.
SKIES: dict[str, tuple[tuple[Colour, Colour], ...]] = {
    "day": (((84, 152, 222), (198, 228, 246)), ((112, 178, 232), (222, 238, 246)), ((70, 136, 206), (174, 214, 238))),
    "dull": (((146, 156, 168), (206, 210, 214)), ((164, 170, 178), (220, 222, 222))),
    "sunset": (((92, 88, 156), (252, 176, 112)), ((150, 96, 140), (254, 196, 120)), ((74, 96, 160), (248, 150, 120))),
    "night": (((12, 18, 46), (44, 56, 104)), ((18, 16, 44), (62, 52, 98))),
}
TINTS: dict[str, tuple[Colour, float]] = {
    "day": ((255, 255, 255), 0.0),
    "dull": ((150, 156, 166), 0.18),
    "sunset": ((236, 138, 86), 0.2),
    "night": ((20, 28, 66), 0.5),
}


def tinted(colour: Colour, time: str) -> Colour:
    """A colour of the land as it looks at that time of day."""
    other, share = TINTS[time]
    return mix(colour, other, share)


def sky(c: Canvas, drop: Backdrop) -> Colour:
    """Sky, sun or moon, stars and clouds, down to the horizon. Returns the colour at the horizon, for haze."""
    top, low = c.rng.choice(SKIES[drop.time])
    c.gradient(0, drop.horizon + 0.02, top, low)
    if drop.time == "night":
        for _ in range(c.rng.randint(30, 70)):
            bright = c.rng.uniform(0.3, 1)
            c.oval(c.rng.random(), c.rng.uniform(0, drop.horizon), 0.0025 * bright + 0.001, 0.0025 * bright + 0.001,
                   mix(top, (255, 250, 226), bright))
        c.glow(drop.sun, 0.12, 0.14, (170, 180, 220), 0.4)
        c.oval(drop.sun, 0.12, 0.042, 0.042, (244, 240, 218))
    elif drop.time == "sunset":
        c.glow(drop.sun, drop.horizon - 0.05, 0.36, (255, 214, 140), 0.8)
        c.oval(drop.sun, drop.horizon - 0.05, 0.052, 0.052, (255, 236, 180))
    elif drop.time == "day":
        c.glow(drop.sun, 0.1, 0.17, (255, 250, 220), 0.8)
        c.oval(drop.sun, 0.1, 0.042, 0.042, (255, 246, 200))
    if drop.clouds:
        cloud = {"day": (255, 255, 255), "dull": (232, 234, 236), "sunset": (255, 206, 184), "night": (70, 78, 118)}
        c.clouds(drop.clouds, drop.horizon, cloud[drop.time])
    return low


def far_land(c: Canvas, drop: Backdrop, haze: Colour) -> None:
    """Hills, mountains or a line of trees at the horizon, paler than what is near."""
    rng, low = c.rng, drop.horizon + 0.01
    if drop.feature == "mountains":
        stone = tinted((112, 124, 150), drop.time)
        c.ridge(low, rng.uniform(0.16, 0.3), mix(stone, haze, 0.5), rng.randint(2, 3), rough=0.5, bottom=low)
        c.ridge(low, rng.uniform(0.1, 0.18), mix(stone, haze, 0.25), rng.randint(3, 4), rough=0.5, bottom=low)
    elif drop.feature == "hills":
        grass = tinted((104, 150, 100), drop.time)
        c.ridge(low, rng.uniform(0.1, 0.18), mix(grass, haze, 0.5), 2, bottom=low)
        c.ridge(low, rng.uniform(0.05, 0.1), mix(grass, haze, 0.25), 3, bottom=low)
    elif drop.feature == "trees":
        leaf = tinted(rng.choice(((70, 124, 70), (96, 140, 66), (58, 108, 84))), drop.time)
        tree = c.pine if rng.random() < 0.5 or drop.setting == "snow" else c.crown
        for step in range(rng.randint(9, 15)):
            shade = mix(tone(leaf, rng.uniform(-0.12, 0.1)), haze, rng.uniform(0.15, 0.4))
            tree((step + rng.random()) / 12 - 0.05, low + 0.005, rng.uniform(0.1, 0.2), shade)


def ground(c: Canvas, top: float, colour: Colour, rough: float, stretch: float = 3.0) -> None:
    """Land from `top` down, darker towards the viewer."""
    c.gradient(top, 1.0, tone(colour, 0.16), tone(colour, -0.14))
    c.grain(top, 1.0, rough, stretch)


def tufts(c: Canvas, top: float, colour: Colour, count: int) -> None:
    """Blades of grass, larger when nearer."""
    for _ in range(count):
        near = c.rng.random()
        x, y, tall = c.rng.random(), top + (1 - top) * near, 0.012 + 0.03 * near
        for lean in (-0.5, 0.1, 0.6):
            c.line([(x, y), (x + lean * tall * 0.6, y - tall)], 0.004, tone(colour, c.rng.uniform(-0.3, 0.25)))


def water(c: Canvas, top: float, bottom: float, drop: Backdrop, haze: Colour) -> None:
    """Water with waves that are larger when nearer, taking the sky's colour far off."""
    deep = tinted(c.rng.choice(((30, 110, 160), (24, 128, 150), (44, 96, 150))), drop.time)
    c.gradient(top, bottom, mix(deep, haze, 0.45), deep)
    c.grain(top, bottom, 0.05, 1.4)
    rows = max(3, round((bottom - top) * 34))
    for row in range(rows):
        near = (row + c.rng.random()) / rows
        y = top + (bottom - top) * near**1.3
        for _ in range(3):
            x, long = c.rng.random(), (0.03 + 0.1 * near) * c.rng.uniform(0.5, 1.3)
            wave = [(x + long * k / 6, y - 0.005 * (1 + near) * math.sin(math.pi * k / 6)) for k in range(7)]
            c.line(wave, 0.003 + 0.003 * near, mix(deep, (255, 255, 255), c.rng.uniform(0.15, 0.45)))
    if drop.time in ("sunset", "night"):
        light = (255, 220, 160) if drop.time == "sunset" else (190, 196, 220)
        for _ in range(16):
            near = c.rng.random()
            x, y = drop.sun + c.rng.uniform(-0.05, 0.05) * (0.5 + near), top + (bottom - top) * near
            c.line([(x - 0.03, y), (x + 0.03, y)], 0.004, mix(deep, light, 0.7))


def beach(c: Canvas, drop: Backdrop) -> None:
    haze = sky(c, drop)
    far_land(c, drop, haze)
    water(c, drop.horizon, drop.shore + 0.03, drop, haze)
    sand = tinted(c.rng.choice(((232, 208, 158), (238, 216, 176), (222, 192, 142))), drop.time)
    line = [(x / 10, drop.shore + 0.014 * math.sin(x * c.rng.uniform(0.8, 1.4) + drop.sun * 9)) for x in range(11)]
    lower = drop.shore + 0.03
    ground(c, lower, sand, 0.035)
    c.poly([*line, (1, lower + 0.01), (0, lower + 0.01)], tone(sand, 0.1))
    c.line(line, 0.016, tinted((250, 250, 246), drop.time))
    c.line([(x, y + 0.022) for x, y in line], 0.012, tone(sand, -0.16))


def field(c: Canvas, drop: Backdrop) -> None:
    far_land(c, drop, sky(c, drop))
    grass = tinted(c.rng.choice(((110, 168, 76), (128, 176, 72), (156, 172, 84), (92, 156, 80))), drop.time)
    ground(c, drop.horizon, grass, 0.06)
    tufts(c, drop.horizon + 0.03, grass, 70)
    if drop.feature == "fence":
        wood = tinted((196, 176, 150), drop.time)
        y, gap = drop.horizon + 0.05, c.rng.uniform(0.07, 0.1)
        for rail in (0, 0.03):
            c.line([(0, y - rail), (1, y - rail)], 0.009, wood)
        for post in range(int(1 / gap) + 1):
            c.box(post * gap, y - 0.055, post * gap + 0.012, y + 0.03, tone(wood, -0.12))


def snow(c: Canvas, drop: Backdrop) -> None:
    haze = sky(c, drop)
    far_land(c, drop, haze)
    white = tinted((236, 242, 250), drop.time)
    c.gradient(drop.horizon, 1.0, mix(white, haze, 0.25), tone(white, 0.1))
    for _ in range(3):
        y = c.rng.uniform(drop.horizon + 0.05, 0.95)
        c.oval(c.rng.random(), y + 0.06, c.rng.uniform(0.2, 0.5), 0.07, mix(white, (176, 198, 228), 0.2))
        c.oval(c.rng.random(), y + 0.07, c.rng.uniform(0.2, 0.5), 0.07, white)
    c.grain(drop.horizon, 1, 0.015)


def sea(c: Canvas, drop: Backdrop) -> None:
    haze = sky(c, drop)
    if drop.feature == "island":
        x, wide = c.rng.random(), c.rng.uniform(0.1, 0.2)
        rock = mix(tinted((96, 120, 100), drop.time), haze, 0.35)
        c.oval(x, drop.horizon + 0.02, wide, 0.07, rock)
        c.oval(x + wide * 0.6, drop.horizon + 0.02, wide * 0.7, 0.045, tone(rock, -0.1))
    water(c, drop.horizon, 1, drop, haze)


def lake(c: Canvas, drop: Backdrop) -> None:
    haze = sky(c, drop)
    far_land(c, drop, haze)
    bank = tinted((110, 152, 84), drop.time)
    c.box(0, drop.horizon, 1, drop.horizon + 0.03, bank)
    c.line([(0, drop.horizon + 0.03), (1, drop.horizon + 0.03)], 0.01, tone(bank, -0.3))
    water(c, drop.horizon + 0.035, 1, drop, mix(haze, bank, 0.4))
    reed = tinted((96, 132, 66), drop.time)
    for _ in range(c.rng.randint(0, 16)):
        x, side = c.rng.uniform(0, 0.12), c.rng.random() < 0.5
        x = x if side else 1 - x
        tip = (x + c.rng.uniform(-0.02, 0.02), c.rng.uniform(0.82, 0.92))
        c.line([(x, 1.0), tip], 0.007, tone(reed, c.rng.uniform(-0.2, 0.2)))


def forest(c: Canvas, drop: Backdrop) -> None:
    haze = mix(sky(c, drop), tinted((150, 180, 140), drop.time), 0.6)
    rng = c.rng
    leaf = tinted(rng.choice(((48, 96, 60), (64, 110, 56), (40, 84, 66))), drop.time)
    soil = tinted(rng.choice(((118, 124, 70), (126, 106, 72), (98, 122, 70))), drop.time)
    c.box(0, drop.horizon - 0.16, 1, drop.horizon, mix(leaf, haze, 0.5))
    ground(c, drop.horizon - 0.02, soil, 0.09, 2.0)
    pines = rng.random() < 0.6
    for row, (share, low, high) in enumerate(((0.55, 0.3, 0.45), (0.3, 0.4, 0.6), (0.05, 0.5, 0.75))):
        for step in range(9 - 2 * row):
            x = (step + rng.random()) / (9 - 2 * row)
            shade = mix(tone(leaf, rng.uniform(-0.15, 0.12)), haze, share)
            foot = drop.horizon + 0.005 + 0.015 * row
            if pines:
                c.pine(x, foot, rng.uniform(low, high), shade)
            else:
                c.crown(x, foot, rng.uniform(low, high) * 0.9, shade)
    tufts(c, drop.horizon + 0.05, mix(soil, leaf, 0.5), 40)


def desert(c: Canvas, drop: Backdrop) -> None:
    haze = sky(c, drop)
    sand = tinted(c.rng.choice(((226, 178, 116), (232, 190, 130), (214, 156, 102))), drop.time)
    if drop.feature == "mountains":
        c.ridge(drop.horizon + 0.01, 0.2, mix(tinted((176, 108, 84), drop.time), haze, 0.3), 3, rough=0.5,
                bottom=drop.horizon + 0.02)
    else:
        c.ridge(drop.horizon + 0.02, 0.12, mix(sand, haze, 0.35), 2)
    ground(c, drop.horizon, sand, 0.035, 2.0)
    c.ridge(drop.horizon + 0.1, 0.06, tone(sand, 0.1), 1, bottom=drop.horizon + 0.12)
    ground(c, drop.horizon + 0.11, sand, 0.03, 2.0)
    if drop.feature == "cactuses":
        for _ in range(c.rng.randint(2, 4)):
            _cactus(c, c.rng.uniform(0.03, 0.97), drop.horizon + c.rng.uniform(0.02, 0.08), c.rng.uniform(0.13, 0.22),
                    tinted((84, 138, 84), drop.time))


def _cactus(c: Canvas, x: float, foot: float, tall: float, colour: Colour) -> None:
    wide = tall * 0.13
    for side, height in ((-1, 0.5), (1, 0.38)):
        c.line([(x, foot - tall * height), (x + side * wide * 2.4, foot - tall * height)], wide, tone(colour, -0.1))
        arm = x + side * wide * 2.4
        c.line([(arm, foot - tall * (height - 0.06)), (arm, foot - tall * (height + 0.3))], wide, tone(colour, -0.1))
    c.line([(x, foot), (x, foot - tall)], wide * 1.4, colour)
    c.oval(x, foot - tall, wide * 0.7, wide * 0.7, colour)


def park(c: Canvas, drop: Backdrop) -> None:
    haze, rng = sky(c, drop), c.rng
    leaf = tinted(rng.choice(((82, 146, 72), (104, 156, 66), (176, 140, 62))), drop.time)
    c.ridge(drop.horizon, 0.06, mix(leaf, haze, 0.45), 4, bottom=drop.horizon + 0.03)
    for step in range(5):
        x = (step + rng.uniform(0.1, 0.9)) / 5
        c.crown(x, drop.horizon + 0.03, rng.uniform(0.26, 0.42), mix(tone(leaf, rng.uniform(-0.12, 0.12)), haze, 0.12))
    lawn = tinted(rng.choice(((122, 180, 88), (106, 170, 92))), drop.time)
    ground(c, drop.horizon + 0.02, lawn, 0.045)
    if drop.feature == "path":
        x, away = rng.uniform(0.15, 0.85), rng.uniform(0.3, 0.7)
        path = tinted((214, 198, 168), drop.time)
        top = drop.horizon + 0.03
        c.poly([(away - 0.02, top), (away + 0.02, top), (x + 0.2, 1.0), (x - 0.2, 1.0)], path)
    tufts(c, drop.horizon + 0.06, lawn, 30)
