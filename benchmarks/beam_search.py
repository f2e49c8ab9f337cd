"""Beam 5 over a test set, encoder included: one image at a time, five times each, against batches of 50; fp32.

    python benchmarks/beam_search.py [--quick] [--rounds 3] [--json]

The usual evaluation goes through captions, not images, and so encodes and decodes an image once for each of its five.
Both sides must give every image the same caption. The plain side is timed on a tenth of the images. Weights are random,
made to speak as learnt ones do: sure of few words, and captions that end.
"""

import argparse
from collections.abc import Iterator

import setting
import torch
from measure import Result, alternate, arguments, device_name, report, require, seconds, threads
from plain import PlainDecoder, PlainEncoder, beam_search

from showtell.data.transform import Transform
from showtell.data.vocabulary import SPECIALS, Vocabulary
from showtell.generation.captioner import Captioner

TARGET = 40.0


def captioner_of(sizes: setting.Sizes) -> Captioner:
    decoder = setting.speaks(setting.decoder_of(sizes), sizes)
    words = [f"word{number}" for number in range(len(SPECIALS), sizes.words)]
    transform = Transform(sizes.pixels, "stretch")
    params = setting.published("decoder")
    return Captioner(setting.encoder_of(sizes), decoder, params, Vocabulary(words, [1] * len(words)), transform, "fp32")


def results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images, timed = (setting.QUICK, 6, 2) if args.quick else (setting.FULL, 50, 5)
    captioner, pictures = captioner_of(sizes), setting.pictures(sizes, images)
    encoder = PlainEncoder(captioner.encoder, setting.published("decoder").grid).to(pictures.device)
    decoder = PlainDecoder(captioner.decoder).to(pictures.device)
    beam, search = setting.published("beam"), setting.published("search")

    def plain(few: torch.Tensor) -> list[str]:
        found = [beam_search(decoder, encoder(one), beam, search.max_length) for one in few.split(1)]
        return [captioner.vocabulary.caption(tokens) for tokens in found]

    def ours() -> list[str]:
        return [best.text for best, *_ in captioner.generate(pictures, beam, attention=False, **search.model_dump())]

    theirs, found = plain(pictures), ours()
    other = sum(a != b for a, b in zip(theirs, found, strict=True))
    require(not other, f"{other} of {images} captions")
    timing = alternate(lambda: plain(pictures[:timed]), ours, args.rounds)
    ratio = timing.ratio * images / timed
    detail = (
        f"an image {seconds(timing.plain / timed)}, five times, and {seconds(timing.ours / images)}; {ratio:.3g}x "
        f"without the five; {images} captions identical, {len(set(found))} different ones of "
        f"{min(len(text.split()) for text in found)} to {max(len(text.split()) for text in found)} words"
    )
    what = f"{sizes.images}, {images} images, vocabulary {sizes.words:,}"
    claim = f"beam {beam} over a test set, encoder included, fp32"
    yield Result(claim, setting.CAPTIONS * ratio, TARGET, what, threads(), detail, device=device_name())


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
