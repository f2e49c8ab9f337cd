"""An epoch of fine-tuning from images: the encoder once a caption against once an image; fp32, then bf16.

    python benchmarks/finetune_epoch.py [--quick] [--rounds 3] [--json]

Both sides train from layer2 on; earlier blocks are frozen, with their batch norms, and the other batch norms
normalise over the update. Both have updates of 6 images x 5 captions, so that an epoch has equally many; the plain
side encodes 30 pictures, each five times. Batch statistics do not change with copies, so the
gradients are the same.

Gradients are compared in fp32 on networks with a smooth function in place of the encoder's ReLUs. A ReLU's gradient
is discontinuous at 0, and some inputs are within rounding of 0: there the plain side already differs from itself
in another memory layout. That difference is printed beside ours.
"""

import argparse
from collections.abc import Callable, Iterator

import setting
import torch
from measure import Result, against, arguments, device_name, need_bf16, report, require, threads
from plain import PlainDecoder, PlainEncoder, caption_loss, train_step

from showtell.data.batches import Batch
from showtell.encoders.network import Encoder

TARGETS = {"fp32": 10.0, "bf16": 25.0}
Gradients = dict[str, torch.Tensor]


def plain_side(sizes: setting.Sizes, encoder: Encoder) -> tuple[PlainEncoder, PlainDecoder]:
    images = PlainEncoder(encoder, setting.published("decoder").grid).to(setting.device()).fine_tune()
    return images, PlainDecoder(setting.decoder_of(sizes)).to(setting.device())


def plain_update(sizes: setting.Sizes, batch: Batch, encoder: Encoder) -> Callable[[], float]:
    images, decoder = plain_side(sizes, encoder)
    params = setting.published("finetune")
    learning = [p for p in images.parameters() if p.requires_grad]
    optimizers = [
        torch.optim.Adam(decoder.parameters(), lr=params.learning_rate),
        torch.optim.Adam(learning, lr=params.encoder_learning_rate),
    ]
    pictures, captions = batch.images.repeat_interleave(setting.CAPTIONS, dim=0), setting.one_by_one(batch)
    return lambda: train_step(decoder, optimizers, images(pictures), *captions)


def our_update(sizes: setting.Sizes, precision: str, smooth: bool = False) -> setting.Updates:
    params, encoder = setting.published("finetune", precision=precision), setting.encoder_of(sizes)
    if smooth:
        setting.without_kinks(encoder)
    encoder.train_from(params.trainable_from)
    return setting.Updates(setting.decoder_of(sizes), params, encoder)


def our_gradients(sizes: setting.Sizes, batch: Batch, smooth: bool) -> Gradients:
    updates = our_update(sizes, "fp32", smooth)
    if not smooth:  # folded norms round differently, which changes the sign of some ReLU inputs: compared without ReLUs
        updates.network.encoder._simplified.clear()
    updates.gradients(batch)
    return setting.gradients(updates.network.decoder, updates.network.encoder)


def plain_gradients(sizes: setting.Sizes, batch: Batch, smooth: bool, layout: torch.memory_format) -> Gradients:
    images, decoder = plain_side(sizes, setting.encoder_of(sizes))
    images.to(memory_format=layout)
    if smooth:
        setting.without_kinks(images)
    grid = images(batch.images.repeat_interleave(setting.CAPTIONS, dim=0))
    caption_loss(*decoder(grid, *setting.one_by_one(batch)), alpha_c=1.0).backward()
    return setting.gradients(decoder, images)


def check(sizes: setting.Sizes, batch: Batch) -> str:
    """Gradients are equal in fp32; with ReLUs, up to the effect of rounding. Returns the differences."""
    as_built = torch.contiguous_format
    gap = setting.difference(plain_gradients(sizes, batch, True, as_built), our_gradients(sizes, batch, True))
    require(gap.whole < 1e-4 and gap.worst < 1e-3, f"gradients in fp32 by {gap}")
    plain = plain_gradients(sizes, batch, False, as_built)
    itself = setting.difference(plain, plain_gradients(sizes, batch, False, torch.channels_last)).whole
    kinks = setting.difference(plain, our_gradients(sizes, batch, False)).whole
    require(kinks < 3 * itself + 1e-4, f"gradients in fp32 with ReLUs by {kinks:.1e}, plain and itself by {itself:.1e}")
    return f"gradients within {gap}; with ReLUs {kinks:.0e}, where plain differs from itself by {itself:.0e}"


def results(args: argparse.Namespace) -> Iterator[Result]:
    need_bf16()
    sizes, images, checked = (setting.QUICK, 3, 3) if args.quick else (setting.FULL, 6, 2)
    same = check(sizes, setting.captioned(sizes, setting.pictures(sizes, checked)))
    batch = setting.captioned(sizes, setting.pictures(sizes, images))
    plain = plain_update(sizes, batch, setting.encoder_of(sizes))
    updates = {precision: our_update(sizes, precision) for precision in TARGETS}
    timings = against(plain, {p: (lambda u=u: u(batch)) for p, u in updates.items()}, args.rounds)
    for precision, timing in timings.items():
        what = f"{sizes.images} from layer2, {images} images x {setting.CAPTIONS} captions an update, {sizes.captions}"
        detail = f"update: {timing}; {same}" if precision == "fp32" else f"update: {timing}"
        claim = f"fine-tuning epoch, {precision}"
        yield Result(claim, timing.ratio, TARGETS[precision], what, threads(), detail, device=device_name())


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
