"""Relations between two groups of things, computed from their boxes in the picture."""

from showtell.data.datasets.scenes.structure import Picture, Thing

Box = tuple[int, int, int, int]


def groups_of(picture: Picture) -> list[list[int]]:
    """Indices of the things, by group."""
    groups: dict[int, list[int]] = {}
    for index, thing in enumerate(picture.scene.things):
        groups.setdefault(thing.group, []).append(index)
    return [groups[number] for number in sorted(groups)]


def relation(picture: Picture, group: list[int], other: list[int]) -> str | None:
    """The relation of every thing in `group` to every thing in `other`: beside, near, behind, before (in front of),
    above, below, on, holding; None when no simple one holds."""
    found = {_between(picture, one, two) for one in group for two in other}
    if found == {"beside", "near"}:
        return "near"
    return found.pop() if len(found) == 1 else None


def _between(picture: Picture, one: int, two: int) -> str | None:
    things, boxes, size = picture.scene.things, picture.boxes, picture.size
    if things[one].on == two:
        return "on"
    if things[two].on == one:
        return "holding"
    if things[one].on is not None or things[two].on is not None:
        return None
    return _by_boxes(things[one], boxes[one], things[two], boxes[two], size)


def _by_boxes(thing: Thing, box: Box, other: Thing, beyond: Box, size: int) -> str | None:
    across = max(box[0], beyond[0]) - min(box[2], beyond[2])  # gap; negative when they overlap
    narrow = min(box[2] - box[0], beyond[2] - beyond[0])
    flies, other_flies = thing.zone == "air", other.zone == "air"
    if flies != other_flies:
        high, low = (box, beyond) if flies else (beyond, box)
        if high[3] <= low[1] + 0.02 * size and across < 0.04 * size:
            return "above" if flies else "below"
        return None
    foot = (box[3] - beyond[3]) / size
    if across < -0.3 * narrow and abs(foot) > 0.05 and not flies:
        touch = max(box[1], beyond[1]) - min(box[3], beyond[3])
        return ("behind" if foot < 0 else "before") if touch < 0.02 * size else None
    if abs(foot) < 0.1 and -0.25 * narrow < across < 0.15 * size:
        return "beside"
    return "near" if abs(foot) < 0.2 and across < 0.2 * size else None
