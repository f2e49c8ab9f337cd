"""Toys, in the coordinates of their `Kind.shape`."""

import math
from random import Random

from showtell.data.datasets.scenes.brush import Brush, Colour, mix, tone

BRIGHT: tuple[Colour, ...] = ((232, 76, 70), (250, 206, 70), (70, 150, 214), (96, 186, 110), (250, 250, 246))


def ball(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    b.oval(30, 30, 29, 29, rgb)
    if pose == "striped":
        turn = rng.uniform(0, math.pi)
        stripe: Colour = (250, 248, 242) if sum(rgb) < 620 else (120, 160, 210)
        for step in range(3):
            angle = turn + step * 2 * math.pi / 3
            pole = (30 + 9 * math.cos(turn), 26 + 7 * math.sin(turn))
            rim = [(30 + 29 * math.cos(angle + k * 0.13), 30 + 29 * math.sin(angle + k * 0.13)) for k in range(8)]
            b.poly([pole, *rim], stripe)
        b.oval(*pole, 4, 4, tone(rgb, -0.2))
    b.oval(21, 18, 8, 5.5, tone(rgb, 0.75), turn=-35, opacity=0.75)


def kite(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.25), tone(rgb, 0.35)
    bow = rng.choice(BRIGHT)
    bend = rng.uniform(-14, 14)
    string = [(36, 68), (34 + bend, 82), (38 - bend, 95), (34 + bend * 0.6, 108)]
    b.curve(string, 1.8, tone(rgb, -0.4))
    for x, y in string[1:]:
        b.poly([(x, y), (x - 6, y - 4), (x - 6, y + 4)], bow)
        b.poly([(x, y), (x + 6, y - 4), (x + 6, y + 4)], bow)
    b.poly([(36, 1), (68, 28), (36, 70)], rgb)
    b.poly([(36, 1), (4, 28), (36, 70)], light)
    b.poly([(36, 28), (68, 28), (36, 70)], dark)
    b.line([(36, 2), (36, 69)], 1.6, tone(rgb, -0.5))
    b.line([(5, 28), (67, 28)], 1.6, tone(rgb, -0.5))


def balloon(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    bend = rng.uniform(-8, 8)
    b.curve([(25, 60), (25 + bend, 76), (25 - bend, 92), (25 + bend * 0.5, 109)], 1.7, (150, 146, 146))
    b.poly([(25, 55), (20, 63), (30, 63)], tone(rgb, -0.2))
    b.blob([(25, 1), (43, 9), (48, 27), (40, 46), (25, 58), (10, 46), (2, 27), (7, 9)], rgb)
    b.oval(15, 18, 5, 9, tone(rgb, 0.75), turn=20, opacity=0.8)


def bear(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.22), tone(rgb, 0.42)
    for side in (-1, 1):
        b.oval(38 + side * 19, 8.5, 9, 8.5, rgb)
        b.oval(38 + side * 19, 9, 5, 4.6, mix(light, (240, 170, 170), 0.4))
        b.oval(38 + side * 24, 52, 7.5, 14, dark, turn=side * -28)
    b.oval(38, 58, 21, 23, rgb)
    b.oval(38, 60, 13, 15, light)
    for side in (-1, 1):
        b.oval(38 + side * 22, 74, 11.5, 10, rgb)
        b.oval(38 + side * 23, 75, 6.5, 6, light)
    b.oval(38, 23, 23, 20, rgb)
    b.oval(38, 30, 10.5, 8.5, light)
    b.oval(38, 26.5, 4, 2.8, (40, 32, 34))
    b.line([(38, 28), (38, 33)], 1.3, (60, 46, 46))
    for side in (-1, 1):
        b.oval(38 + side * 9, 19, 2.7, 3, (24, 22, 26))
    if rng.random() < 0.6:
        bow = rng.choice(BRIGHT[:4])
        b.poly([(38, 43), (27, 38), (27, 49)], bow)
        b.poly([(38, 43), (49, 38), (49, 49)], bow)
        b.oval(38, 43.5, 3, 3, tone(bow, -0.25))
