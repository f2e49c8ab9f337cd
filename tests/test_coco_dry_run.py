"""`show-attend-tell` in COCO's layout through all stages, with ResNet-101 and its 14 x 14 grid."""

import os
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import coco_dry_run

from showtell.core.errors import UserError
from showtell.core.files import read_json

IMAGES = int(os.environ.get("SHOWTELL_DRY_RUN_IMAGES", "40"))


@pytest.mark.long
def test_show_attend_tell_on_coco(tmp_path, capsys):
    captions = coco_dry_run.dry_run(tmp_path, IMAGES)
    assert len(captions) == sum(number % 10 == 1 for number in range(IMAGES))
    told = capsys.readouterr().out
    assert all(f"{stage} " in told for stage in coco_dry_run.STAGES)
    facts = read_json(tmp_path / "metrics/data.json")
    assert facts["train_images"] == sum(number % 10 > 1 for number in range(IMAGES))
    assert facts["train_broken"] == facts["train_missing"] == 0
    tuned = read_json(tmp_path / "metrics/finetune.json")
    assert tuned["epoch"] == 1 and tuned["loss"] > 0


def test_the_dry_run_uses_the_published_recipes(tmp_path):
    coco_dry_run.write_params(tmp_path, {"beam": 3, "train.images_per_update": 4})
    text = (tmp_path / "params.yaml").read_text()
    for line in ("dataset: coco", "name: resnet101", "size: 256", "grid: 14", "trainable_from: layer2", "beam: 3"):
        assert line in text
    coco_dry_run.write_params(tmp_path, {}, "photographs-gpu")
    text = (tmp_path / "params.yaml").read_text()
    assert "name: timm/vit_base_patch16_clip_quickgelu_224" in text and "clip_quickgelu_224.pth" in text
    with pytest.raises(UserError, match=r"train\.epoch"):
        coco_dry_run.write_params(tmp_path, {"train.epoch": 3})


def test_the_last_line_of_a_failed_stage_is_reported(tmp_path):
    coco_dry_run.write_params(tmp_path, {})
    with pytest.raises(UserError, match=r"source: error: download\.source = .* does not exist"):
        coco_dry_run.run_stage("source", tmp_path)
