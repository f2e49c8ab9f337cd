"""Image stores of noise, and features of them by a small encoder."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from showtell.data.store import RowReader, RowWriter
from showtell.data.transform import Transform
from showtell.encoders.features import extract
from showtell.encoders.network import Encoder, EncoderParams, build_encoder

SIZE = 64
TRANSFORM = Transform(SIZE, "stretch")
COUNT = 12
PARAMS = {"name": "squeezenet1_1", "weights": "none", "output": "grid", "node": None, "levels": None, "crop": None}
PARAMS |= {"precision": "fp32"}


@cache
def encoder(seed: int = 0, **changes) -> Encoder:
    return build_encoder(EncoderParams(**PARAMS | changes), SIZE, seed)


def make_images(folder: Path, count: int = COUNT, name: str = "images.h5") -> RowReader:
    """An image store of noise."""
    rows = np.random.default_rng(0).integers(0, 256, (count, 3, SIZE, SIZE), np.uint8)
    writer = RowWriter(folder / f"{name}.part", "images", count, rows.shape[1:], np.uint8)
    writer.append(rows)
    attrs = {"transform": json.dumps(TRANSFORM.to_dict()), "content": "c", "captions": "c"}
    writer.finish(folder / name, [f"id{number}" for number in range(count)], attrs)
    return RowReader(folder / name, "images")


def extracted(folder: Path, made_by: Encoder, count: int = COUNT) -> Path:
    extract(made_by, make_images(folder, count), folder / "features.h5", "fp32")
    return folder / "features.h5"
