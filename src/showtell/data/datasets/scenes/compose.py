"""Composing a scene: setting, things, colours, poses, sizes and positions. Nothing is drawn here."""

from dataclasses import replace
from random import Random

from showtell.data.datasets.scenes.backdrops_built import WALLS
from showtell.data.datasets.scenes.structure import Backdrop, Scene, Thing
from showtell.data.datasets.scenes.world import (
    COLOURS,
    KINDS,
    SEATS,
    SETTINGS,
    SITTERS,
    UNSEEN_COLOURS,
    UNSEEN_SETTINGS,
    unseen_colour,
    unseen_setting,
)

UNSEEN_SHARE = 0.30  # share of test images with a pair that is not in training
SMALLEST = 0.13  # fraction of the picture: smallest longer side, so that things can be recognised
TRIES = 40  # positions tried before the scene is made less crowded

HORIZONS: dict[str, tuple[float, float]] = {
    "beach": (0.26, 0.38), "field": (0.34, 0.52), "street": (0.42, 0.54), "snow": (0.36, 0.52), "sea": (0.34, 0.5),
    "lake": (0.32, 0.46), "room": (0.54, 0.66), "city": (0.46, 0.56), "forest": (0.42, 0.56), "desert": (0.34, 0.5),
    "park": (0.4, 0.54),
}  # fmt: skip
# How a kind is drawn in a zone or in a setting.
POSES_BY_PLACE: dict[tuple[str, str], str] = {("duck", "water"): "swim", ("flower", "room"): "potted"}
FEATURES: dict[str, tuple[str, ...]] = {
    "beach": ("", "", "hills", "mountains"), "field": ("hills", "mountains", "trees", "fence", ""),
    "snow": ("mountains", "trees", "hills", ""), "sea": ("", "", "island"), "lake": ("mountains", "trees", "hills"),
    "room": ("window", "painting", "both", ""), "desert": ("cactuses", "mountains", ""), "park": ("path", ""),
}  # fmt: skip


def compose(rng: Random, split: str) -> Scene:
    """A scene for that split; train and val have no unseen pair, about `UNSEEN_SHARE` of test's scenes have one."""
    forced = _forced_pair(rng) if split == "test" and rng.random() < UNSEEN_SHARE else None
    while True:
        setting = _pick_setting(rng, forced)
        drop = _backdrop(rng, setting)
        groups = _pick_groups(rng, drop, forced)
        for attempt in range(TRIES):
            things = _place(rng, drop, groups, shrink=1 - 0.3 * attempt / TRIES)
            if things is not None:
                return Scene(drop, things)


def in_any_colours(rng: Random, scene: Scene) -> Scene:
    """The scene with its things in colours drawn from all, a kind's held-out one excepted: also in those that the kind
    never has in a composed scene. Things of equal kind and colour stay equal."""
    colours = {
        (kind, colour): rng.choice([c for c in COLOURS if not unseen_colour(kind, c)])
        for kind, colour in dict.fromkeys((thing.kind, thing.colour) for thing in scene.things)
    }
    things = tuple(replace(thing, colour=colours[thing.kind, thing.colour]) for thing in scene.things)
    return Scene(scene.backdrop, things)


def is_unseen(scene: Scene) -> bool:
    """Whether the scene has a (kind, colour) or (kind, setting) pair that is held out for test."""
    return any(
        unseen_colour(thing.kind, thing.colour) or unseen_setting(thing.kind, scene.backdrop.setting)
        for thing in scene.things
    )


Forced = tuple[str, str | None, str | None]  # kind, colour, setting


def _forced_pair(rng: Random) -> Forced:
    if rng.random() < 0.55:
        kind, colour = rng.choice(sorted(UNSEEN_COLOURS))
        return kind, colour, None
    kind, setting = rng.choice(sorted(UNSEEN_SETTINGS))
    return kind, None, setting


def _at_home(kind: str, setting: str) -> bool:
    place = SETTINGS[setting]
    return kind in place.land + place.water + place.air


def _pick_setting(rng: Random, forced: Forced | None) -> str:
    if forced is None:
        return rng.choices(list(SETTINGS), [0.7 if not place.land else 1.0 for place in SETTINGS.values()])[0]
    kind, _, setting = forced
    return setting or rng.choice([s for s in SETTINGS if _at_home(kind, s) and not unseen_setting(kind, s)])


def _backdrop(rng: Random, setting: str) -> Backdrop:
    time = rng.choice(SETTINGS[setting].times)
    horizon = rng.uniform(*HORIZONS[setting])
    shore = horizon
    if setting == "beach":
        shore = horizon + rng.uniform(0.18, 0.26)
    elif setting in ("street", "city"):
        shore = horizon + rng.uniform(0.07, 0.13)
    elif setting == "room" and rng.random() < 0.55:
        shore = rng.uniform(0.8, 0.86)
    clouds = {"day": rng.choice((0, 0, 2, 3, 4)), "dull": 6, "sunset": rng.choice((0, 2, 3)), "night": 0}[time]
    sun = rng.uniform(0.2, 0.8) if setting == "room" else rng.uniform(-0.1, 1.1)
    wall = rng.choice(list(WALLS)) if setting == "room" else ""
    return Backdrop(setting, time, horizon, shore, sun, clouds, rng.choice(FEATURES.get(setting, ("",))), wall)


def _pick_groups(rng: Random, drop: Backdrop, forced: Forced | None) -> list[list[Thing]]:
    """One to three groups of one to three things of a kind, four things at most; positions are chosen later."""
    setting = SETTINGS[drop.setting]
    zones = dict.fromkeys(setting.land, "land")
    zones |= dict.fromkeys(setting.water, "water") | dict.fromkeys(setting.air, "air")
    allowed = [kind for kind in zones if not unseen_setting(kind, drop.setting)]
    wanted, room = rng.choices((1, 2, 3), (0.24, 0.5, 0.26))[0], 4
    groups: list[list[Thing]] = []
    used: list[str] = []
    while room and len(groups) < wanted and len(used) < len(allowed):
        first = forced is not None and not groups
        kind = forced[0] if first and forced else _pick_kind(rng, [kind for kind in allowed if kind not in used])
        count = min(room, rng.choices((1, 2, 3), (0.76, 0.17, 0.07))[0])
        if KINDS[kind].shape[0] > 110 or wanted == 3:  # no rows of buses
            count = min(count, 2 if rng.random() < 0.4 else 1)
        colour = forced[1] if first and forced else None
        groups.append(_group(rng, kind, zones[kind], drop.setting, len(groups), count, colour))
        used.append(kind)
        room -= count
    return groups


def _pick_kind(rng: Random, kinds: list[str]) -> str:
    """A kind; those that occur in few settings get more weight, so that all are about equally common."""
    homes = {kind: sum(_at_home(kind, setting) for setting in SETTINGS) for kind in kinds}
    return rng.choices(kinds, [1 / homes[kind] for kind in kinds])[0]


def _group(rng: Random, kind: str, zone: str, setting: str, number: int, count: int, colour: str | None) -> list[Thing]:
    colours = [c for c in KINDS[kind].colours if not unseen_colour(kind, c)]
    colour = colour or rng.choice(colours)
    same = rng.random() < 0.6
    pose, flip = rng.choice(KINDS[kind].poses), rng.random() < 0.5
    pose = POSES_BY_PLACE.get((kind, zone), POSES_BY_PLACE.get((kind, setting), pose))
    things = []
    for member in range(count):
        if member and not same:
            colour = rng.choice(colours)
        tilt = rng.uniform(-16, 16) if kind in ("kite", "plane") else rng.uniform(-3, 3)
        things.append(Thing(kind, colour, pose, zone, 0.5, 0.5, KINDS[kind].tall, number, flip, tilt,
                            rng.triangular(-1, 1, 0)))  # fmt: skip
        flip = flip if rng.random() < 0.6 else not flip
    return things


def _place(rng: Random, drop: Backdrop, groups: list[list[Thing]], shrink: float) -> tuple[Thing, ...] | None:
    """Choose a position and a size for every thing; None when they would hide each other."""
    placed: list[Thing] = []
    for group in sorted(groups, key=lambda group: group[0].kind not in SEATS):  # seats first: others may sit on them
        host = next((i for i, t in enumerate(placed) if t.kind in SEATS and t.on is None), None)
        if host is not None and group[0].kind in SITTERS and len(group) == 1 and rng.random() < 0.6:
            placed.append(_seat(rng, group[0], placed[host], host))
            continue
        leader: Thing | None = None
        for member in group:
            leader_or_new = _stand(rng, drop, member, leader, shrink)
            leader = leader or leader_or_new
            placed.append(leader_or_new)
    return None if _crowded(placed) else tuple(placed)


def _depths(drop: Backdrop, zone: str) -> tuple[float, float]:
    """The farthest and nearest foot positions of things in that zone."""
    if zone == "water" and drop.setting == "beach":
        return drop.horizon + 0.07, drop.shore - 0.02
    if zone == "water":
        return drop.horizon + 0.12, 0.95
    top = drop.shore if drop.setting == "beach" else drop.horizon
    return top + 0.07, 0.97


def _stand(rng: Random, drop: Backdrop, thing: Thing, leader: Thing | None, shrink: float) -> Thing:
    far, near = _depths(drop, thing.zone)
    if thing.zone == "air":
        tall = _grown(thing, rng.uniform(0.75, 1.2) * shrink)
        lowest = max(drop.horizon - 0.02, tall + 0.08)
        y = leader.y + rng.uniform(-0.1, 0.1) if leader else rng.uniform(tall + 0.02, lowest)
        y = max(tall + 0.02, y)
    else:
        y = far + (near - far) * rng.random() ** 0.8
        if leader:
            y = min(near, max(far, leader.y + rng.uniform(-0.05, 0.05)))
        depth = (y - drop.horizon) / (0.97 - drop.horizon)
        tall = _grown(thing, (0.5 + 0.6 * depth) * rng.uniform(0.85, 1.2) * shrink)
    wide = tall * KINDS[thing.kind].shape[0] / KINDS[thing.kind].shape[1]
    edge = min(0.5, wide * rng.choice((0.5, 0.5, 0.5, 0.36)))  # sometimes the frame cuts a thing
    x = rng.uniform(edge, 1 - edge)
    if leader:
        x = leader.x + rng.choice((-1, 1)) * wide * rng.uniform(0.75, 1.5)
        x = min(1 - edge, max(edge, x))
    return replace(thing, x=x, y=y, tall=tall)


def _grown(thing: Thing, scale: float) -> float:
    """Its height at that scale, limited so that it can be recognised and fits."""
    wide, high = KINDS[thing.kind].shape
    ratio = max(1.0, wide / high)
    return min(0.86 / ratio, max(SMALLEST / ratio, thing.tall * scale))


def _seat(rng: Random, thing: Thing, host: Thing, index: int) -> Thing:
    wide = host.tall * KINDS[host.kind].shape[0] / KINDS[host.kind].shape[1]
    share = 0.7 if host.kind == "sofa" else 0.5
    tall = max(host.tall * share * rng.uniform(0.85, 1.05) * (0.6 if thing.kind == "ball" else 1), SMALLEST)
    offset = rng.uniform(-0.22, 0.22) if host.kind == "sofa" else (-0.03 if not host.flip else 0.03)
    pose = "sit" if "sit" in KINDS[thing.kind].poses else thing.pose
    return replace(thing, x=host.x + offset * wide, y=host.y - host.tall * SEATS[host.kind], tall=tall, pose=pose,
                   tilt=0.0, on=index)  # fmt: skip


def _crowded(things: list[Thing]) -> bool:
    """Whether boxes (before drawing) overlap too much: the nearer may cover a third of the farther."""
    boxes = []
    for thing in things:
        wide = thing.tall * KINDS[thing.kind].shape[0] / KINDS[thing.kind].shape[1]
        boxes.append((thing.x - wide / 2, thing.y - thing.tall, thing.x + wide / 2, thing.y))
    for one, a in enumerate(boxes):
        for other, b in enumerate(boxes[one + 1 :], one + 1):
            if things[one].on == other or things[other].on == one:
                continue
            across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if across > 0 and down > 0:
                smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
                if across * down > 0.33 * smaller:
                    return True
    return False
