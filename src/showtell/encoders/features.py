"""Features of every image, computed once: the frozen encoder, and one HDF5 store per split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from showtell.core.errors import UserError
from showtell.core.files import check_space, parse_json, read_json, write_json
from showtell.core.initialisation import Uninitialised
from showtell.core.precision import Precision
from showtell.core.processes import broadcast, fair, gather_to_main, is_main, rank, world
from showtell.core.progress import log, track
from showtell.core.tensor_files import load_tensors, save_tensors
from showtell.core.terminal import one_line
from showtell.core.workplace import Workplace
from showtell.data.store import RowReader, RowWriter, rows_there
from showtell.data.store_layout import STORE_ERRORS
from showtell.data.transform import Transform
from showtell.encoders.detection import WordDetector, Words
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder

ENCODED_PER_BATCH = 64  # images read, encoded and written together; bounds memory
CONFIG, WEIGHTS, DETECTOR = "config.json", "encoder.safetensors", "detector.safetensors"


class StoredEncoder(NamedTuple):
    """What stage `encoder` hands on to the stages after it."""

    encoder: Encoder
    transform: Transform
    precision: Precision  # in which it is frozen
    detector: WordDetector | None  # that it learnt with, if it learnt to detect words and gives a grid


def announce(encoder: Encoder, images: dict[str, RowReader], place: Workplace) -> None:
    """Log the size of the features of all splits; `UserError` when what is still to be written does not fit on the
    disk."""
    row_bytes = int(np.prod(row_shape(encoder))) * np.dtype(np.float16).itemsize
    count = sum(map(len, images.values()))
    shape = " x ".join(map(str, row_shape(encoder)))
    log(f"features: {count:,} images, {shape} float16 each, {count * row_bytes / 1e6:,.1f} MB")
    there = {split: rows_there(place / f"{split}.h5") for split in images}
    check_space(place.folder, sum(max(0, len(images[split]) - there[split]) for split in images) * row_bytes)


def extract(encoder: Encoder, images: RowReader, path: Path, precision: Precision) -> None:
    """Fill `path` with the features of `images`, float16 (image, cell, channel) or (image, channel).

    If it is killed, the next run continues after the last batch that was written, with the same bytes; a finished store
    is left as it is. `path` must be in a workplace, whose name covers the encoder and the images.
    """
    name = feature_name(encoder)
    attrs = feature_attrs(encoder, images)
    if broadcast(lambda: path.exists() and RowReader(path, name).attrs == attrs):
        return
    part = path.with_name(f"{path.name}.part")
    writer = RowWriter(part, name, len(images), row_shape(encoder), np.float16) if is_main() else None
    frozen, size = FrozenEncoder(encoder, precision), fair(len(images), ENCODED_PER_BATCH)
    done = broadcast(lambda: writer.done if writer is not None else 0)
    everybody = range(done, len(images), size * world())  # a batch for each process
    for start in track(everybody, f"features {path.name}"):
        own = start + size * rank()
        rows = range(min(own, len(images)), min(own + size, len(images)))
        for features in gather_to_main(_encode(frozen, images, rows) if rows else _nothing(encoder)):
            assert writer is not None  # only the main process receives rows
            writer.append(features)

    def finish() -> None:
        assert writer is not None  # called in the main process only
        writer.finish(path, images.ids, attrs)

    broadcast(finish)  # no process opens it before it is complete


def features_of(
    images: Mapping[str, RowReader], encoder: Encoder, precision: Precision, stored: Mapping[str, Path],
    place: Workplace,
) -> dict[str, RowReader]:  # fmt: skip
    """Features of image stores: those in `stored` that are of this encoder, the others computed in the workplace."""
    name = feature_name(encoder)
    there = {of: RowReader(path, name) for of, path in stored.items()}
    found = {of: reader for of, reader in there.items() if reader.attrs == feature_attrs(encoder, images[of])}
    if missing := {of: store for of, store in images.items() if of not in found}:
        announce(encoder, missing, place)
        for of, store in missing.items():
            extract(encoder, store, place / f"{of}.h5", precision)
    return found | {of: RowReader(place / f"{of}.h5", name) for of in missing}


def _nothing(encoder: Encoder) -> np.ndarray:
    return np.empty((0, *row_shape(encoder)), np.float16)


def _encode(frozen: FrozenEncoder, images: RowReader, rows: range) -> np.ndarray:
    """Features of the images in `rows`, float16."""
    features = frozen(torch.from_numpy(images.rows(rows))).to(torch.float16)
    if not features.isfinite().all():
        raise UserError(
            f"the encoder gives values that float16 cannot hold (images {rows[0] + 1} to {rows[-1] + 1} of "
            f"{images.path}); its weights or encoder.precision do not suit it"
        )
    return features.cpu().numpy()


def row_shape(encoder: Encoder) -> tuple[int, ...]:
    """Shape of one image's features: (cell, channel) or (channel,)."""
    return (encoder.cells, encoder.channels) if feature_name(encoder) == "grid" else (encoder.channels,)


def feature_name(encoder: Encoder) -> str:
    """Name of the dataset in the HDF5 file: `grid`, or `pooled` for one vector an image."""
    return "grid" if encoder.gives_grid else "pooled"


def feature_attrs(encoder: Encoder, images: RowReader) -> dict[str, str]:
    """Attributes of a feature file: the encoder, its weights and the image transform."""
    return {**_identity(encoder), "transform": images.attrs["transform"], "images": images.attrs["content"]}


def _identity(encoder: Encoder) -> dict[str, str]:
    return {"encoder": json.dumps(encoder.config, sort_keys=True), "weights": encoder.hash()}


def open_features(path: Path, encoder: Encoder, transform: Transform) -> RowReader:
    """The store at `path`; `UserError` naming both when its encoder, weights or transform are not these."""
    reader = RowReader(path, _stored_name(path, default=feature_name(encoder)))
    present = {**_identity(encoder), "transform": json.dumps(transform.to_dict())}
    theirs, ours = _made_by(reader.attrs), _made_by(present)
    for key in (*ours, *theirs):
        if theirs.get(key) != ours.get(key):
            raise UserError(
                f"{path} was made with {key} {one_line(theirs.get(key))}, "
                f"the encoder here has {one_line(ours.get(key))}; run `dvc repro features`"
            )
    return reader


def _stored_name(path: Path, default: str) -> str:
    try:
        with h5py.File(path, "r") as file:
            return next((name for name in ("grid", "pooled") if name in file), default)
    except STORE_ERRORS:  # RowReader raises the error
        return default


def _made_by(attrs: Mapping[str, str]) -> dict[str, Any]:
    """The encoder's configuration, weights and transform as single values, the most informative first."""
    try:
        config, transform = json.loads(attrs["encoder"]), json.loads(attrs["transform"])
        telling = {key: config.pop(key, None) for key in ("name", "output", "node")}
        return {
            **{f"encoder.{key}": value for key, value in telling.items()},
            **{f"resize.{key}": value for key, value in transform.items()},
            **{f"encoder.{key}": value for key, value in config.items()},
            "weights": attrs["weights"],
        }
    except (KeyError, AttributeError, ValueError, RecursionError):
        return {}


def encoder_transform(images: RowReader) -> Transform:
    """The transform with which an image store was made."""
    where = f"{images.path}: the attribute `transform`"
    return Transform.from_dict(parse_json(images.attrs["transform"].encode(), where))


def save_encoder(folder: Path, stored: StoredEncoder) -> None:
    """Write the encoder that computes the features, and its detector, for the stages after this one."""
    encoder, transform, precision, detector = stored
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS, encoder.state_dict())
    if detector is not None:
        save_tensors(folder / DETECTOR, detector.state_dict())
    config = {"encoder": encoder.config, "transform": transform.to_dict(), "precision": precision}
    write_json(folder / CONFIG, {**config, "detector": detector is not None})  # so that a lost file is noticed


def load_encoder(folder: Path) -> StoredEncoder:
    """Read what `save_encoder` wrote."""
    config = read_json(folder / CONFIG)
    try:
        with Uninitialised():
            encoder, detector = Encoder(config["encoder"]), None
        encoder.load_state_dict(load_tensors(folder / WEIGHTS))
        if config["detector"]:
            tensors = load_tensors(folder / DETECTOR)
            detector = WordDetector(encoder, Words(tensors["words"], tensors["log_share"]))
            detector.load_state_dict(tensors)
        return StoredEncoder(encoder.eval(), Transform.from_dict(config["transform"]), config["precision"], detector)
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} does not hold an encoder: {reason}; run `dvc repro encoder`") from None
