"""Vehicles, each heading right in the coordinates of its `Kind.shape`, wheels at the bottom."""

import math
from random import Random

from showtell.data.datasets.scenes.brush import Brush, Colour, mix, tone

GLASS: Colour = (176, 212, 228)
TYRE: Colour = (40, 40, 46)
METAL: Colour = (196, 200, 206)


def _wheel(b: Brush, x: float, y: float, radius: float) -> None:
    b.oval(x, y, radius, radius, TYRE)
    b.oval(x, y, radius * 0.55, radius * 0.55, METAL)
    b.oval(x, y, radius * 0.2, radius * 0.2, (90, 92, 98))


def _dust(b: Brush, y: float) -> None:
    for x, radius in ((1, 4), (-5, 5), (-11, 3.4)):
        b.oval(x, y, radius, radius * 0.8, (226, 222, 214), opacity=0.6)


def car(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark = tone(rgb, -0.35)
    if pose == "drive":
        _dust(b, 46)
    back = rng.uniform(22, 32)
    b.blob([(3, 40), (5, 26), (back, 21), (back + 14, 4), (74, 4), (92, 21), (114, 26), (117, 40), (112, 45), (7, 45)],
           rgb)
    b.poly([(back + 5, 21), (back + 15, 8), (56, 8), (56, 21)], GLASS)
    b.poly([(60, 8), (72, 8), (85, 21), (60, 21)], GLASS)
    b.poly([(back + 13, 21), (back + 21, 8), (back + 25, 8), (back + 17, 21)], tone(GLASS, 0.5))
    if pose == "drive":
        b.oval(70, 17, 4, 5, (110, 80, 66))
    b.line([(58, 22), (58, 42)], 1.2, dark)
    b.line([(8, 40), (112, 40)], 3, dark)
    b.line([(62, 27), (68, 27)], 1.8, dark)
    b.oval(113, 31, 3, 3.6, (255, 236, 160))
    b.oval(5, 31, 2.4, 3.6, (190, 36, 40))
    for x in (28, 92):
        b.oval(x, 43, 12.5, 12, dark)
        _wheel(b, x, 43.5, 10)


def bus(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark = tone(rgb, -0.35)
    if pose == "drive":
        _dust(b, 68)
    b.poly([(2, 62), (2, 11), (4, 6), (9, 3), (118, 3), (123, 5), (126, 10), (129, 40), (129, 62), (126, 67), (7, 67)],
           rgb)
    b.line([(12, 2.5), (112, 2.5)], 3, tone(rgb, 0.25))
    b.line([(6, 46), (125, 46)], 3, tone(rgb, 0.5) if sum(rgb) < 600 else (90, 130, 190))
    b.line([(6, 63), (124, 63)], 3, dark)
    panes = rng.choice((4, 5))
    step = 88 / panes
    for pane in range(panes):
        x = 9 + pane * step
        b.poly([(x, 14), (x + step - 4, 14), (x + step - 4, 36), (x, 36)], GLASS)
        b.poly([(x + 3, 36), (x + 9, 14), (x + 12, 14), (x + 6, 36)], tone(GLASS, 0.5))
        if rng.random() < 0.35:
            b.oval(x + step / 2 - 2, 31, 4, 5.5, mix((110, 80, 66), dark, rng.random() * 0.5))
    b.poly([(99, 14), (111, 14), (111, 60), (99, 60)], tone(GLASS, -0.12))
    b.line([(105, 14), (105, 60)], 1.4, dark)
    b.poly([(116, 14), (125, 14), (126, 40), (116, 40)], GLASS)
    b.oval(125, 54, 2.6, 3.6, (255, 236, 160))
    for x in (30, 88):
        b.oval(x, 64, 12, 11, dark)
        _wheel(b, x, 65.5, 9.6)


def boat(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark = tone(rgb, -0.3)
    if pose == "sail":
        sail: Colour = rng.choice(((246, 244, 236), (250, 246, 226), mix(rgb, (255, 255, 255), 0.72)))
        b.line([(48, 4), (48, 82)], 2.6, (120, 84, 56))
        b.blob([(52, 6), (53, 40), (52, 72), (70, 70), (87, 66), (74, 38)], sail)
        b.blob([(44, 14), (44, 70), (28, 71), (12, 68), (30, 44)], tone(sail, -0.1))
        b.poly([(48, 2), (48, 10), (60, 6)], rgb)
        b.blob([(6, 78), (48, 80), (92, 76), (84, 92), (74, 99), (26, 99), (14, 92)], rgb)
    else:
        b.poly([(30, 74), (32, 52), (60, 52), (68, 74)], (244, 242, 236))
        b.poly([(28, 54), (30, 48), (64, 48), (64, 54)], dark)
        for x in (36, 47):
            b.poly([(x, 58), (x + 8, 58), (x + 9, 67), (x, 67)], GLASS)
        b.line([(40, 48), (40, 30)], 2.4, (110, 90, 80))
        b.poly([(40, 30), (26, 34), (40, 39)], mix(rgb, (250, 220, 80), 0.35))
        b.blob([(5, 74), (48, 77), (95, 66), (86, 90), (76, 99), (22, 99), (10, 90)], rgb)
    b.curve([(9, 82), (48, 85), (88, 81)], 2.6, tone(rgb, 0.6) if sum(rgb) < 600 else (70, 110, 170))
    b.curve([(15, 92), (48, 95), (82, 91)], 3.4, dark)


def plane(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, trim = tone(rgb, -0.28), tone(rgb, 0.55) if sum(rgb) < 600 else (66, 110, 186)
    b.poly([(66, 28), (46, 6), (56, 5), (84, 27)], dark)
    b.blob([(4, 20), (30, 22), (80, 20), (112, 22), (127, 31), (112, 40), (60, 42), (26, 36)], rgb)
    b.poly([(4, 22), (2, 0), (13, 0), (28, 22)], rgb)
    b.poly([(4, 8), (3, 2), (12, 2), (16, 8)], trim)
    b.curve([(14, 31), (60, 35), (118, 34)], 2.2, trim)
    for x in range(32, 102, 9):
        b.oval(x, 27.5, 2.4, 2.7, (90, 130, 160))
    b.poly([(110, 23), (120, 26), (118, 29), (110, 28)], (80, 120, 150))
    b.poly([(58, 34), (82, 34), (54, 60), (42, 60)], mix(rgb, dark, 0.6))
    b.poly([(14, 27), (26, 27), (12, 38), (4, 38)], mix(rgb, dark, 0.6))
    spin = rng.uniform(0, math.pi)
    b.oval(62, 46, 8, 4, tone(dark, -0.2), turn=4 + spin)
