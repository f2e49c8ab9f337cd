"""The drawn world: kinds, colours, settings, their combinations, and the pairs that are held out of training."""

from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (206, 48, 46),
    "orange": (238, 132, 38),
    "yellow": (246, 206, 58),
    "green": (66, 152, 78),
    "blue": (54, 108, 200),
    "purple": (132, 78, 176),
    "pink": (242, 146, 178),
    "white": (232, 232, 228),
    "black": (50, 48, 54),
    "brown": (138, 90, 54),
    "grey": (146, 150, 156),
}


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    `tall` is its height as a fraction of the picture's when it stands in the foreground; `shape` is the width and
    height of the drawing's own coordinates; `poses` are the ways it is drawn.
    """

    colours: tuple[str, ...]
    tall: float
    shape: tuple[float, float]
    poses: tuple[str, ...]


def _kind(colours: str, tall: float, shape: tuple[float, float], poses: str) -> Kind:
    return Kind(tuple(colours.split()), tall, shape, tuple(poses.split()))


KINDS: dict[str, Kind] = {
    "dog": _kind("brown black white grey", 0.32, (104, 80), "stand run sit"),
    "cat": _kind("black white grey orange brown", 0.30, (100, 84), "sit walk lie"),
    "horse": _kind("brown black white grey", 0.46, (116, 100), "stand run graze"),
    "cow": _kind("brown black white", 0.38, (116, 84), "stand graze"),
    "rabbit": _kind("white grey brown black", 0.24, (70, 76), "sit hop"),
    "duck": _kind("yellow white brown", 0.23, (84, 72), "stand"),
    "bird": _kind("red blue yellow white black", 0.19, (100, 72), "fly"),
    "car": _kind("red blue yellow white black green grey", 0.25, (120, 54), "park drive"),
    "bus": _kind("red yellow green blue white orange", 0.36, (130, 76), "park drive"),
    "boat": _kind("red white blue green yellow brown", 0.38, (96, 100), "sail motor"),
    "plane": _kind("white red blue yellow grey", 0.19, (130, 62), "fly"),
    "ball": _kind("red blue yellow green orange pink purple white", 0.17, (60, 60), "plain striped"),
    "kite": _kind("red blue yellow green orange pink purple", 0.34, (70, 110), "fly"),
    "balloon": _kind("red blue yellow green orange pink purple", 0.36, (50, 110), "float"),
    "bear": _kind("brown white pink grey", 0.29, (76, 84), "sit"),
    "flower": _kind("red pink yellow white purple orange blue", 0.29, (60, 100), "daisy tulip"),
    "mushroom": _kind("red brown white orange", 0.22, (74, 72), "stand"),
    "chair": _kind("red blue green yellow brown white black", 0.38, (62, 100), "stand"),
    "sofa": _kind("red blue green grey brown purple yellow", 0.32, (136, 74), "stand"),
    "lamp": _kind("yellow red white green blue pink", 0.52, (50, 130), "stand"),
    "umbrella": _kind("red blue yellow green pink purple orange black", 0.46, (100, 100), "plain striped"),
    "tent": _kind("orange red blue green yellow", 0.34, (116, 80), "stand"),
}


@dataclass(frozen=True)
class Setting:
    """A place: which kinds stand on its ground, float on its water and hang in its air, and when it is seen."""

    land: tuple[str, ...]
    water: tuple[str, ...]
    air: tuple[str, ...]
    times: tuple[str, ...]


def _setting(land: str, water: str, air: str, times: str = "day day day day dull sunset sunset night") -> Setting:
    return Setting(tuple(land.split()), tuple(water.split()), tuple(air.split()), tuple(times.split()))


SETTINGS: dict[str, Setting] = {
    "beach": _setting("dog cat horse ball umbrella chair bear tent", "boat", "kite bird balloon plane"),
    "field": _setting(
        "dog cat horse cow rabbit ball flower mushroom tent chair umbrella car sofa duck bear", "",
        "kite bird balloon plane",
    ),
    "street": _setting("car bus dog cat ball umbrella chair horse", "", "bird balloon plane",
                       "day day day dull sunset"),
    "snow": _setting("dog cat horse rabbit ball car bus tent bear chair", "", "kite bird plane balloon"),
    "sea": _setting("", "boat duck ball", "bird plane kite balloon"),
    "lake": _setting("", "boat duck ball", "bird plane kite balloon"),
    "room": _setting("dog cat rabbit ball bear chair sofa lamp flower umbrella", "", "balloon", "day"),
    "city": _setting("car bus dog cat lamp umbrella horse chair", "", "balloon plane bird", "night"),
    "forest": _setting("dog horse rabbit cow mushroom flower tent bear chair car cat", "", "bird balloon",
                       "day day day dull sunset"),
    "desert": _setting("car bus horse dog tent ball umbrella chair sofa cow", "", "kite bird balloon plane"),
    "park": _setting("dog cat duck ball flower chair umbrella bear rabbit mushroom lamp", "", "kite bird balloon",
                     "day day day dull sunset"),
}

# Pairs that occur in test images only. Each kind, colour and setting by itself is common in training.
UNSEEN_COLOURS: frozenset[tuple[str, str]] = frozenset({
    ("dog", "white"), ("cat", "orange"), ("horse", "black"), ("rabbit", "brown"), ("bird", "yellow"),
    ("car", "green"), ("bus", "blue"), ("boat", "yellow"), ("plane", "red"), ("ball", "purple"),
    ("kite", "orange"), ("balloon", "pink"), ("flower", "white"), ("chair", "yellow"), ("sofa", "red"),
    ("umbrella", "green"), ("tent", "blue"),
})  # fmt: skip
UNSEEN_SETTINGS: frozenset[tuple[str, str]] = frozenset({
    ("dog", "snow"), ("cat", "beach"), ("horse", "desert"), ("rabbit", "forest"), ("car", "field"),
    ("bus", "snow"), ("balloon", "sea"), ("kite", "snow"), ("bear", "park"), ("chair", "street"),
    ("umbrella", "field"), ("ball", "lake"), ("plane", "beach"),
})  # fmt: skip

# What sits on what, and where on it: the seat's height as a fraction of the supporting thing's.
SEATS: dict[str, float] = {"sofa": 0.36, "chair": 0.4}
SITTERS: tuple[str, ...] = ("cat", "dog", "bear", "rabbit", "ball")


def unseen_colour(kind: str, colour: str) -> bool:
    return (kind, colour) in UNSEEN_COLOURS


def unseen_setting(kind: str, setting: str) -> bool:
    return (kind, setting) in UNSEEN_SETTINGS
