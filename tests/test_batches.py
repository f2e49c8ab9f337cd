"""Batches: captions and mirrored images drawn anew for every epoch, the same for any number of workers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_stores import COUNT, TRANSFORM, encoder, extracted

from showtell.core.errors import UserError
from showtell.data.batches import CaptionedImages, in_order, load_batches
from showtell.data.caption_writer import write_captions
from showtell.data.store import MirroredImages, RowReader
from showtell.encoders.features import extract, open_features


def captioned(folder: Path) -> CaptionedImages:
    path = extracted(folder, encoder())
    entries = (
        {"image_id": f"id{number}", "tokens": [[1, *range(4, 5 + (number + k) % 4), 2] for k in range(1 + number % 3)]}
        for number in range(COUNT)
    )
    write_captions(folder / "captions.json", entries)
    return CaptionedImages(folder / "captions.json", open_features(path, encoder(), TRANSFORM))


def tokens_of(dataset: CaptionedImages) -> list:
    return [[tokens.tolist() for tokens in dataset.captions(image)] for image in range(len(dataset))]


def test_texts_of_captions_are_part_of_the_fingerprint(tmp_path):
    """Scores of val are computed from the texts, which other tokens need not have."""
    path = extracted(tmp_path, encoder())
    found = set()
    for text in ("a dog", "A dog.", "a dog"):
        write_captions(
            tmp_path / "captions.json",
            ({"image_id": f"id{n}", "references": [text], "tokens": [[1, 4, 2]]} for n in range(COUNT)),
        )
        data = CaptionedImages(tmp_path / "captions.json", open_features(path, encoder(), TRANSFORM))
        found.add(data.fingerprint)
    assert len(found) == 2


def test_captions_are_drawn_anew_for_every_epoch(tmp_path):
    path = extracted(tmp_path, encoder())
    images = [[[1, word, 2] for word in range(4, 7 + 3 * (number % 3))] for number in range(COUNT)]  # 3, 6, 9 captions
    entries = ({"image_id": f"id{number}", "tokens": tokens} for number, tokens in enumerate(images))
    write_captions(tmp_path / "captions.json", entries)
    dataset = CaptionedImages(tmp_path / "captions.json", open_features(path, encoder(), TRANSFORM))
    all_of_them = tokens_of(dataset)
    assert all_of_them == images and dataset.drawn(None, 1, 0) is dataset
    seen = [set() for _ in images]
    for epoch in range(40):
        drawn = tokens_of(dataset.drawn(4, 1, epoch))
        assert drawn == tokens_of(dataset.drawn(4, 1, epoch))
        for few, everything, met in zip(drawn, all_of_them, seen, strict=True):
            assert len(few) == min(4, len(everything)) and all(caption in everything for caption in few)
            met.update(word for _, word, _ in few)
    assert [len(met) for met in seen] == [len(everything) for everything in all_of_them]
    assert tokens_of(dataset) == all_of_them


def test_half_of_the_images_are_mirrored_anew_for_every_epoch(tmp_path):
    plain = captioned(tmp_path)
    mirror = MirroredImages(tmp_path / "images.h5")
    assert (mirror.rows([3, 0]) == plain_images(tmp_path)[[3, 0]][..., ::-1]).all()
    extract(encoder(), mirror, tmp_path / "mirrored.h5", "fp32")
    other = RowReader(tmp_path / "mirrored.h5", "grid")
    dataset = CaptionedImages(tmp_path / "captions.json", plain.store, other)
    everybody = list(range(COUNT))
    straight, flipped = plain.store.rows(everybody), other.rows(everybody)
    times = np.zeros(COUNT)
    for epoch in range(20):
        for captions in (None, 1):
            rows = dataset.drawn(captions, 1, epoch).__getitems__(everybody).images.numpy()
            is_flipped = (rows == flipped).all(axis=(1, 2))
            assert (rows[~is_flipped] == straight[~is_flipped]).all()
        times += is_flipped
    assert 0.3 < times.mean() / 20 < 0.7 and (times > 0).all() and (times < 20).all()
    assert (dataset.__getitems__(everybody).images.numpy() == straight).all()  # undrawn, as for validation


def plain_images(folder: Path) -> np.ndarray:
    return RowReader(folder / "images.h5", "images").rows(range(COUNT))


def batches_of(dataset: CaptionedImages, monkeypatch, workers: int, start: str = "") -> list:
    monkeypatch.setenv("SHOWTELL_WORKERS", str(workers))
    monkeypatch.setenv("SHOWTELL_START", start)
    # A batch's memory belongs to its worker and ends with it.
    return [[tensor.clone() for tensor in batch[:4]] for batch in load_batches(dataset, in_order(COUNT, 5))]


@pytest.mark.parametrize(
    ("workers", "start"),
    [(1, ""), (1, "fork"), (4, "fork"), (1, "spawn"), pytest.param(2, "spawn", marks=pytest.mark.slow)],
)
@pytest.mark.filterwarnings(
    "ignore:.*use of fork.*:DeprecationWarning", "ignore:This DataLoader will create:UserWarning"
)
def test_any_number_of_workers_gives_the_same_batches(tmp_path, monkeypatch, workers, start):
    dataset = captioned(tmp_path)
    expected = batches_of(dataset, monkeypatch, 0)  # the store is open in this process now
    assert [len(batch[0]) for batch in expected] == [5, 5, 2]
    found = batches_of(dataset, monkeypatch, workers, start)
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_store_is_opened_on_first_use(tmp_path):
    """So each worker opens its own handle."""

    def is_open() -> bool:
        return any(link.resolve() == dataset.store.path for link in Path("/proc/self/fd").iterdir())

    dataset = captioned(tmp_path)
    assert not is_open()
    dataset.store.rows([0])
    assert is_open()
    assert pickle.loads(pickle.dumps(dataset)).store.rows([1]).shape == (1, 9, 1000)


@pytest.mark.parametrize(("name", "value"), [("SHOWTELL_WORKERS", "-1"), ("SHOWTELL_WORKERS", "two")])
def test_wrong_workers_are_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name} = '{value}': a number of processes, 0 or more"):
        load_batches([], [])
    monkeypatch.setenv("SHOWTELL_WORKERS", "1")
    monkeypatch.setenv("SHOWTELL_START", "thread")
    with pytest.raises(UserError, match="SHOWTELL_START = 'thread': one of fork, spawn"):
        load_batches([], [])
