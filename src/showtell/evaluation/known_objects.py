"""Metrics on annotated objects: captions against `objects.json`, where a dataset has it.

Every metric is stored as sums over images (`Measured`), from which scores and bootstrap intervals are computed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from showtell.data.captions import CaptionFile
from showtell.data.transform import Transform
from showtell.generation.captioner import Caption
from showtell.metrics.bootstrap import Measured, mean, ratio
from showtell.metrics.objects import Mention, Names, chair_counts, kinds, pointing
from showtell.metrics.statements import (
    PARTLY,
    RIGHT,
    SILENT,
    WRONG,
    Statement,
    all_true,
    colour_counts,
    held_out,
    held_out_outcome,
    statements,
)

KEYS = ("chair_i", "chair_s", "recall", "pointing", "pointing_chance", "colours_right", "captions_true")
OUTCOMES = {outcome: f"held_out_{outcome}" for outcome in (RIGHT, PARTLY, WRONG, SILENT)}

Captions = Mapping[Any, Caption]  # the best caption of each image, by image id


def in_view(objects: Mapping[str, Any], transform: Transform) -> dict[str, Any]:
    """`objects.json` with sizes and boxes in the coordinates of the transformed image, which attention maps refer to.

    An object that is cut off keeps its kind; its box is then outside the image.
    """
    images = {}
    for image_id, image in objects.get("images", {}).items():
        left, top, right, bottom = transform.view(*image["size"])
        moved = [
            {**thing, "box": [x - shift for x, shift in zip(thing["box"], (left, top, left, top), strict=True)]}
            for thing in image["objects"]
        ]
        images[image_id] = {**image, "size": [right - left, bottom - top], "objects": moved}
    return {**objects, "images": images} if images else dict(objects)


def on_things(
    best: Captions, objects: Mapping[str, Any], references: Mapping[Any, Sequence[Sequence[str]]]
) -> dict[str, Measured]:
    """CHAIR (per mention and per caption), recall of objects, pointing and its chance level, the share of stated
    colours that are right, and of captions all of whose objects and colours are.

    Empty where a dataset has no objects. Where `objects` has `references_tell`, CHAIR also counts objects named in the
    `references` (words) of an image as present, as in its definition for COCO.
    """
    known = objects.get("images", {})
    if not known:
        return {}
    names = Names(objects["names"])
    mentions = [names.mentions(caption.words) for caption in best.values()]
    things = [known[str(image_id)]["objects"] for image_id in best]
    counts = [chair_counts(found, kinds(there)) for found, there in zip(mentions, things, strict=True)]
    hallucinated = counts
    if objects.get("references_tell"):
        named = [{mention.kind for words in references[i] for mention in names.mentions(words)} for i in best]
        both = [kinds(there) | more for there, more in zip(things, named, strict=True)]
        hallucinated = [chair_counts(found, there) for found, there in zip(mentions, both, strict=True)]
    said = said_of(best, objects).values()
    colours = [colour_counts(stated, there) for stated, there in zip(said, things, strict=True)]
    return {
        "chair_i": ratio([c.absent for c in hallucinated], [c.mentions for c in counts]),
        "chair_s": mean([c.absent > 0 for c in hallucinated]),
        "recall": ratio([c.recalled for c in counts], [c.present for c in counts]),
        "colours_right": ratio([right for right, _ in colours], [made for _, made in colours]),
        "captions_true": mean([all_true(stated, there) for stated, there in zip(said, things, strict=True)]),
        **_pointing(best, mentions, known),
    }


def _pointing(best: Captions, mentions: Sequence[Sequence[Mention]], known: Mapping[str, Any]) -> dict[str, Measured]:
    """Pointing and its chance level; empty for decoders without attention."""
    counts = []
    for (image_id, caption), found in zip(best.items(), mentions, strict=True):
        if caption.attention is None:
            return {}
        side, image = round(caption.attention.shape[1] ** 0.5), known[str(image_id)]
        size = tuple(image["size"])
        counts.append(pointing(found, caption.attention, (side, side), image["objects"], size, caption.shift))
    looked = [c.mentions for c in counts]
    return {
        "pointing": ratio([c.hits for c in counts], looked),
        "pointing_chance": ratio([c.chance for c in counts], looked),
    }


def true_captions(best: Captions, objects: Mapping[str, Any]) -> list[bool] | None:
    """Whether all objects and colours in each caption are there; None without objects."""
    known = objects.get("images", {})
    if not known:
        return None
    return [all_true(said, known[str(image_id)]["objects"]) for image_id, said in said_of(best, objects).items()]


def said_of(best: Captions, objects: Mapping[str, Any]) -> dict[Any, list[Statement]]:
    """The objects that each caption mentions, with the colours that it states."""
    names, colours = Names(objects["names"]), objects.get("colours", {})
    return {
        image_id: statements(caption.words, names.mentions(caption.words), colours)
        for image_id, caption in best.items()
    }


def held_out_metrics(best: Captions, objects: Mapping[str, Any], train: CaptionFile) -> dict[str, float | None]:
    """Metrics on the objects of test whose pair of kind and colour, or kind and setting, is in no training image:
    shares of captions that name them rightly, without their colour, wrongly, or not at all. None without objects."""
    known = objects.get("images", {})
    if not known:
        return dict.fromkeys(OUTCOMES.values())
    pairs = held_out(known, set(train.image_ids))
    outcomes = [
        held_out_outcome(said, known[str(image_id)], pairs) for image_id, said in said_of(best, objects).items()
    ]
    total = sum(outcome is not None for outcome in outcomes)
    return {key: outcomes.count(outcome) / total if total else None for outcome, key in OUTCOMES.items()}
