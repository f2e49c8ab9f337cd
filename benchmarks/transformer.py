"""The transformer decoder, 6 layers of width 512, against PyTorch's own; fp32 and bf16.

    python benchmarks/transformer.py [--quick] [--rounds 3] [--json]

A training update on 80 captions of 16 images, grid in memory: the plain side repeats the grid for every caption. Once
the captions have the lengths of COCO's, and once those of the other benchmarks (9 to 16 words, equally often), where
less of a padded batch is padding. And beam 5 over 20 tokens for 50 images: the plain side computes every prefix again.
In fp32 both sides must have the same loss, gradients and captions. The plain search is timed on a tenth of the images.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import plain_transformer as plain
import setting
import torch
from measure import Result, against, alternate, arguments, device_name, need_bf16, report, require, seconds, threads
from torch import Tensor

from showtell.core.precision import autocast
from showtell.data.batches import Batch
from showtell.data.vocabulary import END, SPECIALS, START
from showtell.decoders import DecoderParams, build_decoder
from showtell.decoders.transformer import TransformerDecoder
from showtell.generation.decoding import search_captions
from showtell.generation.rules import rules_of
from showtell.generation.search import generate
from showtell.generation.search_params import PLAIN

TARGET, SEARCH_TARGET = 2.0, 6.0
PRECISIONS = ("fp32", "bf16")
BEAM, LENGTH = 5, 20


def decoder_of(sizes: setting.Sizes) -> TransformerDecoder:
    """Six layers without dropout, which would differ between the sides."""
    keys = {
        "kind": "transformer", "layers": 6, "embedding": sizes.width, "embeddings": None, "train_embeddings": True,
        "hidden": sizes.width, "tied": False, "dropout": 0.0, "heads": 8, "feed_forward": 4 * sizes.width,
        "positions": "sinusoidal", "grid_layers": 0, "memory_slots": 0, "normalise_grid": False,
    }  # fmt: skip
    torch.manual_seed(1)
    return build_decoder(DecoderParams.model_validate(keys), sizes.channels, sizes.words).to(setting.device())


def ours(sizes: setting.Sizes, precision: str) -> setting.Updates:
    return setting.Updates(decoder_of(sizes), setting.published("train", precision=precision, alpha_c=0.0))


def plain_update(sizes: setting.Sizes, batch: Batch) -> tuple[plain.PlainTransformer, Callable[[], float]]:
    model = plain.PlainTransformer(decoder_of(sizes)).to(setting.device())
    optimizer = torch.optim.Adam(model.parameters(), lr=setting.published("train").learning_rate)
    grid = batch.images.float().repeat_interleave(setting.CAPTIONS, dim=0)
    captions, _ = setting.one_by_one(batch)
    return model, lambda: plain.train_step(model, optimizer, grid, captions)


def batches(sizes: setting.Sizes, images: int) -> dict[str, Batch]:
    """By the lengths of their captions, in words."""
    grids = setting.grids(sizes, images)
    coco = setting.captioned(sizes, grids, setting.coco_lengths(images * setting.CAPTIONS))
    return {"COCO's lengths": coco, f"{sizes.shortest} to {sizes.longest} words": setting.captioned(sizes, grids)}


def check(sizes: setting.Sizes, batch: Batch) -> dict[str, str]:
    """Loss and gradients are equal in fp32 and the loss is close in bf16; returns the differences."""
    model, update = plain_update(sizes, batch)
    loss = update()  # leaves gradients; the clipping limit is above them
    fine, coarse = (ours(sizes, precision) for precision in PRECISIONS)
    off, coarse_off = (abs(float(updates.gradients(batch)) / loss - 1) for updates in (fine, coarse))
    require(off < 1e-5, f"losses in fp32 by {off:.1e}")
    mine = plain.plain_names(setting.gradients(fine.network.decoder), len(fine.network.decoder.layers))
    gap = setting.difference(setting.gradients(model), mine)
    require(gap.whole < 1e-4 and gap.worst < 1e-3, f"gradients in fp32 by {gap}")
    require(coarse_off < 1e-2, f"losses in bf16 by {coarse_off:.1e}")
    return {"fp32": f"loss within {off:.0e}, gradients {gap}", "bf16": f"loss within {coarse_off:.0e}"}


def step_results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images = (setting.QUICK, 3) if args.quick else (setting.FULL, 16)
    for lengths, batch in batches(sizes, images).items():
        same, (_, update) = check(sizes, batch), plain_update(sizes, batch)
        updates = {precision: ours(sizes, precision) for precision in PRECISIONS}
        what = f"{images} images x {setting.CAPTIONS} captions, {sizes.cells} cells x {sizes.channels}, vocabulary "
        what += f"{sizes.words:,}, {share(batch.mask)}"
        timings = against(update, {p: partial(u, batch) for p, u in updates.items()}, args.rounds)
        for precision, timing in timings.items():
            claim, detail = f"transformer step, {lengths}, {precision}", f"{timing}; {same[precision]}"
            yield Result(claim, timing.ratio, TARGET, what, threads(), detail, device=device_name())


def share(mask: Tensor) -> str:
    """Of the positions of a batch: how many are not padding."""
    return f"{mask.shape[2]} positions a caption, {mask.float().mean():.0%} of them real"


def talkative(decoder: TransformerDecoder) -> TransformerDecoder:
    """Random weights with peaked distributions, which never generate the end or another special token."""
    with torch.no_grad():
        decoder.output.weight.mul_(10)
        decoder.output.bias[: len(SPECIALS)] = -1e4
    return decoder.eval()


def search_results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images, timed = (setting.QUICK, 6, 2) if args.quick else (setting.FULL, 50, 5)
    decoder, features = talkative(decoder_of(sizes)), setting.grids(sizes, images).float()
    model = plain.PlainTransformer(decoder).to(setting.device()).eval()
    search = PLAIN.override(beam=BEAM, max_length=LENGTH, allow_unknown=True)

    @torch.inference_mode()
    def again(grids: Tensor) -> list[list[int]]:
        first = torch.full((len(grids),), START, device=grids.device)
        rules = rules_of(search, END)
        found = generate(partial(plain.step, model), plain.start(model, grids), first, END, search, rules)
        return [best.tokens for best, *_ in found]

    @torch.inference_mode()
    def cached() -> list[list[int]]:
        with autocast("fp32"):
            return [best.tokens for best, *_ in search_captions(decoder, features, search)]

    theirs, found = again(features[:timed]), cached()
    other = sum(a != b for a, b in zip(theirs, found, strict=False))
    require(not other, f"{other} of {timed} captions")
    timing = alternate(lambda: again(features[:timed]), cached, args.rounds)
    detail = (
        f"an image {seconds(timing.plain / timed)} and {seconds(timing.ours / images)}; {timed} captions identical, "
        f"{len(set(map(tuple, found)))} different ones of {images}"
    )
    what = f"beam {BEAM}, {LENGTH} tokens, {images} images, {sizes.cells} cells x {sizes.channels}, 6 layers of width "
    what += f"{sizes.width}, vocabulary {sizes.words:,}"
    ratio = timing.ratio * images / timed
    claim = "transformer search against running prefixes again, fp32"
    yield Result(claim, ratio, SEARCH_TARGET, what, threads(), detail, device=device_name())


def results(args: argparse.Namespace) -> Iterator[Result]:
    need_bf16()
    yield from step_results(args)
    yield from search_results(args)


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
