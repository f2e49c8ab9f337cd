"""Datasets in their published layouts, and datasets with skipped pictures, through all stages."""

import json
from pathlib import Path

import layouts
import pytest
import torch
from conftest import STAGES, inside, run_stage, write_params

from showtell.core import paths
from showtell.core.files import read_json
from showtell.data.batches import CaptionedImages
from showtell.data.store import RowReader
from showtell.encoders.weights import bare_network
from showtell.evaluation.report import evaluated
from showtell.generation.captioner import Captioner
from showtell.metrics import protocol as coco

# Small sizes: each stage has its own tests.
SMALL = {
    "resize": {"size": 32},
    "detection": {"min_images": 1, "max_share": 1.0},
    "sweep": {"beams": [1]},
    "evaluate": {"pictures": 1},
    "search": {"max_length": 4},
}


def run_all(folder: Path, **overlay) -> None:
    write_params(folder, **SMALL | overlay)
    for stage in STAGES:
        run_stage(stage, folder)


def check_artefacts(folder: Path, test_ids: list[str]) -> None:
    """Every test image has a caption and is in the metrics, in the same order."""
    with inside(folder):
        results = read_json(paths.HYPOTHESES)
        assert [str(result["image_id"]) for result in results] == test_ids
        metrics = read_json(paths.METRICS / "evaluate.json")
        assert metrics["bleu4"] is not None and metrics["cider"] >= 0 and metrics["frozen_bleu4"] is not None
        assert read_json(paths.SKIPPED) == []
        for model in (paths.TRAIN_MODEL, paths.FINETUNE_MODEL, paths.MODEL):
            Captioner.load(model)
        assert not [path for path in Path("work").glob("*/") if path.name != "downloads"]


def source_of(folder: Path) -> dict:
    return {"source": str(folder), "incomplete": "accept"}


def test_flickr8k(tmp_path):
    files = layouts.make_flickr(tmp_path / "source", "flickr8k")
    torch.save(bare_network("squeezenet1_1").state_dict(), tmp_path / "weights.pth")
    layers = {"node": "features.7", "levels": ["features.4"]}
    encoder = {"name": "squeezenet1_1", "weights": str(tmp_path / "weights.pth"), **layers}
    tuned = {"finetune": {"trainable_from": "features.6"}}
    run_all(tmp_path, dataset="flickr8k", download=source_of(tmp_path / "source"), encoder=encoder, **tuned)
    ids = [str(number) for number in range(2, 12, 4)]
    check_artefacts(tmp_path, ids)
    assert [entry["file"] for entry in json.loads((tmp_path / "data/captions/test.json").read_text())] == files[2::4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "block", "fewer"),
    [("mobilenetv3_small_050", 64, "blocks.4", {}),
     ("swin_tiny_patch4_window7_224", 64, "layers.3", {"embed_dim": 24, "depths": (1, 1, 2, 1)}),
     ("vit_small_patch14_reg4_dinov2", 56, "blocks.1", {"embed_dim": 96, "depth": 2}),
     ("vit_tiny_r_s16_p8_224", 64, "blocks.1", {"depth": 2})],
)  # fmt: skip
def test_timm_families(tmp_path, monkeypatch, name, size, block, fewer):
    """Networks with fewer layers and channels than published: the stages depend on the family, not on the size."""
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **more: create(*args, **more, **fewer))
    layouts.make_flickr(tmp_path / "source", "flickr8k")
    encoder = {"name": f"timm/{name}", "weights": "none", "node": None}
    more = {"pretrain": {"enabled": False}, "finetune": {"trainable_from": block}, "resize": {"size": size}}
    run_all(tmp_path, dataset="flickr8k", download=source_of(tmp_path / "source"), encoder=encoder, **more)
    check_artefacts(tmp_path, [str(number) for number in range(2, 12, 4)])


@pytest.mark.slow
def test_flickr30k(tmp_path):
    layouts.make_flickr(tmp_path / "source", "flickr30k")
    run_all(tmp_path, dataset="flickr30k", download=source_of(tmp_path / "source"))
    check_artefacts(tmp_path, [str(number) for number in range(2, 12, 4)])


@pytest.mark.slow
def test_coco_with_its_boxes(tmp_path):
    ids = layouts.make_coco(tmp_path / "source")
    run_all(tmp_path, dataset="coco", download=source_of(tmp_path / "source"))
    check_artefacts(tmp_path, [str(number) for number in ids[1::4]])
    metrics = json.loads((tmp_path / "metrics/evaluate.json").read_text())
    assert metrics["chair_i"] is None or 0 <= metrics["chair_i"] <= 1
    assert metrics["chair_s"] is not None


def test_a_skipped_picture_is_absent_from_all_outputs(tmp_path, monkeypatch):
    """One picture of each split is broken; after `resize` no file contains it or its captions."""
    photos, rows = tmp_path / "photos", ["image,caption,split"]
    photos.mkdir()
    for number in range(18):
        split = ("train", "val", "test")[number % 3]
        name, bad = f"{split}-{number}.jpg", 3 <= number < 6
        (photos / name).write_bytes(layouts.jpeg(number)[: 200 if bad else None])
        rows += [f"{name},{said},{split}" for said in (("a broken pony",) if bad else ("a dog runs", "the dog"))]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    judged, learnt, remembered = [], [], []
    original_memory = evaluated.TrainingCaptions.__init__

    def remember(self, words) -> None:
        remembered.extend(words := list(words))
        original_memory(self, words)

    monkeypatch.setattr(evaluated.TrainingCaptions, "__init__", remember)
    original = coco.Protocol.__init__
    monkeypatch.setattr(coco.Protocol, "__init__", lambda self, refs: judged.append(set(refs)) or original(self, refs))
    getitems = CaptionedImages.__getitems__
    monkeypatch.setattr(
        CaptionedImages, "__getitems__", lambda self, rows: learnt.append(found := getitems(self, rows)) or found
    )
    custom = {"images": str(photos), "captions": str(tmp_path / "captions.csv")}
    run_all(tmp_path, dataset="custom", custom=custom, resize={"size": 32, "broken": "skip"})

    gone = {"train-3.jpg", "val-4.jpg", "test-5.jpg"}
    with inside(tmp_path):
        assert {image["image_id"] for image in read_json(paths.SKIPPED)} == gone
        for split in paths.SPLITS:
            kept = [e["image_id"] for e in read_json(paths.split_json(split)) if e["image_id"] not in gone]
            assert RowReader(paths.split_images(split), "images").ids == kept and len(kept) == 5
            if split != "test":
                assert RowReader(paths.split_features(split), "grid").ids == kept
        assert [result["image_id"] for result in read_json(paths.HYPOTHESES)] == kept
        table = read_json(paths.METRICS / "data.json")
        assert [table[f"{split}_truncated"] for split in paths.SPLITS] == [1, 1, 1] and table["train_captions"] == 10
        pony = read_json(paths.VOCAB)["words"].index("pony")
    assert judged and not set.union(*judged) & gone
    assert learnt and not any((batch.targets == pony).any() for batch in learnt)
    assert remembered and not any("pony" in words for words in remembered)
