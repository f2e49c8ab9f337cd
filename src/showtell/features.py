"""Features of every image, computed once: the encoder as it was used, and one HDF5 store for each split."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from showtell.encoders import Encoder
from showtell.errors import UserError
from showtell.files import check_space, read_json, write_json
from showtell.images import Transform
from showtell.precision import Precision, autocast, device
from showtell.progress import log, track
from showtell.store import RowReader, RowWriter
from showtell.workplace import Workplace

BATCH = 64  # images encoded side by side; bounds memory


def extract(encoder: Encoder, images: RowReader, path: Path, precision: Precision, place: Workplace) -> None:
    """Fill `path` with the features of `images`, float16 (image, cell, channel) or (image, channel), restartable."""
    encoder = encoder.eval().to(device())
    shape = (encoder.cells, encoder.channels) if encoder.config["output"] == "grid" else (encoder.channels,)
    writer = RowWriter(place / path.name, feature_name(encoder), len(images), shape, np.float16)
    needed = (len(images) - writer.done) * writer.row_bytes
    log(f"{path.name}: {len(images)} images of {shape}, {len(images) * writer.row_bytes / 1e6:.1f} MB")
    check_space(place.folder, needed)
    with torch.inference_mode(), autocast(precision):
        for start in track(range(writer.done, len(images), BATCH), f"features {path.name}"):
            rows = images.rows(range(start, min(start + BATCH, len(images))))
            writer.append(encoder(torch.from_numpy(rows).to(device())).to(torch.float16).cpu().numpy())
    writer.finish(path, images.ids, feature_attrs(encoder, images))


def feature_name(encoder: Encoder) -> str:
    """The dataset's name in the HDF5 file: `grid`, or `pooled` for one vector an image."""
    return "grid" if encoder.config["output"] == "grid" else "pooled"


def feature_attrs(encoder: Encoder, images: RowReader) -> dict[str, str]:
    """What a feature file was made of and by."""
    return {
        "encoder": json.dumps(encoder.config, sort_keys=True),
        "weights": encoder.hash(),
        "transform": images.attrs["transform"],
        "images": images.attrs["content"],
    }


def open_features(path: Path, encoder: Encoder, transform: Transform) -> RowReader:
    """The store at `path`; `UserError` naming both sides when another encoder, other weights or another transform made it."""
    reader = RowReader(path, feature_name(encoder))
    mine = {
        "encoder": json.dumps(encoder.config, sort_keys=True),
        "weights": encoder.hash(),
        "transform": json.dumps(transform.to_dict()),
    }
    for key, value in mine.items():
        theirs = reader.attrs.get(key)
        if theirs != value:
            raise UserError(f"{path} was made with {key} {theirs}, the present one is {value}; run `dvc repro features`")
    return reader


def encoder_transform(images: RowReader) -> Transform:
    """The transform that made an image store."""
    return Transform.from_dict(json.loads(images.attrs["transform"]))


def save_encoder(folder: Path, encoder: Encoder, transform: Transform, precision: Precision) -> None:
    """Write the encoder as it was used, for the stages after this one."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}, folder / "encoder.safetensors")
    config = {"encoder": encoder.config, "transform": transform.to_dict(), "precision": precision}
    write_json(folder / "config.json", config)


def load_encoder(folder: Path) -> tuple[Encoder, Transform, Precision]:
    """What `save_encoder` wrote."""
    config = read_json(folder / "config.json")
    try:
        encoder = Encoder(config["encoder"])
        encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
        return encoder.eval(), Transform.from_dict(config["transform"]), config["precision"]
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} does not hold an encoder: {reason}; run `dvc repro features`") from None
