"""Features: float16 at the encoder's grid; the same bytes after a kill; others are refused."""

import re
import signal
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from feature_stores import COUNT, PARAMS, SIZE, TRANSFORM, encoder, extracted, make_images

from showtell.core.errors import UserError, explained
from showtell.core.machine import START
from showtell.core.workplace import Workplace
from showtell.data.store import MirroredImages, RowReader, RowWriter
from showtell.data.transform import Transform
from showtell.encoders import features
from showtell.encoders.features import announce, extract, features_of, open_features, row_shape
from showtell.encoders.network import EncoderParams, build_encoder


@pytest.mark.parametrize(
    ("output", "node", "name", "shape"),
    [
        ("grid", None, "grid", (9, 1000)),  # 3 x 3 cells
        ("grid", "features.5", "grid", (49, 128)),
        ("pooled", "features.12", "pooled", (512,)),
    ],
)
def test_float16_at_the_grid_of_the_encoder(tmp_path, output, node, name, shape):
    made_by = encoder(output=output, node=node)
    path = extracted(tmp_path, made_by)
    with h5py.File(path) as file:
        assert file[name].shape == (COUNT, *shape) and file[name].dtype == np.float16
        assert list(file["image_id"].asstr()) == [f"id{number}" for number in range(COUNT)]
    reader = open_features(path, made_by, TRANSFORM)
    online = made_by(torch.from_numpy(RowReader(tmp_path / "images.h5", "images").rows([3, 0]))).detach()
    assert torch.equal(torch.from_numpy(reader.rows([3, 0])), online.half()) and shape == row_shape(made_by)
    assert path.stat().st_size < COUNT * np.prod(shape) * 2 + 20_000  # and little else


def place_of(folder: Path) -> Workplace:
    (folder / "place").mkdir(exist_ok=True)
    return Workplace(folder / "place")


def test_the_size_is_printed_before_the_first_image(tmp_path, monkeypatch, capsys):
    images = {"train": make_images(tmp_path, 9), "val": make_images(tmp_path, 3, "val.h5")}
    monkeypatch.setattr("showtell.core.files.shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))
    announce(encoder(), images, place_of(tmp_path))
    assert capsys.readouterr().err == "features: 12 images, 9 x 1000 float16 each, 0.2 MB\n"


def test_a_full_disk_is_one_line_before_the_first_image(tmp_path, monkeypatch):
    images = {"train": make_images(tmp_path, 9), "val": make_images(tmp_path, 3, "val.h5")}
    place = place_of(tmp_path)
    free = (64 << 20) + 12 * 9000 * 2
    monkeypatch.setattr("showtell.core.files.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    announce(encoder(), images, place)
    free -= 1
    with pytest.raises(UserError, match=r"place needs 216,000 bytes more, with .* to spare, .* free; make room"):
        announce(encoder(), images, place)
    free -= 9 * 9000 * 2  # stored features need no more space
    extract(encoder(), images["train"], place / "train.h5", "fp32")
    with pytest.raises(UserError, match="needs 54,000 bytes more"):
        announce(encoder(), images, place)
    free -= 2 * 9000 * 2
    RowWriter(place / "val.h5.part", "grid", 3, (9, 1000), np.float16).append(np.zeros((2, 9, 1000), np.float16))
    with pytest.raises(UserError, match="needs 18,000 bytes more"):
        announce(encoder(), images, place)


def test_a_disk_that_fills_up_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    images = make_images(tmp_path)
    monkeypatch.setattr("showtell.data.store.os.pwrite", full)
    with pytest.raises(OSError, match=r"features\.h5") as told:
        extract(encoder(), images, tmp_path / "features.h5", "fp32")
    assert "no space left on device; make room, then run the same command again" in explained(told.value)
    monkeypatch.undo()
    extract(encoder(), images, tmp_path / "features.h5", "fp32")
    assert len(RowReader(tmp_path / "features.h5", "grid")) == COUNT


def test_values_that_float16_cannot_hold_are_refused(tmp_path):
    huge = build_encoder(EncoderParams(**PARAMS), SIZE, 0)
    huge.backbone.network.get_submodule("features.0").weight.data.mul_(1e9)
    with pytest.raises(UserError, match=r"values that float16 cannot hold \(images 1 to 12 of .*images\.h5\)"):
        extracted(tmp_path, huge)
    assert not (tmp_path / "features.h5").exists()


def fill(images: Path, target: Path) -> None:
    """Extract in small batches, in a process of its own."""
    features.ENCODED_PER_BATCH = 2
    extract(encoder(), RowReader(images, "images"), target, "fp32")


def test_killed_at_several_moments_the_bytes_are_the_same(tmp_path, monkeypatch):
    count = 120
    make_images(tmp_path, count)
    monkeypatch.setattr(features, "ENCODED_PER_BATCH", 2)
    whole, target = tmp_path / "whole.h5", tmp_path / "features.h5"
    extract(encoder(), RowReader(tmp_path / "images.h5", "images"), whole, "fp32")
    reached = []
    for rows in (2, 60):
        child = get_context(START).Process(target=fill, args=(tmp_path / "images.h5", target))
        child.start()
        wait_for_rows(target.with_name("features.h5.part.count"), rows, child)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL and not target.exists()
        reached.append(int(target.with_name("features.h5.part.count").read_text()))
    assert 2 <= reached[0] < count and 60 <= reached[1] < count
    extract(encoder(), RowReader(tmp_path / "images.h5", "images"), target, "fp32")
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.h5", "images.h5", "whole.h5"]


def wait_for_rows(counter: Path, rows: int, child: BaseProcess) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and child.is_alive():
        if counter.exists() and int(counter.read_text() or 0) >= rows:
            return
        time.sleep(0.001)


def test_finished_splits_are_not_repeated(tmp_path):
    path = extracted(tmp_path, encoder())
    before = path.stat()
    extract(encoder(), RowReader(tmp_path / "images.h5", "images"), path, "fp32")
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino
    extract(encoder(seed=1), RowReader(tmp_path / "images.h5", "images"), path, "fp32")  # of another size
    open_features(path, encoder(seed=1), TRANSFORM)


@pytest.mark.parametrize("same", [True, False])
def test_stored_features_are_used_where_the_encoder_is_the_same(tmp_path, same):
    stored = {"train": extracted(tmp_path, encoder())}
    images = {
        "train": RowReader(tmp_path / "images.h5", "images"),
        "mirrored": MirroredImages(tmp_path / "images.h5"),
    }
    now = encoder() if same else encoder(seed=1)
    place = place_of(tmp_path)
    found = features_of(images, now, "fp32", stored, place)
    assert found["train"].path == (stored["train"] if same else place / "train.h5")
    for name, store in images.items():
        extract(now, store, tmp_path / f"wanted-{name}.h5", "fp32")
        wanted = RowReader(tmp_path / f"wanted-{name}.h5", "grid")
        assert (found[name].rows(range(COUNT)) == wanted.rows(range(COUNT))).all()


@pytest.mark.parametrize(
    ("changes", "transform", "sides"),
    [
        ({"name": "resnet18"}, TRANSFORM, r"encoder\.name squeezenet1_1, the encoder here has resnet18"),
        ({"output": "pooled"}, TRANSFORM, r"encoder\.output grid, the encoder here has pooled"),
        ({"node": "features.5"}, TRANSFORM, r"encoder\.node .*, the encoder here has features\.5"),
        ({"seed": 1}, TRANSFORM, "weights [0-9a-f]{16}, the encoder here has [0-9a-f]{16}"),
        ({}, Transform(SIZE, "crop"), r"resize\.fit stretch, the encoder here has crop"),
        ({}, Transform(128, "stretch"), r"resize\.size 64, the encoder here has 128"),
    ],
)
def test_features_of_another_encoder_or_transform_are_refused(tmp_path, changes, transform, sides):
    path = extracted(tmp_path, encoder(), 2)
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))} was made with {sides}; run `dvc repro features`$"):
        open_features(path, encoder(**changes), transform)


def test_other_files_than_features_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_features(tmp_path / "nothing.h5", encoder(), TRANSFORM)
    make_images(tmp_path)
    with pytest.raises(UserError, match="is not a store of grid"):
        open_features(tmp_path / "images.h5", encoder(), TRANSFORM)
    path = extracted(tmp_path, encoder())
    with h5py.File(path, "r+") as file:
        del file["image_id"]
        file["image_id"] = ["id0"]
    with pytest.raises(UserError, match="it names 1 images and holds 12"):
        open_features(path, encoder(), TRANSFORM)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"TREE\0", b"TREE\7"))  # a broken node of HDF5
    with pytest.raises(UserError, match=r"is not a store of grid.*; delete it and run `dvc repro`"):
        open_features(path, encoder(), TRANSFORM)
