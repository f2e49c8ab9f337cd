"""Beam 5 over a test set, encoder included: one image at a time, five times each, against batches of 50; fp32.

    python benchmarks/beam_search.py [--quick] [--rounds 3] [--json]

Common evaluation code iterates over captions, not images, and so encodes and decodes an image five times.
Both sides must give every image the same caption. The plain side is timed on a tenth of the images. Weights are random,
scaled to behave like trained ones: peaked distributions, and captions that end.
"""

import argparse
from collections.abc import Iterator

import setting
import torch
from measure import Result, alternate, arguments, device_name, report, require, seconds, threads
from plain import PlainDecoder, PlainEncoder, beam_search

from showtell.core.precision import Precision
from showtell.data.transform import Transform
from showtell.data.vocabulary import SPECIALS, Vocabulary
from showtell.generation.captioner import Captioner
from showtell.generation.model import Model
from showtell.generation.search_params import SearchParams

TARGET = 40.0


def captioner_of(sizes: setting.Sizes, precision: Precision = "fp32") -> Captioner:
    decoder = setting.speaks(setting.decoder_of(sizes), sizes)
    words = [f"word{number}" for number in range(len(SPECIALS), sizes.words)]
    transform = Transform(sizes.pixels, "stretch")
    params = setting.published("decoder")
    vocabulary, search = Vocabulary(words, [1] * len(words)), setting.published("search")
    model = Model(setting.encoder_of(sizes), decoder, params, vocabulary, transform, precision)
    return Captioner(model, SearchParams.of(setting.published("beam"), search))


def results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images, timed = (setting.QUICK, 6, 2) if args.quick else (setting.FULL, 50, 5)
    captioner, pictures = captioner_of(sizes), setting.pictures(sizes, images)
    encoder = PlainEncoder(captioner.model.encoder, setting.published("decoder").grid).to(pictures.device)
    decoder = PlainDecoder(captioner.model.decoder).to(pictures.device)
    beam, longest = captioner.search.beam, captioner.search.max_length

    def plain(few: torch.Tensor) -> list[str]:
        found = [beam_search(decoder, encoder(one), beam, longest) for one in few.split(1)]
        return [captioner.model.vocabulary.caption(tokens) for tokens in found]

    def ours() -> list[str]:
        return [best.text for best, *_ in captioner.decode(captioner.encode(pictures), attention=False)]

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
