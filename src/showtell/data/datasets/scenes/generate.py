"""The embedded dataset: drawn scenes with captions, boxes and names, in the format of all sources."""

import multiprocessing
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field

from showtell.core import params, paths
from showtell.core.files import atomic, write_json
from showtell.core.machine import cores
from showtell.core.progress import track
from showtell.data.datasets import karpathy
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.scenes.compose import compose, in_any_colours, is_unseen
from showtell.data.datasets.scenes.five_people import captions
from showtell.data.datasets.scenes.phrases import colour_words, names
from showtell.data.datasets.scenes.picture import draw, encode
from showtell.data.datasets.scenes.structure import Picture
from showtell.data.datasets.scenes.world import COLOURS, KINDS

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the archive's bytes must not depend on the time


class ScenesParams(params.Section):
    """The embedded dataset: how many pictures, how large, from which seed."""

    seed: int = Field(ge=0, description="another seed draws another world of pictures and captions")
    train: int = Field(ge=1, le=1_000_000, description="training images")
    val: int = Field(ge=2, le=1_000_000, description="validation images; CIDEr-D needs two")
    test: int = Field(ge=2, le=1_000_000, description="test images; CIDEr-D needs two")
    size: int = Field(ge=64, le=448, description="width and height of the drawn pictures, pixels")


def make(seed: int, split: str, index: int, size: int, any_colours: float = 0.0) -> Picture:
    """Picture number `index` of a split: a function of its arguments; `any_colours` is the probability that its things
    are `in_any_colours`."""
    name = f"{seed}/{split}/{index}"
    rng = Random(name)
    free = any_colours > 0 and rng.random() < any_colours
    while True:  # a scene whose things hide each other is composed again
        scene = compose(rng, split)
        if free:
            scene = in_any_colours(rng, scene)
        image, boxes, clear = draw(scene, size, name)
        if clear:
            return Picture(scene, size, tuple(boxes), encode(image))


def generate(folder: Path, params: ScenesParams) -> None:
    """Write captions.json (Karpathy's format), objects.json (kinds, colours, boxes) and images/scenes.zip.

    Equal params give equal bytes.
    """
    jobs = [(params.seed, split, i, params.size) for split in paths.SPLITS for i in range(getattr(params, split))]
    records, objects = [], {}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with atomic(folder / "images" / "scenes.zip") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, (picture, said) in enumerate(track(_pictures(jobs), "drawing scenes", len(jobs))):
            file, split = f"scene-{number:06d}.jpg", jobs[number][1]
            archive.writestr(zipfile.ZipInfo(file, ZIP_TIME), picture.jpeg)
            records.append(Record(number, file, split, said, [_words(caption) for caption in said]))
            objects[str(number)] = _objects(picture)
    spelt = {"names": {k: names(k) for k in KINDS}, "colours": {c: colour_words(c) for c in COLOURS}}
    write_json(folder / "objects.json", {**spelt, "images": objects}, indent=None)
    karpathy.write(folder / "captions.json", "scenes", records)


def _one(job: tuple[int, str, int, int]) -> tuple[Picture, list[str]]:
    picture = make(*job)
    return picture, captions(picture, Random(f"{job[0]}/{job[1]}/{job[2]}/captions"))


def _pictures(jobs: list[tuple[int, str, int, int]]) -> Any:
    """Pictures with their captions, in the order of the jobs, computed on all cores."""
    workers = cores()
    if workers == 1 or len(jobs) < 200:
        yield from map(_one, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_one, jobs, chunksize=32)


def _words(caption: str) -> list[str]:
    return caption.lower().replace(",", "").replace(".", "").split()


def _objects(picture: Picture) -> dict[str, Any]:
    things = [
        {"kind": thing.kind, "colour": thing.colour, "box": list(box)}
        for thing, box in zip(picture.scene.things, picture.boxes, strict=True)
    ]
    return {"size": [picture.size, picture.size], "setting": picture.scene.backdrop.setting,
            "unseen": is_unseen(picture.scene), "objects": things}  # fmt: skip
