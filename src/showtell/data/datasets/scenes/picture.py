"""Drawing a composed scene: backdrop, then each thing from the farthest to the nearest, then light and grain."""

import io
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from showtell.data.datasets.scenes import draw_animals, draw_objects, draw_toys, draw_vehicles
from showtell.data.datasets.scenes.backdrops_built import PAINTERS
from showtell.data.datasets.scenes.brush import Brush, Colour, mix, tone
from showtell.data.datasets.scenes.canvas import Canvas, noise
from showtell.data.datasets.scenes.structure import Scene, Thing
from showtell.data.datasets.scenes.world import COLOURS, KINDS

DRAWINGS = {
    "dog": draw_animals.dog, "cat": draw_animals.cat, "horse": draw_animals.horse, "cow": draw_animals.cow,
    "rabbit": draw_animals.rabbit, "duck": draw_animals.duck, "bird": draw_animals.bird, "car": draw_vehicles.car,
    "bus": draw_vehicles.bus, "boat": draw_vehicles.boat, "plane": draw_vehicles.plane, "ball": draw_toys.ball,
    "kite": draw_toys.kite, "balloon": draw_toys.balloon, "bear": draw_toys.bear, "flower": draw_objects.flower,
    "mushroom": draw_objects.mushroom, "chair": draw_objects.chair, "sofa": draw_objects.sofa,
    "lamp": draw_objects.lamp, "umbrella": draw_objects.umbrella, "tent": draw_objects.tent,
}  # fmt: skip
QUALITY = 92
DRAUGHT = 0.1  # the share of what floats that is under water
HIDDEN = 0.5  # a thing must show at least this share of itself
LIGHTS: dict[str, tuple[Colour, float]] = {  # what the light does to things: a colour and its share
    "day": ((255, 255, 255), 0.0), "dull": ((150, 158, 168), 0.14), "sunset": ((232, 130, 86), 0.17),
    "night": ((26, 32, 70), 0.3),
}  # fmt: skip

Box = tuple[int, int, int, int]


def draw(scene: Scene, size: int, seed: str) -> tuple[Image.Image, list[Box], bool]:
    """The picture, the box of every thing, and whether every thing is visible enough to be named.

    Boxes are exact: the smallest that contain all drawn pixels of a thing inside the frame.
    """
    rng = Random(f"{seed}/backdrop")
    canvas = Canvas(size, rng)
    PAINTERS[scene.backdrop.setting](canvas, scene.backdrop)
    image = canvas.finish()
    masks: dict[int, np.ndarray] = {}
    light = float(np.clip((scene.backdrop.sun - 0.5) * 2, -1, 1))
    for index in drawing_order(scene):
        thing = scene.things[index]
        layer, corner = _layer(thing, scene, size, light, Random(f"{seed}/thing/{index}"))
        _ground_it(image, layer, corner, thing, light)
        image.paste(layer, corner, layer)
        frame = Image.new("L", (size, size))
        frame.paste(layer.getchannel("A"), corner)
        mask = np.asarray(frame) > 110
        for other in masks:
            masks[other] = np.stack([masks[other][0], masks[other][1] & ~mask])
        masks[index] = np.stack([mask, mask])  # all of it, and its visible part
    boxes = [_box(masks[index][0]) for index in range(len(scene.things))]
    clear = all(masks[i][1].sum() >= HIDDEN * masks[i][0].sum() > 0 for i in masks)
    return _developed(image, scene, rng), boxes, clear


def drawing_order(scene: Scene) -> list[int]:
    """Indices from the farthest to the nearest: what flies is behind what stands, sitters come after their seats."""

    def nearness(index: int) -> tuple[float, int]:
        thing = scene.things[index]
        if thing.zone == "air":
            return (thing.tall - 2, 0)
        return (scene.things[thing.on].y, 1) if thing.on is not None else (thing.y, 0)

    return sorted(range(len(scene.things)), key=nearness)


def encode(image: Image.Image) -> bytes:
    """JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _layer(thing: Thing, scene: Scene, size: int, light: float, rng: Random) -> tuple[Image.Image, tuple[int, int]]:
    """The thing on a transparent layer, and where the layer's top left corner goes."""
    kind = KINDS[thing.kind]
    unit = thing.tall * size / kind.shape[1]
    brush = Brush(kind.shape, unit, thing.flip, thing.tilt)
    bright = rng.uniform(-7, 7)
    rgb = tuple(channel + bright + rng.uniform(-3, 3) for channel in tone(COLOURS[thing.colour], 0.2 * thing.shade))
    rgb = mix(rgb, *LIGHTS[scene.backdrop.time])  # type: ignore[arg-type]
    DRAWINGS[thing.kind](brush, rgb, thing.pose, rng)
    wide, high = brush.image.size
    layer = brush.finish(light, noise(wide, high, rng))
    if thing.zone == "water":
        _sink(layer, round((kind.shape[1] * (1 - DRAUGHT) + brush.margin) * unit))
    left = thing.x * size - (kind.shape[0] / 2 + brush.margin) * unit
    top = thing.y * size - (kind.shape[1] + brush.margin) * unit
    return layer, (round(left), round(top))


def _sink(layer: Image.Image, waterline: int) -> None:
    """Make what lies under the waterline (a row of the layer) invisible."""
    layer.paste((0, 0, 0, 0), (0, waterline, layer.width, layer.height))


def _ground_it(image: Image.Image, layer: Image.Image, corner: tuple[int, int], thing: Thing, light: float) -> None:
    """A shadow on the ground or a reflection in the water; nothing for what flies."""
    if thing.zone == "air" or thing.on is not None:
        return
    alpha = layer.getchannel("A")
    bounds = alpha.getbbox()
    if bounds is None:
        return
    shape = alpha.crop(bounds)
    wide, high = shape.size
    left, foot = corner[0] + bounds[0], corner[1] + bounds[3]
    if thing.zone == "water":
        mirror = layer.crop(bounds).transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((wide, max(1, high // 2)))
        fade = np.linspace(0.45, 0.05, mirror.height, dtype=np.float32)[:, None]
        veil = np.asarray(mirror.getchannel("A"), np.float32) * fade
        image.paste(mirror.convert("RGB"), (left, foot - 2), Image.fromarray(veil.astype(np.uint8)))
        return
    low = max(2, round(high * 0.22))
    slant = -light * 1.3
    margin = round(abs(slant) * low) + 4
    flat = Image.new("L", (wide + 2 * margin, low + 8))
    flat.paste(shape.resize((wide, low)), (margin, 4))
    flat = flat.transform(flat.size, Image.Transform.AFFINE, (1, slant * -1, slant * (low + 3), 0, 1, 0),
                          Image.Resampling.BILINEAR)  # fmt: skip
    flat = flat.filter(ImageFilter.GaussianBlur(1.6)).point(lambda value: value * 0.38)
    image.paste((24, 22, 40), (left - margin, foot - low - 4 + 1), flat)


def _box(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _developed(image: Image.Image, scene: Scene, rng: Random) -> Image.Image:
    """Uneven light, darker corners and the grain of a camera."""
    size = image.width
    span = np.linspace(-1, 1, size, dtype=np.float32)
    corners = 1 - 0.06 * (span[:, None] ** 2 + span[None, :] ** 2) ** 1.5
    lean = 1 + 0.05 * np.float32(scene.backdrop.sun - 0.5) * span[None, :]
    grain = noise(size, size, rng) * rng.uniform(1.5, 4.5)
    exposure = rng.uniform(0.97, 1.12)
    pixels = np.asarray(image, np.float32) * (corners * lean * exposure)[..., None] + grain[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
