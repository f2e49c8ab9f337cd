"""Bytes of the features file against the stored 14 x 14 grid in float32, and a comparison of the attention.

    python benchmarks/storage.py [--quick] [--rounds 5] [--json]

The plain side pools the encoder's last map to 14 x 14 cells and stores that as float32. Ours stores the map itself as
float16 and pools the keys while attending. Attention logits (the energies before softmax) of both must agree up to the
rounding to float16: how far that alone moves them is computed from the plain grid of a rounded map. No times: --rounds
does nothing here.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import setting
import torch
from measure import Result, arguments, report, require, threads
from torch import Tensor

from showtell.data.store import RowReader, RowWriter
from showtell.data.transform import Transform
from showtell.decoders.attention import AttentionDecoder
from showtell.encoders.features import extract

TARGET = 6.0
ROUNDING = 1e-5  # of fp32 sums in another order, relative to the greatest logit


def store_images(path: Path, pixels: Tensor) -> RowReader:
    writer = RowWriter(path.with_suffix(".part"), "images", len(pixels), tuple(pixels.shape[1:]), np.uint8)
    writer.append(pixels.cpu().numpy())
    attrs = {"transform": json.dumps(Transform(pixels.shape[-1], "stretch").to_dict()), "content": "noise"}
    writer.finish(path, range(len(pixels)), attrs)
    return RowReader(path, "images")


def store_plain(path: Path, grid: Tensor) -> None:
    """The plain side's file: float32 (image, pooled cell, channel)."""
    writer = RowWriter(path.with_suffix(".part"), "grid", len(grid), tuple(grid.shape[1:]), np.float32)
    writer.append(grid.cpu().numpy())
    writer.finish(path, range(len(grid)), {})


@torch.inference_mode()
def plain_logits(decoder: AttentionDecoder, grid: Tensor, query: Tensor) -> Tensor:
    """(image, caption, pooled cell): e = w relu(K a + q) + b, from the stored grid."""
    mixed = torch.relu(decoder.key(grid).unsqueeze(1) + query.unsqueeze(2))
    return decoder.energy(mixed).squeeze(-1)


@torch.inference_mode()
def our_logits(decoder: AttentionDecoder, features: Tensor, query: Tensor) -> Tensor:
    """The same from the stored map, with the decoder's pooled keys."""
    (_, keys), *_ = decoder.start(features.float())  # image: grid and keys
    return decoder.energy(torch.relu(keys.unsqueeze(1) + query.unsqueeze(2))).squeeze(-1)


def results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images = (setting.QUICK, 3) if args.quick else (setting.FULL, 16)
    encoder, decoder = setting.encoder_of(sizes), setting.decoder_of(sizes)
    rows = setting.published("decoder").grid
    pixels = setting.pictures(sizes, images)
    with torch.inference_mode():
        grid = encoder(pixels)  # float32, nothing rounded
    with TemporaryDirectory() as name:
        ours, plain = Path(name, "ours.h5"), Path(name, "plain.h5")
        extract(encoder, store_images(Path(name, "images.h5"), pixels), ours, "fp32")
        store_plain(plain, setting.pooled(grid, rows))
        features = torch.from_numpy(RowReader(ours, "grid").rows(range(images))).to(grid.device)
        files = [path.stat().st_size for path in (plain, ours)]
    state = torch.randn(images, setting.CAPTIONS, sizes.width, generator=torch.Generator().manual_seed(1)).tanh()
    query = decoder.query(state.to(grid.device)).detach()  # (image, caption, key)
    exact = plain_logits(decoder, setting.pooled(grid, rows), query)
    rounding = greatest(plain_logits(decoder, setting.pooled(grid.half(), rows), query) - exact)
    ours_off = greatest(our_logits(decoder, features, query) - exact)
    beyond = greatest(
        our_logits(decoder, features, query) - plain_logits(decoder, setting.pooled(features, rows), query)
    )
    require(beyond < ROUNDING * greatest(exact), f"attention logits by {beyond:.1e} beyond rounding")
    detail = (
        f"{files[0] / images:,.0f} and {files[1] / images:,.0f} bytes an image; logits of up to {greatest(exact):.2f} "
        f"differ by {ours_off:.1e} at most, rounding to float16 alone by {rounding:.1e}"
    )
    what = f"{sizes.images}, {images} images, {rows} x {rows} float32 against {sizes.cells} cells float16"
    yield Result("bytes of the features file", files[0] / files[1], TARGET, what, threads(), detail)


def greatest(values: Tensor) -> float:
    return float(values.abs().max())


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    report(results(args), args)
