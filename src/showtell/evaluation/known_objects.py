"""Metrics on annotated objects: captions against what is known of the images, where anything is.

Every metric is stored as sums over images (`Measured`), from which scores and bootstrap intervals are computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from showtell.data.captions import CaptionFile
from showtell.data.transform import Transform
from showtell.generation.captioner import Caption
from showtell.metrics.annotations import Annotations
from showtell.metrics.bootstrap import Measured, mean, ratio
from showtell.metrics.objects import Mention, chair_counts, kinds, pointing
from showtell.metrics.statements import (
    PARTLY,
    RIGHT,
    SILENT,
    WRONG,
    all_true,
    colour_counts,
    held_out,
    held_out_outcome,
)

KEYS = ("chair_i", "chair_s", "recall", "pointing", "pointing_chance", "colours_right", "captions_true")
OUTCOMES = {outcome: f"held_out_{outcome}" for outcome in (RIGHT, PARTLY, WRONG, SILENT)}

Captions = Mapping[Any, Caption]  # the best caption of each image, by image id


def in_view(objects: Mapping[str, Any], transform: Transform) -> Annotations:
    """The content of `objects.json`, with sizes and boxes in the coordinates of the transformed image, which attention
    maps refer to.

    An object that is cut off keeps its kind; its box is then outside the image.
    """
    known = Annotations.of(objects)
    images = {}
    for image_id, image in known.images.items():
        left, top, right, bottom = transform.view(*image["size"])
        moved = [
            {**thing, "box": [x - shift for x, shift in zip(thing["box"], (left, top, left, top), strict=True)]}
            for thing in image["objects"]
        ]
        images[image_id] = {**image, "size": [right - left, bottom - top], "objects": moved}
    return replace(known, images=images)


def on_things(
    best: Captions, known: Annotations, references: Mapping[Any, Sequence[Sequence[str]]]
) -> dict[str, Measured]:
    """CHAIR (per mention and per caption), recall of objects, pointing and its chance level, the share of stated
    colours that are right, and of captions all of whose objects and colours are.

    Empty where a dataset has no objects, without `colours_right` where it has no colours. With `known.references_tell`,
    CHAIR also counts objects named in the `references` (words) of an image as present, as in its definition for COCO.
    """
    if not known:
        return {}
    said = [known.statements(caption.words) for caption in best.values()]
    mentions = [[statement.mention for statement in stated] for stated in said]
    things = [known.objects(image_id) for image_id in best]
    counts = [chair_counts(found, kinds(there)) for found, there in zip(mentions, things, strict=True)]
    hallucinated = counts
    if known.references_tell:
        named = [{mention.kind for words in references[i] for mention in known.names.mentions(words)} for i in best]
        both = [kinds(there) | more for there, more in zip(things, named, strict=True)]
        hallucinated = [chair_counts(found, there) for found, there in zip(mentions, both, strict=True)]
    colours = [colour_counts(stated, there) for stated, there in zip(said, things, strict=True)]
    return {
        "chair_i": ratio([c.absent for c in hallucinated], [c.mentions for c in counts]),
        "chair_s": mean([c.absent > 0 for c in hallucinated]),
        "recall": ratio([c.recalled for c in counts], [c.present for c in counts]),
        **({"colours_right": ratio(*zip(*colours, strict=True))} if known.colours else {}),
        "captions_true": mean([all_true(stated, there) for stated, there in zip(said, things, strict=True)]),
        **_pointing(best, mentions, known),
    }


def _pointing(best: Captions, mentions: Sequence[Sequence[Mention]], known: Annotations) -> dict[str, Measured]:
    """Pointing and its chance level; empty for decoders without attention."""
    counts = []
    for (image_id, caption), found in zip(best.items(), mentions, strict=True):
        if caption.attention is None:
            return {}
        side, image = round(caption.attention.shape[1] ** 0.5), known.images[str(image_id)]
        size = tuple(image["size"])
        counts.append(pointing(found, caption.attention, (side, side), image["objects"], size, caption.shift))
    looked = [c.mentions for c in counts]
    return {
        "pointing": ratio([c.hits for c in counts], looked),
        "pointing_chance": ratio([c.chance for c in counts], looked),
    }


def true_captions(best: Captions, known: Annotations) -> list[bool] | None:
    """Whether all objects and colours in each caption are there; None without objects."""
    if not known:
        return None
    return [
        all_true(known.statements(caption.words), known.objects(image_id)) for image_id, caption in best.items()
    ]


def held_out_metrics(best: Captions, known: Annotations, train: CaptionFile) -> dict[str, float | None]:
    """Metrics on the objects of test whose pair of kind and colour, or kind and setting, is in no training image:
    shares of captions that name them rightly, without their colour, wrongly, or not at all. None without objects."""
    if not known:
        return dict.fromkeys(OUTCOMES.values())
    pairs = held_out(known.images, set(train.image_ids))
    outcomes = [
        held_out_outcome(known.statements(caption.words), known.images[str(image_id)], pairs)
        for image_id, caption in best.items()
    ]
    total = sum(outcome is not None for outcome in outcomes)
    return {key: outcomes.count(outcome) / total if total else None for outcome, key in OUTCOMES.items()}
