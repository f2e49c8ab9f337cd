"""Plants, furniture and camping gear, in the coordinates of their `Kind.shape`."""

import math
from itertools import pairwise
from random import Random

from showtell.data.datasets.scenes.brush import Brush, Colour, mix, tone

WOOD: Colour = (150, 106, 68)
STEM: Colour = (70, 138, 66)


def flower(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    bend = rng.uniform(-5, 5)
    if pose == "potted":
        b.blob([(30, 80), (12, 70), (6, 54), (22, 62), (30, 76)], tone(STEM, 0.12))
    b.curve([(30, 36), (30 + bend, 62), (30, 99)], 4.2, STEM)
    b.blob([(30, 84), (14, 74), (5, 58), (20, 64), (30, 80)], tone(STEM, 0.12))
    b.blob([(30, 92), (46, 84), (56, 68), (42, 72), (31, 86)], tone(STEM, -0.1))
    if pose == "tulip":
        b.blob([(30, 44), (12, 36), (10, 12), (20, 20), (30, 4), (40, 20), (50, 12), (48, 36)], rgb)
        b.blob([(30, 44), (20, 34), (22, 18), (30, 7), (38, 18), (40, 34)], tone(rgb, -0.16))
        return
    if pose == "potted":
        b.poly([(13, 74), (47, 74), (42, 99), (18, 99)], (190, 106, 74))
        b.poly([(10, 70), (50, 70), (49, 77), (11, 77)], (206, 122, 88))
    petals = rng.choice((7, 8, 10))
    heart: Colour = (244, 196, 60) if rgb[2] > 90 or rgb[1] < 110 else (120, 76, 44)
    turn = rng.uniform(0, 1)
    for petal in range(petals):
        angle = turn + 2 * math.pi * petal / petals
        shade = tone(rgb, -0.12 if petal % 2 else 0.08)
        b.oval(30 + 17 * math.cos(angle), 28 + 17 * math.sin(angle), 11, 6.6, shade, turn=math.degrees(angle))
    b.oval(30, 28, 9, 9, heart)
    b.oval(28.5, 26.5, 4.4, 4.4, tone(heart, 0.3))


def mushroom(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    stem: Colour = (238, 226, 204)
    b.blob([(28, 34), (46, 34), (48, 56), (52, 71), (22, 71), (26, 56)], stem)
    b.blob([(25, 44), (37, 48), (49, 44), (46, 38), (28, 38)], tone(stem, -0.14))
    b.blob([(2, 36), (8, 14), (37, 1), (66, 14), (72, 36), (56, 41), (37, 42), (18, 41)], rgb)
    spots = tone(rgb, 0.85) if sum(rgb) < 640 else (206, 176, 140)
    for x, y, radius in ((20, 22, 5), (38, 14, 6), (55, 25, 5), (34, 31, 4), (12, 33, 3), (63, 34, 2.6)):
        b.oval(x + rng.uniform(-2, 2), y + rng.uniform(-2, 2), radius, radius * 0.8, spots)


def chair(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.32), tone(rgb, 0.14)
    for x in (17, 52):
        b.line([(x, 56), (x, 88)], 4, dark)
    for x in (12, 42):
        b.line([(x, 4), (x, 60)], 5, rgb)
    if rng.random() < 0.5:
        for y in (12, 25, 38):
            b.line([(12, y), (42, y)], 5, light)
    else:
        b.poly([(13, 6), (41, 6), (41, 42), (13, 42)], light)
        b.line([(20, 8), (20, 40)], 1.4, dark)
        b.line([(34, 8), (34, 40)], 1.4, dark)
    b.poly([(9, 54), (44, 54), (58, 62), (20, 64)], light)
    b.poly([(9, 54), (20, 64), (20, 69), (9, 59)], dark)
    b.poly([(20, 64), (58, 62), (58, 67), (20, 69)], rgb)
    for x, foot in ((11, 92), (22, 99), (56, 97)):
        b.line([(x, 60 if x < 20 else 66), (x, foot)], 5, rgb if x > 20 else dark)


def sofa(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.26), tone(rgb, 0.16)
    for leg in (16, 120):
        b.line([(leg, 64), (leg, 72)], 5, WOOD)
    b.blob([(14, 50), (12, 12), (20, 4), (68, 2), (116, 4), (124, 12), (122, 50)], dark)
    seats = rng.choice((2, 2, 3))
    width = 96 / seats
    for seat in range(seats):
        x = 20 + seat * width
        b.blob([(x + 1, 12), (x + width / 2, 9), (x + width - 1, 12), (x + width - 1, 38), (x + 1, 38)], rgb)
    b.poly([(16, 40), (120, 40), (122, 66), (14, 66)], dark)
    for seat in range(seats):
        x = 20 + seat * width
        b.blob([(x, 40), (x + width / 2, 36), (x + width, 40), (x + width, 50), (x, 50)], light)
    for x in (10, 126):
        b.blob([(x - 9, 34), (x, 24), (x + 9, 34), (x + 8, 68), (x - 8, 68)], rgb)
        b.oval(x, 34, 7, 7, tone(rgb, -0.1))
    if rng.random() < 0.5:
        x, cushion = rng.uniform(34, 100), rng.choice(((240, 226, 190), (240, 196, 90), (120, 170, 190)))
        b.blob([(x - 11, 20), (x + 10, 17), (x + 12, 39), (x - 9, 41)], cushion)


def lamp(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    metal: Colour = rng.choice(((86, 82, 84), (164, 128, 80), (60, 60, 66)))
    b.oval(25, 122, 17, 6, metal)
    b.line([(25, 38), (25, 120)], 4, metal)
    b.oval(25, 44, 9, 4, (255, 240, 180))
    flare = rng.uniform(11, 15)
    b.poly([(25 - flare, 3), (25 + flare, 3), (49, 43), (1, 43)], rgb)
    b.blob([(1, 42), (25, 46), (49, 42), (25, 39)], tone(rgb, 0.55))
    b.line([(25 - flare, 4), (25 + flare, 4)], 2.4, tone(rgb, -0.25))


def umbrella(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    b.line([(50, 6), (50, 98)], 3.6, rng.choice((WOOD, (226, 222, 214))))
    rims = [2, 21, 40, 60, 79, 98]
    other: Colour = (248, 244, 236) if pose == "striped" else tone(rgb, -0.16)
    for index, (x, end) in enumerate(pairwise(rims)):
        colour = rgb if index % 2 == 0 else other
        arc = [(50 + (end - 50) * math.sin(t), 8 + 42 * (1 - math.cos(t))) for t in (0.4, 0.8, 1.2, math.pi / 2)]
        back = [(50 + (x - 50) * math.sin(t), 8 + 42 * (1 - math.cos(t))) for t in (math.pi / 2, 1.2, 0.8, 0.4)]
        b.poly([(50, 7), *arc, ((x + end) / 2, 44.5), *back], colour)
    b.line([(50, 3), (50, 8)], 3, tone(rgb, -0.3))


def tent(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.3), tone(rgb, 0.22)
    b.line([(40, 6), (2, 78)], 1.2, (200, 196, 186))
    b.poly([(40, 5), (92, 10), (114, 76), (70, 79)], dark)
    b.poly([(40, 5), (70, 79), (8, 79)], rgb)
    b.poly([(40, 28), (56, 79), (26, 79)], mix(dark, (30, 28, 30), 0.65))
    b.blob([(40, 28), (34, 56), (22, 79), (30, 79), (36, 60)], light)
    b.line([(40, 5), (92, 10)], 1.8, tone(rgb, -0.5))
    if rng.random() < 0.5:
        b.line([(56, 40), (102, 42)], 2.4, light)
