"""An epoch of decoder training, encoder included: encoding per caption and epoch against once an image; fp32, bf16.

    python benchmarks/decoder_epoch.py [--quick] [--rounds 5] [--json]

The plain side encodes an image for each of its captions in every epoch. Ours encodes it once, and that is shared out
over 13 epochs. An epoch is too long to wait for: encoding an image and one update of 16 images x 5 captions are timed,
and put together, per update of an epoch,

    plain = 80 x encode + update        ours = 16 x encode / 13 + update

Pictures and features are in memory on both sides. In fp32 both sides encode and must have the same loss.
"""

import argparse
from collections.abc import Iterator

import setting
import torch
from measure import Result, against, arguments, device_name, report, require, seconds, threads
from plain import PlainEncoder

from showtell.batches import Batch

TARGETS = {"fp32": 40.0, "bf16": 70.0}
EPOCHS = 13
COCO = 113_287  # its training images


def check(batches: dict[str, Batch], sizes: setting.Sizes, grid: torch.Tensor) -> dict[str, str]:
    """Same loss, each side from its own encoding."""
    _, plain = setting.plain_update(sizes, batches["fp32"], grid)
    loss, said = plain(), {}
    for (precision, batch), limit in zip(batches.items(), (1e-5, 1e-2), strict=True):
        off = abs(float(update_of(sizes, precision).gradients(batch)) / loss - 1)
        require(off < limit, f"losses in {precision} by {off:.1e}")
        said[precision] = f"loss within {off:.0e}"
    return said


def update_of(sizes: setting.Sizes, precision: str) -> setting.Updates:
    return setting.Updates(setting.decoder_of(sizes), setting.published("train", precision=precision))


def results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images, timed = (setting.QUICK, 3, 2) if args.quick else (setting.FULL, 16, 8)
    encoder, pictures = setting.encoder_of(sizes), setting.pictures(sizes, images)
    tutorial = PlainEncoder(encoder, setting.published("decoder").grid).to(pictures.device)
    grid = torch.cat([tutorial(part) for part in pictures.split(timed)])
    batches = {p: setting.captioned(sizes, setting.encoded(encoder, pictures, p)) for p in TARGETS}
    same = check(batches, sizes, grid)
    few = pictures[:timed]
    encoders = {p: (lambda p=p: setting.encoded(encoder, few, p)) for p in TARGETS}
    encoding = against(lambda: tutorial(few), encoders, args.rounds)
    updates = {p: update_of(sizes, p) for p in TARGETS}
    _, plain = setting.plain_update(sizes, batches["fp32"], grid)
    updating = against(plain, {p: (lambda p=p: updates[p](batches[p])) for p in TARGETS}, args.rounds)
    captions = images * setting.CAPTIONS
    for precision, target in TARGETS.items():
        encode, update = encoding[precision], updating[precision]
        slow = captions * encode.plain / timed + update.plain
        fast = images * encode.ours / timed / EPOCHS + update.ours
        detail = (
            f"encoding an image {seconds(encode.plain / timed)} and {seconds(encode.ours / timed)}, "
            f"an update {seconds(update.plain)} and {seconds(update.ours)}; an epoch of COCO "
            f"{seconds(slow * COCO / images)} and {seconds(fast * COCO / images)}; {same[precision]}"
        )
        what = f"{sizes.images}, {images} images x {setting.CAPTIONS} captions an update, {sizes.captions}"
        claim = f"decoder-training epoch, encoder over {EPOCHS} epochs, {precision}"
        yield Result(claim, slow / fast, target, what, threads(), detail, device=device_name())


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    report(results(args), args)
