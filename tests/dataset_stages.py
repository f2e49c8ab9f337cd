"""The stages from `source` to `resize` on a small dataset, and a check of what they write."""

import layouts

from showtell.core import paths
from showtell.core.files import read_json
from showtell.data.captions import CaptionFile
from showtell.data.store import RowReader
from showtell.data.vocabulary import Vocabulary


def run(*stages: str) -> None:
    for name in ["source", *stages] if "download" in stages else stages:
        layouts.stage(name).main()


def settle(home, dataset, **values):
    layouts.settle(home, **{"dataset": dataset, "vocab__min_count": 1, "resize__size": 32} | values)


def check_stores(count: dict[str, int]) -> None:
    """Every split has its images, in caption order, and the vocabulary contains their words."""
    table = read_json(paths.METRICS / "data.json")
    for split, images in count.items():
        entries = read_json(paths.split_json(split))
        reader = RowReader(paths.split_images(split), "images")
        assert [str(entry["image_id"]) for entry in entries] == reader.ids
        assert reader.shape == (images, 3, 32, 32) and table[f"{split}_images"] == images
        assert all(len(entry["references"]) == 5 for entry in entries)
        assert CaptionFile(paths.split_json(split)).number.tolist() == [5] * len(entries)
        assert len({row.tobytes() for row in reader.rows(range(images))}) == images
    assert "dog" in Vocabulary.load(paths.VOCAB)
