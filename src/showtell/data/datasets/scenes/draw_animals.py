"""Animals, each facing right in the coordinates of its `Kind.shape`, feet at the bottom."""

from random import Random

from showtell.data.datasets.scenes.brush import Brush, Colour, Point, mix, tone

EYE: Colour = (24, 22, 26)
NOSE: Colour = (44, 34, 36)
COLLARS: tuple[Colour, ...] = ((196, 52, 52), (56, 112, 190), (240, 190, 60), (70, 160, 110))


def _eye(b: Brush, x: float, y: float, size: float) -> None:
    b.oval(x, y, size, size * 1.15, EYE)
    b.oval(x + size * 0.3, y - size * 0.4, size * 0.36, size * 0.36, (250, 250, 250))


def _leg(b: Brush, points: list[Point], width: float, colour: Colour, paw: Colour | None = None) -> None:
    b.line(points, width, colour, taper=0.72)
    x, y = points[-1]
    b.oval(x + width * 0.25, y, width * 0.6, width * 0.36, paw or colour)


def dog(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.28), tone(rgb, 0.38)
    if pose == "sit":
        _sitting_dog(b, rgb, dark, light, rng)
        return
    if pose == "run":
        far, near = [((34, 48), (46, 62), (42, 74)), ((72, 46), (88, 58), (98, 62))], [
            ((26, 48), (10, 60), (2, 70)), ((68, 48), (74, 62), (66, 74))]
        tail: list[Point] = [(18, 36), (6, 28), (-2, 26)]
    else:
        far, near = [((34, 50), (35, 64), (35, 77)), ((66, 48), (67, 64), (66, 77))], [
            ((24, 48), (21, 62), (23, 77)), ((74, 48), (75, 64), (75, 77))]
        tail = [(18, 38), (8, 26), (8 + rng.uniform(-5, 4), 10)]
    b.curve(tail, 7, rgb, taper=0.5)
    for leg in far:
        _leg(b, list(leg), 9, dark)
    b.blob([(14, 42), (22, 32), (48, 35), (68, 29), (80, 36), (76, 54), (50, 53), (26, 57)], rgb)
    b.blob([(40, 50), (62, 48), (72, 52), (50, 54)], light)
    for leg in near:
        _leg(b, list(leg), 9.5, rgb)
    b.blob([(64, 36), (70, 16), (88, 22), (82, 44)], rgb)
    b.line([(69, 30), (82, 36)], 4, rng.choice(COLLARS))
    b.oval(80, 18, 12, 11, rgb)
    b.blob([(84, 15), (99, 18), (101, 24), (94, 29), (82, 28)], mix(rgb, light, 0.6))
    b.oval(100, 19.5, 3, 2.4, NOSE)
    b.blob([(70, 8), (78, 9), (77, 28), (68, 29), (65, 18)], dark)
    _eye(b, 85, 15, 2.3)


def _sitting_dog(b: Brush, rgb: Colour, dark: Colour, light: Colour, rng: Random) -> None:
    b.curve([(34, 72), (16, 70), (10, 58 + rng.uniform(-6, 6))], 7, rgb, taper=0.5)
    b.blob([(52, 34), (70, 44), (76, 70), (68, 78), (36, 78), (28, 70), (34, 44)], rgb)
    b.blob([(46, 42), (58, 42), (60, 66), (44, 66)], light)
    b.oval(34, 70, 10, 9, dark)
    b.oval(70, 70, 10, 9, dark)
    for x in (46, 58):
        _leg(b, [(x, 50), (x, 76)], 9, rgb, light)
    b.line([(42, 41), (62, 41)], 4.5, rng.choice(COLLARS))
    b.oval(52, 22, 17, 16, rgb)
    b.blob([(36, 8), (42, 10), (40, 32), (31, 34), (28, 20)], dark)
    b.blob([(68, 8), (62, 10), (64, 32), (73, 34), (76, 20)], dark)
    b.oval(52, 30, 9, 7.5, light)
    b.oval(52, 26.5, 3.6, 2.6, NOSE)
    b.line([(52, 29), (52, 33)], 1.2, NOSE)
    _eye(b, 45, 19, 2.5)
    _eye(b, 59, 19, 2.5)


def cat(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.3), tone(rgb, 0.45)
    striped = rng.random() < 0.5
    if pose == "sit":
        b.curve([(62, 76), (84, 76), (88, 62), (80 + rng.uniform(-4, 8), 48)], 7, rgb, taper=0.75)
        b.blob([(48, 34), (62, 46), (68, 72), (60, 82), (34, 82), (26, 72), (34, 46)], rgb)
        b.blob([(43, 44), (53, 44), (56, 64), (40, 64)], light)
        for x in (41, 55):
            _leg(b, [(x, 58), (x, 80)], 8, rgb, light)
        if striped:
            for y in (52, 60, 68):
                b.line([(29, y + 2), (35, y)], 2.4, dark)
                b.line([(66, y + 2), (61, y)], 2.4, dark)
        _cat_face(b, 48, 24, rgb, dark, light, striped)
        return
    if pose == "lie":
        b.curve([(16, 74), (4, 78), (8, 82), (30, 82)], 7, rgb, taper=0.8)
        b.blob([(12, 70), (22, 54), (46, 50), (70, 56), (78, 74), (72, 83), (20, 83)], rgb)
        for x in (64, 76):
            _leg(b, [(x - 6, 76), (x + 6, 80)], 8, light)
        if striped:
            for x in (28, 38, 48):
                b.curve([(x, 53), (x - 2, 60), (x, 66)], 2.6, dark)
        _cat_face(b, 74, 48, rgb, dark, light, striped)
        return
    b.curve([(18, 46), (6, 38), (6, 22), (12, 12)], 6.5, rgb, taper=0.75)
    for points in (((32, 54), (36, 68), (34, 80)), ((62, 54), (62, 68), (68, 80))):
        _leg(b, list(points), 8, dark)
    b.blob([(14, 50), (24, 40), (48, 42), (68, 40), (74, 54), (60, 62), (28, 62)], rgb)
    if striped:
        for x in (30, 40, 50):
            b.curve([(x, 42), (x - 2, 48), (x, 54)], 2.6, dark)
    for points in (((24, 54), (20, 68), (14, 80)), ((70, 54), (72, 68), (80, 80))):
        _leg(b, list(points), 8, rgb, light)
    _cat_face(b, 76, 32, rgb, dark, light, striped)


def _cat_face(b: Brush, x: float, y: float, rgb: Colour, dark: Colour, light: Colour, striped: bool) -> None:
    for side in (-1, 1):
        b.poly([(x + side * 17, y - 3), (x + side * 15, y - 23), (x + side * 3, y - 12)], rgb)
        b.poly([(x + side * 14, y - 7), (x + side * 13.4, y - 17), (x + side * 7, y - 11)], (232, 160, 160))
    b.oval(x, y, 18, 15, rgb)
    if striped:
        for dx in (-5, 0, 5):
            b.line([(x + dx, y - 14), (x + dx * 0.8, y - 9)], 2.2, dark)
    b.oval(x, y + 6, 8.5, 6, light)
    for side in (-1, 1):
        b.oval(x + side * 7, y - 1.5, 3.6, 4, (176, 206, 92))
        b.oval(x + side * 7, y - 1.5, 1.4, 3.6, EYE)
        for dy in (4, 7):
            b.line([(x + side * 8, y + dy), (x + side * 21, y + dy * 1.4 - 4)], 0.9, mix(light, (255, 255, 255), 0.5))
    b.poly([(x - 2.6, y + 2.4), (x + 2.6, y + 2.4), (x, y + 5.4)], (224, 112, 122))


def horse(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, hoof = tone(rgb, -0.3), (52, 44, 42)
    mane: Colour = tone(rgb, -0.55) if sum(rgb) > 300 else (24, 22, 24)
    if sum(rgb) > 640:
        mane = (206, 200, 188)
    run = pose == "run"
    legs_far = [((32, 58), (44, 76), (34, 94)), ((78, 56), (98, 70), (108, 84))] if run else [
        ((34, 58), (36, 78), (35, 98)), ((74, 58), (75, 78), (74, 98))]
    legs_near = [((26, 58), (10, 74), (2, 90)), ((74, 58), (84, 78), (72, 94))] if run else [
        ((25, 56), (22, 78), (24, 98)), ((82, 58), (82, 78), (82, 98))]
    for leg in legs_far:
        _leg(b, list(leg), 9, dark, hoof)
    b.curve([(18, 42), (6, 46 if run else 56), (-2 if run else 5, 52 if run else 78)], 9, mane, taper=0.5)
    b.blob([(15, 50), (22, 38), (46, 42), (70, 36), (88, 42), (88, 60), (66, 66), (40, 64), (24, 66)], rgb)
    for leg in legs_near:
        _leg(b, list(leg), 10, rgb, hoof)
    if pose == "graze":
        b.blob([(72, 40), (88, 40), (106, 76), (94, 80), (80, 62)], rgb)
        b.curve([(74, 39), (90, 50), (101, 72)], 6, mane)
        b.blob([(94, 72), (104, 70), (107, 82), (101, 97), (92, 96)], rgb)
        b.blob([(93, 90), (103, 89), (101, 98), (93, 97)], mix(rgb, (90, 70, 70), 0.4))
        b.poly([(100, 72), (106, 62), (107, 73)], dark)
        _eye(b, 98, 81, 1.9)
        return
    b.blob([(68, 44), (82, 14), (96, 14), (96, 28), (88, 54)], rgb)
    b.curve([(66, 40), (74, 24), (84, 9)], 8, mane)
    b.blob([(82, 12), (94, 8), (104, 18), (113, 28), (109, 36), (98, 32), (86, 26)], rgb)
    b.blob([(104, 24), (113, 28), (110, 36), (103, 33)], mix(rgb, (90, 70, 70), 0.4))
    b.poly([(84, 12), (86, 0), (92, 9)], dark)
    b.curve([(88, 8), (94, 12), (96, 17)], 4, mane, taper=0.4)
    _eye(b, 98, 17, 2.1)


def cow(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, pale = tone(rgb, -0.28), (240, 236, 230)
    patch: Colour = tone(rgb, -0.12) if sum(rgb) > 600 else pale
    b.curve([(16, 30), (8, 40), (10, 60)], 3, dark)
    b.oval(10, 63, 3, 5, (60, 50, 46))
    for leg in (32, 76):
        _leg(b, [(leg, 54), (leg, 81)], 10, dark, (56, 48, 46))
    b.blob([(14, 34), (22, 26), (54, 29), (84, 25), (92, 36), (90, 58), (70, 63), (30, 62), (15, 54)], rgb)
    if rng.random() < 0.75:
        for _ in range(rng.randint(2, 3)):
            x, y = rng.uniform(28, 74), rng.uniform(34, 50)
            r = rng.uniform(6, 10)
            b.blob([(x - r, y), (x - r * 0.2, y - r), (x + r, y - r * 0.3), (x + r * 0.5, y + r * 0.8)], patch)
    b.oval(42, 63, 8, 5, (240, 176, 176))
    for x in (23, 86):
        _leg(b, [(x, 54), (x, 81)], 10.5, rgb, (56, 48, 46))
    hx, hy = (102, 60) if pose == "graze" else (99, 24)
    b.blob([(80, 30), (94, 24), (hx + 2, hy - 4), (hx - 4, hy + 12), (84, 50)], rgb)
    b.oval(hx - 9, hy - 6, 7, 3.6, dark, turn=20)
    b.oval(hx + 9, hy - 7, 6, 3.4, dark, turn=-25)
    for side in (-1, 1):
        b.curve([(hx + side * 4, hy - 9), (hx + side * 8, hy - 13), (hx + side * 6, hy - 19)], 3, (232, 220, 190), 0.4)
    b.blob([(hx - 8, hy - 9), (hx + 8, hy - 9), (hx + 8, hy + 12), (hx, hy + 18), (hx - 7, hy + 12)], rgb)
    b.oval(hx + 1, hy + 13, 9, 6.5, (238, 180, 176))
    for side in (-1, 1):
        b.oval(hx + 1 + side * 3.6, hy + 13, 1.4, 1.8, (140, 80, 84))
        _eye(b, hx + side * 4.6, hy, 2)


def rabbit(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.22), tone(rgb, 0.5)
    lift = 0 if pose == "sit" else -6
    b.oval(9, 60 + lift, 7.5, 7.5, light)
    if pose == "hop":
        _leg(b, [(22, 62), (8, 74)], 8, dark)
        _leg(b, [(46, 58), (60, 72)], 6, dark)
    b.blob([(10, 58 + lift), (18, 42 + lift), (36, 38 + lift), (50, 50 + lift), (50, 70 + lift), (34, 75 + lift),
            (14, 73 + lift)], rgb)
    b.oval(24, 62 + lift, 12, 11, mix(rgb, dark, 0.35))
    b.oval(26, 73 + lift * 0.4, 11, 3.6, rgb)
    _leg(b, [(46, 58 + lift), (48, 73 + lift * 0.5)], 7, rgb)
    lean = rng.uniform(-5, 5)
    for x, shadow in ((46, dark), (54, rgb)):
        b.blob([(x - 3, 30 + lift), (x - 7 + lean, 12 + lift), (x - 3 + lean, 1 + lift), (x + 2 + lean, 12 + lift),
                (x + 4, 29 + lift)], shadow)
        b.blob([(x - 1, 26 + lift), (x - 4 + lean, 13 + lift), (x - 2.4 + lean, 6 + lift), (x + lean, 14 + lift)],
               (238, 170, 176))
    b.oval(51, 38 + lift, 14, 12, rgb)
    b.oval(59, 42 + lift, 6.5, 5, light)
    b.oval(64.5, 39.5 + lift, 2, 1.6, (222, 110, 122))
    _eye(b, 54, 35 + lift, 2.5)


def duck(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark = tone(rgb, -0.25)
    bill = (236, 138, 40) if sum(rgb) < 640 or rng.random() < 0.7 else (240, 170, 60)
    if pose == "stand":
        for x in (36, 46):
            b.line([(x, 60), (x + 1, 70)], 3, bill)
            b.line([(x - 1, 71), (x + 7, 71)], 2.8, bill)
    b.blob([(4, 34), (20, 38), (40, 36), (56, 36), (64, 48), (56, 62), (34, 66), (14, 56)], rgb)
    b.blob([(46, 42), (52, 30), (51, 18), (70, 18), (68, 32), (65, 50)], rgb)
    head = rgb if rng.random() < 0.7 or sum(rgb) > 450 else (44, 110, 84)
    b.oval(61, 17, 13, 12, head)
    b.blob([(71, 15), (83, 19), (82, 23), (70, 24)], bill)
    b.blob([(14, 42), (32, 40), (48, 46), (40, 56), (22, 54)], dark)
    b.curve([(20, 50), (30, 52), (40, 50)], 1.6, tone(dark, -0.3))
    _eye(b, 65, 14, 2.4)


def bird(b: Brush, rgb: Colour, pose: str, rng: Random) -> None:
    dark, light = tone(rgb, -0.28), tone(rgb, 0.5)
    up = rng.random() < 0.6
    y = 4 if up else 70
    b.blob([(46, 36), (52, 34), (44, (36 + y) / 2), (34, y + 3), (26, y)], dark)
    b.blob([(26, 40), (2, 34), (0, 40), (3, 46), (26, 46)], dark)
    b.blob([(18, 42), (40, 31), (66, 31), (78, 36), (70, 46), (44, 51)], rgb)
    b.blob([(40, 46), (64, 42), (66, 46), (48, 51)], light)
    b.oval(77, 33, 10, 9, rgb)
    b.poly([(86, 30), (98, 34), (86, 37)], (240, 166, 50))
    b.blob([(40, 38), (62, 36), (58, (38 + y) / 2), (46, y), (36, y + 1), (38, (40 + y) / 2)], mix(rgb, dark, 0.35))
    for dx in (0, 6):
        b.line([(44 + dx, y + (8 if up else -8)), (46 + dx, (38 + y) / 2)], 1.3, dark)
    _eye(b, 80, 31, 2.2)
