"""An epoch of decoder training, encoder included: encoding per caption and epoch against once an image; fp32, bf16.

    python benchmarks/decoder_epoch.py [--quick] [--rounds 3] [--json]

The plain side encodes an image for each of its captions in every epoch. Ours encodes it once, and this cost is divided
by 13 epochs. A whole epoch takes too long: encoding for one update (80 pictures; 16) and the update itself (16
images x 5 captions) are timed, and added per update of an epoch,

    plain = encoding + update        ours = encoding / 13 + update

Pictures and features are in memory on both sides. In fp32 both sides encode and must have the same loss. This needs
batch norm in evaluation mode. Tutorials keep it in training mode, where a frozen encoder's features depend
on the rest of the batch, and which is slower: that is timed too and noted beside the claim.
"""

import argparse
import copy
from collections.abc import Iterator

import setting
import torch
from measure import Result, against, arguments, device_name, need_bf16, report, require, seconds, threads
from plain import PlainEncoder

from showtell.data.batches import Batch
from showtell.encoders.frozen import FrozenEncoder

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
    need_bf16()
    sizes, images = (setting.QUICK, 3) if args.quick else (setting.FULL, 16)
    encoder, pictures = setting.encoder_of(sizes), setting.pictures(sizes, images)
    tutorial = PlainEncoder(encoder, setting.published("decoder").grid).to(pictures.device)
    for_each = pictures.repeat_interleave(setting.CAPTIONS, dim=0)
    grid = tutorial(for_each)[:: setting.CAPTIONS]
    frozen = {p: FrozenEncoder(encoder, p) for p in TARGETS}  # in evaluation mode, as in `features` and serving
    encoders = {p: (lambda p=p: frozen[p](pictures).half()) for p in TARGETS}
    batches = {p: setting.captioned(sizes, encode()) for p, encode in encoders.items()}
    same = check(batches, sizes, grid)
    updates = {p: update_of(sizes, p) for p in TARGETS}
    _, plain = setting.plain_update(sizes, batches["fp32"], grid)
    updating = against(plain, {p: (lambda p=p: updates[p](batches[p])) for p in TARGETS}, args.rounds)
    left = copy.deepcopy(tutorial).train()
    encoding = against(lambda: tutorial(for_each), {**encoders, "left": lambda: left(for_each)}, args.rounds)
    for precision, target in TARGETS.items():
        encode, update = encoding[precision], updating[precision]
        fast = encode.ours / EPOCHS + update.ours
        slow, slower = encode.plain + update.plain, encoding["left"].ours + update.plain
        detail = (
            f"encoding {seconds(encode.plain)} and {seconds(encode.ours)}, update {seconds(update.plain)} and "
            f"{seconds(update.ours)}; an epoch of COCO {seconds(slow * COCO / images)} and "
            f"{seconds(fast * COCO / images)}; {slower / fast:.3g}x with batch norm in training mode; {same[precision]}"
        )
        what = f"{sizes.images}, {images} images x {setting.CAPTIONS} captions an update, {sizes.captions}"
        claim = f"decoder-training epoch, encoder over {EPOCHS} epochs, {precision}"
        yield Result(claim, slow / fast, target, what, threads(), detail, device=device_name())


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
