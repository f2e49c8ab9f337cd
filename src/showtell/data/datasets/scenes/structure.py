"""The description of a scene before it is drawn: a backdrop and one to four things with colour, pose and position."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backdrop:
    """Where and when; fractions of the picture's height or width, y downwards."""

    setting: str
    time: str  # day | dull | sunset | night
    horizon: float  # where sky (or wall) meets ground (or floor, or water)
    shore: float  # where sand begins (beach), the road (street, city), the rug's middle (room); else the horizon
    sun: float  # the sun's or moon's x; may lie outside the picture
    clouds: int
    feature: str  # what stands out behind: hills, mountains, palms, window, picture, ... or ""
    wall: str = ""  # room: the wall's colour


@dataclass(frozen=True)
class Thing:
    """One thing: `x` is its middle, `y` its foot (for what hangs in the air: its lowest point), `tall` its height."""

    kind: str
    colour: str
    pose: str
    zone: str  # land | water | air
    x: float
    y: float
    tall: float
    group: int
    flip: bool = False
    tilt: float = 0.0
    shade: float = 0.0  # -1 a dark, 1 a light version of the colour
    on: int | None = None  # the index of the thing that it sits on


@dataclass(frozen=True)
class Scene:
    backdrop: Backdrop
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Picture:
    """A drawn scene: boxes in the order of `scene.things`, [left, top, right, bottom] in pixels."""

    scene: Scene
    size: int
    boxes: tuple[tuple[int, int, int, int], ...]
    jpeg: bytes = field(repr=False)
