"""Labels of drawn scenes as numbers, for training an encoder.

One array per picture, float32 (`THINGS` + 1, `FIELDS`): a row for each thing, unused rows -1, and the last row for the
scene as a whole. Names are replaced by their index in the tuples below.
"""

from math import log

import numpy as np

from showtell.data.datasets.scenes.compose import FEATURES as FEATURES_OF
from showtell.data.datasets.scenes.picture import drawing_order
from showtell.data.datasets.scenes.structure import Picture
from showtell.data.datasets.scenes.world import COLOURS, KINDS, SETTINGS

THINGS = 4  # greatest number of things in a scene

# Columns of a thing: kind, colour, pose, its box in fractions of the picture, nearness (0: the farthest), its height
# relative to the usual height of its kind (natural log), and the lightness of its colour (-1 to 1).
KIND, COLOUR, POSE, LEFT, TOP, RIGHT, BOTTOM, NEARNESS, GROWTH, SHADE = range(10)
FIELDS = 10
SETTING, TIME, FEATURE = range(3)  # columns of the scene's row

KIND_NAMES, COLOUR_NAMES, SETTING_NAMES = tuple(KINDS), tuple(COLOURS), tuple(SETTINGS)
TIME_NAMES = ("day", "dull", "sunset", "night")
FEATURE_NAMES = tuple(dict.fromkeys(("", *(name for names in FEATURES_OF.values() for name in names))))
# Ducks on water and flowers in rooms have poses that are not in the world's table.
POSE_NAMES = tuple(dict.fromkeys((
    *((kind, pose) for kind, entry in KINDS.items() for pose in entry.poses), ("duck", "swim"), ("flower", "potted"),
)))  # fmt: skip


def labels(picture: Picture) -> np.ndarray:
    """The labels of `picture`, float32 (`THINGS` + 1, `FIELDS`)."""
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
