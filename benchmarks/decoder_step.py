"""One training update of the decoder, its grid in memory, against the step-by-step decoder; fp32, then bf16.

    python benchmarks/decoder_step.py [--quick] [--rounds 5] [--json]

80 captions of 16 images: forward, backward, clipping, Adam. The plain side keeps a float32 grid of 14 x 14 cells for
every caption, ours the encoder's own 8 x 8 in float16 for every image. Both must have the same loss and gradients in
fp32. Then the update is compared with its matrix products alone.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import setting
import torch
from measure import Result, against, alternate, arguments, device_name, need_bf16, report, require, seconds, threads
from torch.utils._python_dispatch import TorchDispatchMode

from showtell.data.batches import Batch

TARGETS = {"fp32": 6.0, "bf16": 11.0}
PRODUCTS_TARGET = 1.5
# The ATen operators of all matrix products.
PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "addbmm", "mv", "addmv", "dot", "linear"}


class Recorder(TorchDispatchMode):
    """Records the matrix products inside, with their operands."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function.overloadpacket.__name__ in PRODUCTS:
            self.products.append(lambda: function(*args, **kwargs))
        return function(*args, **kwargs)

    @torch.no_grad()
    def again(self) -> None:
        for product in self.products:
            product()


def ours(sizes: setting.Sizes, precision: str) -> setting.Updates:
    return setting.Updates(setting.decoder_of(sizes), setting.published("train", precision=precision))


def check(sizes: setting.Sizes, batch: Batch) -> dict[str, str]:
    """Loss and gradients are equal in fp32 and the loss is close in bf16; returns the differences."""
    decoder, update = setting.plain_update(sizes, batch, grid_of(batch))
    loss = update()  # leaves gradients; the clipping limit is above them
    fine, coarse = ours(sizes, "fp32"), ours(sizes, "bf16")
    off = abs(float(fine.gradients(batch)) / loss - 1)
    require(off < 1e-5, f"losses in fp32 by {off:.1e}")
    gap = setting.difference(setting.gradients(decoder), setting.gradients(fine.network.decoder))
    require(gap.whole < 1e-4 and gap.worst < 1e-3, f"gradients in fp32 by {gap}")
    coarse_off = abs(float(coarse.gradients(batch)) / loss - 1)
    require(coarse_off < 1e-2, f"losses in bf16 by {coarse_off:.1e}")
    return {"fp32": f"loss within {off:.0e}, gradients {gap}", "bf16": f"loss within {coarse_off:.0e}"}


def grid_of(batch: Batch) -> torch.Tensor:
    return setting.pooled(batch.images, setting.published("decoder").grid)


def results(args: argparse.Namespace) -> Iterator[Result]:
    need_bf16()
    sizes, images = (setting.QUICK, 3) if args.quick else (setting.FULL, 16)
    batch = setting.captioned(sizes, setting.grids(sizes, images))
    same = check(sizes, batch)
    _, plain = setting.plain_update(sizes, batch, grid_of(batch))
    updates = {precision: ours(sizes, precision) for precision in TARGETS}
    what = f"{images} images x {setting.CAPTIONS} captions, {sizes.cells} cells x {sizes.channels}, {sizes.captions}"
    where = {"sizes": what, "threads": threads(), "device": device_name()}
    timings = against(plain, {p: (lambda u=u: u(batch)) for p, u in updates.items()}, args.rounds)
    for precision, timing in timings.items():
        detail = f"{timing}; {same[precision]}"
        yield Result(f"decoder step, {precision}", timing.ratio, TARGETS[precision], detail=detail, **where)
    for precision, update in updates.items():
        with Recorder() as recorder:
            update.gradients(batch)
        timing = alternate(lambda u=update: u(batch), recorder.again, args.rounds)
        count = len(recorder.products)
        detail = f"update {seconds(timing.plain)}, its {count} products {seconds(timing.ours)}"
        claim = f"decoder step against its own matrix products, {precision}"
        yield Result(claim, timing.ratio, PRODUCTS_TARGET, detail=detail, at_most=True, **where)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    report(results(args), args)
