"""What COCO takes: the work of each stage timed on a few images of its sizes, times its numbers of images.

    python benchmarks/coco.py [--quick] [--rounds 3]

Everything as the recipe show-attend-tell has it, in the arithmetic that `precision: auto` picks here: pictures of
640 x 480 to 256 pixels, ResNet-101, attention over 14 x 14 cells, vocabulary of 9,490, captions of 9 to 16 words. The
time of `vocab` and the bytes that captions take in memory come from docs/growth.tsv, which growth.py writes. Prints a
table; `benchmarks/run.py --growth` puts it into docs/performance.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import growth_figures
import numpy as np
import setting
import torch
from beam_search import captioner_of
from extraction import Ours
from finetune_epoch import our_update
from measure import arguments, device_name, seconds, timed

from showtell.data.batches import Batch
from showtell.data.datasets.coco import COCO
from showtell.data.resizing import workers
from showtell.encoders.features import row_shape
from showtell.generation.captioner import Captioner, Encoded

GROWTH = Path(__file__).resolve().parents[1] / "docs" / "growth.tsv"
TRAIN, VAL, TEST = (COCO.counts[split] for split in ("train", "val", "test"))
IMAGES = TRAIN + VAL + TEST


class Work(NamedTuple):
    """What a stage does, the seconds of an image it is mostly about, and all of COCO's."""

    stage: str
    image: float
    whole: float
    disk: str = ""


def prepared(sizes: setting.Sizes, images: int, rounds: int) -> list[Work]:
    """resize and features."""
    with TemporaryDirectory() as name, workers(images if images >= 64 else 0) as pool:  # forks come before threads
        ours = Ours(Path(name), images, sizes, pool)
        resizing = once(ours.resize, rounds) / images
        encoder = setting.encoder_of(sizes)
        extracting = once(lambda: ours.extract(encoder), rounds) / images
    pixels = 3 * sizes.pixels**2
    grid = 2 * int(np.prod(row_shape(encoder)))
    return [
        Work("`resize`", resizing, IMAGES * resizing, gigabytes(IMAGES * pixels)),
        Work("`features`", extracting, IMAGES * extracting, gigabytes(IMAGES * grid)),
    ]


def trained(sizes: setting.Sizes, many: int, rounds: int) -> list[Work]:
    """An epoch of train and of finetune, each with its validation."""
    train, finetune = setting.published("train"), setting.published("finetune")
    learners = {
        "train": (setting.grids, train, setting.Updates(setting.decoder_of(sizes), train)),
        "finetune": (setting.pictures, finetune, our_update(sizes, finetune.precision)),
    }
    works, captioner = [], captioner_of(sizes)
    for stage, (pictures, params, updates) in learners.items():
        images = min(many, params.images_per_update)
        updating = once(partial(updates, setting.captioned(sizes, pictures(sizes, images))), rounds) / images
        judged = setting.captioned(sizes, pictures(sizes, many))
        judging = once(partial(validated, updates, captioner, judged), rounds) / many
        works.append(Work(f"`{stage}`, an epoch", updating, TRAIN * updating + VAL * judging))
    return works


@torch.inference_mode()
def validated(updates: setting.Updates, captioner: Captioner, batch: Batch) -> None:
    """What validation does with a batch: the loss on given captions, and captions of its own.

    Those by `captioner`: networks that have learnt nothing yet end no caption.
    """
    network = updates.network.eval()
    network.loss(batch)
    beam = setting.published("train").validation_beam
    encoded = Encoded((network.features(batch.images),), tuple(range(len(batch.images))))
    captioner.decode(encoded, attention=False, beam=beam, length_penalty=0.0, block_ngrams=0)
    network.train()


def evaluated(sizes: setting.Sizes, images: int, rounds: int) -> Work:
    """Captions of test by both models, and of val with each decoding that is compared."""
    captioner, pictures = captioner_of(sizes, precision="auto"), setting.pictures(sizes, images)
    sweep = setting.published("sweep")
    encoding = once(lambda: captioner.encode(pictures), rounds) / images
    features = captioner.encode(pictures)
    n_best = min(captioner.search.most, setting.published("evaluate").captions)
    generating = once(lambda: captioner.decode(features, n_best), rounds) / images
    each = [once(lambda b=b: captioner.decode(features, attention=False, beam=b), 1) / images for b in sweep.beams]
    swept = len(sweep.length_penalties) * sum(each)
    image = encoding + generating
    return Work("`evaluate`, its captions", image, 2 * TEST * image + VAL * (encoding + swept))


def once(call: Callable[[], object], rounds: int) -> float:
    """Median seconds of a call, after one that does not count."""
    call()
    return median(timed(call) for _ in range(rounds))


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def table(works: list[Work]) -> str:
    lines = ["| stage | an image | COCO | on disk |", "| --- | --- | --- | --- |"]
    lines += [f"| {w.stage} | {seconds(w.image)} | {w.whole / 3600:.2g} h | {w.disk} |" for w in works]
    return "\n".join(lines)


def captions(runs: list[growth_figures.Run]) -> str:
    """What COCO's captions take in the memory of each stage."""
    count = growth_figures.CAPTIONS * IMAGES
    taken = {stage: growth_figures.bytes_a_caption(runs, stage) for stage in growth_figures.STAGES}
    said = ", ".join(f"`{stage}` {gigabytes(max(0.0, each) * count)}" for stage, each in taken.items())
    return f"{count:,} captions take, at the bytes a caption above: {said}."


def main() -> None:
    args: argparse.Namespace = arguments(__doc__, rounds=3).parse_args()
    sizes, images = (setting.QUICK, 4) if args.quick else (setting.FULL, 64)
    runs = growth_figures.read(GROWTH) if GROWTH.exists() else []
    works = [*prepared(sizes, images, args.rounds), *trained(sizes, min(images, 32), args.rounds)]
    works.append(evaluated(sizes, images, args.rounds))
    if runs:
        slowest = growth_figures.milliseconds(runs, "vocab")
        image = slowest[max(slowest)] / 1000
        works.insert(0, Work("`vocab`", image, IMAGES * image))
    print(table(works))
    if runs:
        print(f"\n{captions(runs)}")
    if device_name() == "cpu":
        print("\nOn a GPU: not measured.")


if __name__ == "__main__":
    main()
