"""Decoding alone, grid in memory, beam 5: one image at a time against a batch of 50; fp32, then bf16.

    python benchmarks/decoding.py [--quick] [--rounds 3] [--json]

In fp32 both sides must give every image the same caption; for bf16 the share of identical captions is printed. The
plain side is timed on a fifth of the images. Weights as in beam_search.py.
"""

import argparse
from collections.abc import Iterator

import setting
import torch
from measure import Result, against, arguments, device_name, report, require, seconds, threads
from plain import PlainDecoder, beam_search

from showtell.core.precision import Precision, autocast
from showtell.generation.decoding import search_captions
from showtell.generation.search_params import SearchParams

TARGETS: dict[Precision, float] = {"fp32": 12.0, "bf16": 25.0}


def results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images, timed = (setting.QUICK, 6, 2) if args.quick else (setting.FULL, 50, 10)
    decoder = setting.speaks(setting.decoder_of(sizes), sizes)
    tutorial = PlainDecoder(decoder).to(setting.device())
    features = setting.grids(sizes, images).float()
    stored = setting.pooled(features, setting.published("decoder").grid).split(1)
    beam = setting.published("beam")
    search = SearchParams.of(beam, setting.published("search"))

    def plain(few: int) -> list[list[int]]:
        return [beam_search(tutorial, grid, beam, search.max_length) for grid in stored[:few]]

    @torch.inference_mode()
    def ours(precision: Precision) -> list[list[int]]:
        with autocast(precision):
            return [best.tokens for best, *_ in search_captions(decoder, features, search)]

    theirs, found = plain(images), {precision: ours(precision) for precision in TARGETS}
    same = {p: sum(a == b for a, b in zip(theirs, tokens, strict=True)) for p, tokens in found.items()}
    require(same["fp32"] == images, f"{images - same['fp32']} of {images} captions in fp32")
    timings = against(lambda: plain(timed), {p: (lambda p=p: ours(p)) for p in TARGETS}, args.rounds)
    for precision, timing in timings.items():
        lengths = [len(tokens) for tokens in found[precision]]
        detail = (
            f"an image {seconds(timing.plain / timed)} and {seconds(timing.ours / images)}; {same[precision]} of "
            f"{images} captions identical, {len(set(map(tuple, found[precision])))} different ones of "
            f"{min(lengths)} to {max(lengths)} words"
        )
        what = f"beam {beam}, {images} images, {sizes.cells} cells x {sizes.channels}, vocabulary {sizes.words:,}"
        ratio = timing.ratio * images / timed
        claim = f"decoding alone, {precision}"
        yield Result(claim, ratio, TARGETS[precision], what, threads(), detail, device=device_name())


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
