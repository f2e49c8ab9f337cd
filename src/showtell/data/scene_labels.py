"""What a drawn picture shows, as numbers: what an encoder of scenes learns from.

One array a picture, float32 (`THINGS` + 1, `FIELDS`): a row for each thing, the rest of the rows -1, and one for the
scene as a whole in the end. Names stand for themselves by their position in the tuples below.
"""

from math import log

import numpy as np

from showtell.data.datasets.scenes.compose import FEATURES as FEATURES_OF
from showtell.data.datasets.scenes.picture import drawing_order
from showtell.data.datasets.scenes.structure import Picture
from showtell.data.datasets.scenes.world import COLOURS, KINDS, SETTINGS

THINGS = 4  # a scene holds no more

# Columns of a thing: what it is, its box as shares of the picture, how near it is (0: the farthest of all), its height
# beside what is usual for its kind (natural log), and how light its colour is (-1 to 1)
KIND, COLOUR, POSE, LEFT, TOP, RIGHT, BOTTOM, NEARNESS, GROWTH, SHADE = range(10)
FIELDS = 10
SETTING, TIME, FEATURE = range(3)  # columns of the scene's row

KIND_NAMES, COLOUR_NAMES, SETTING_NAMES = tuple(KINDS), tuple(COLOURS), tuple(SETTINGS)
TIME_NAMES = ("day", "dull", "sunset", "night")
FEATURE_NAMES = tuple(dict.fromkeys(("", *(name for names in FEATURES_OF.values() for name in names))))
# Ducks on water and flowers in rooms have poses that the world's table leaves to the place.
POSE_NAMES = tuple(dict.fromkeys((
    *((kind, pose) for kind, entry in KINDS.items() for pose in entry.poses), ("duck", "swim"), ("flower", "potted"),
)))  # fmt: skip


def labels(picture: Picture) -> np.ndarray:
    """What `picture` shows, float32 (`THINGS` + 1, `FIELDS`)."""
    rows = np.full((THINGS + 1, FIELDS), -1, np.float32)
    nearness = {index: place for place, index in enumerate(drawing_order(picture.scene))}
    for index, (thing, box) in enumerate(zip(picture.scene.things, picture.boxes, strict=True)):
        rows[index] = (
            KIND_NAMES.index(thing.kind),
            COLOUR_NAMES.index(thing.colour),
            POSE_NAMES.index((thing.kind, thing.pose)),
            *(side / picture.size for side in box),
            nearness[index],
            log(thing.tall / KINDS[thing.kind].tall),
            thing.shade,
        )
    drop = picture.scene.backdrop
    rows[THINGS, :3] = (
        SETTING_NAMES.index(drop.setting), TIME_NAMES.index(drop.time), FEATURE_NAMES.index(drop.feature)
    )  # fmt: skip
    return rows
