"""The stages: outputs, resuming after a kill, error messages."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, STAGES, run_stage, stage_module, write_params
from PIL import Image
from tiny_model import tiny_captioner

from showtell.core import processes
from showtell.data.batches import captioned_images
from showtell.data.store import RowReader, RowWriter
from showtell.encoders.features import load_encoder
from showtell.evaluation.summary import provenance
from showtell.generation.bundle import load_model, save_model
from showtell.generation.captioner import Captioner
from showtell.learning import checkpoints
from showtell.metrics.protocol import read_hypotheses


class Killed(BaseException):
    """Replaces a kill: no code catches it."""


def kill_at(monkeypatch, owner, name: str, call: int) -> None:
    """Raise Killed after the `call`-th call of owner.name."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, counted)


def model_bytes(folder, model: str) -> bytes:
    return (folder / "data" / "models" / model / "model.safetensors").read_bytes()


def test_one_hypothesis_for_each_test_image_in_coco_s_format(pipeline):
    captions = read_hypotheses(pipeline / "data/hypotheses/test.json")
    entries = json.loads((pipeline / "data/captions/test.json").read_text())
    assert list(captions) == [str(entry["image_id"]) for entry in entries]
    results = json.loads((pipeline / "data/hypotheses/test.json").read_text())
    assert all(result["logprob"] < 0 for result in results)


def test_evaluate_reports_test_unseen_and_frozen(pipeline):
    metrics = json.loads((pipeline / "metrics/evaluate.json").read_text())
    for key in ("bleu4", "cider", "chair_i", "chair_s", "pointing", "nltk_bleu4"):
        assert {key, f"unseen_{key}", f"frozen_{key}"} <= set(metrics)
    assert 0 <= metrics["chair_i"] <= 1


def test_the_metrics_say_what_they_are_of(pipeline):
    """Metrics of an earlier run remain when a later run fails, so they name their data and model."""
    said = json.loads((pipeline / "metrics/provenance.json").read_text())
    assert said["dataset"] == "scenes" and set(said) == {"dataset", "test", "model", "search", "code"}
    assert json.loads((pipeline / "metrics/train.json").read_text())["processes"] == 1


def test_the_metrics_tell_models_and_searches_apart(pipeline, monkeypatch):
    monkeypatch.chdir(pipeline)
    captioner, test = tiny_captioner(), captioned_images("test")
    others = (
        captioner,
        captioner.searching(captioner.search.override(max_length=7)),
        Captioner(captioner.model, captioner.search, [captioner.model]),
    )
    said = [provenance("scenes", test, one, ROOT / "stages/evaluate.py") for one in others]
    assert said[0]["model"] == said[1]["model"] != said[2]["model"]
    assert said[0]["search"] != said[1]["search"]


def test_evaluate_ends_with_scores_captions_and_next_commands(copy_pipeline):
    folder = copy_pipeline("data", "metrics")
    lines = run_stage("evaluate", folder).split("\n")
    metrics = json.loads((folder / "metrics/evaluate.json").read_text())
    table = {line.split("  ")[1]: line.split() for line in lines if line.startswith("  ")}
    before, after = (f"{100 * metrics[key]:.1f}" for key in ("frozen_cider", "cider"))
    assert table["CIDEr-D"][1:3] == [before, after] and len(table["CIDEr-D"]) == 6
    captions = {h["image_id"]: h["caption"] for h in json.loads((folder / "data/hypotheses/test.json").read_text())}
    entries = json.loads((folder / "data/captions/test.json").read_text())
    shown = [f"  {entries[row]['file']}: {captions[entries[row]['image_id']]}" for row in (0, 4, 7)]
    assert [line for line in lines if line.startswith("  scene-")] == shown
    assert "report: metrics/report/index.html" in lines and lines.index("next:") < len(lines) - 1


def test_without_a_detector_evaluate_weighs_the_words_of_similar_training_images(copy_pipeline):
    folder = copy_pipeline("data", "metrics")
    model = load_model(folder / "data/models/reinforce")
    save_model(replace(model, detector=None), folder / "data/models/reinforce", notes={})
    said = {}
    for weight in (0.0, 5.0):
        alone = {"consensus": 0.0, "neighbour_ngrams": 0.0, "neighbour_bonus": 0.0}
        write_params(folder, search={"detection_weight": weight, **alone})
        run_stage("evaluate", folder)
        said[weight] = json.loads((folder / "data/hypotheses/test.json").read_text())
        assert (folder / "data/model/neighbours.safetensors").exists() == bool(weight)
    assert said[0.0] != said[5.0]
    images = RowReader(folder / "data/images/test.h5", "images")
    pictures = [pixels.transpose(1, 2, 0) for pixels in images.rows(range(len(images)))]
    served = Captioner.load(folder / "data/model").caption(pictures, attention=False)
    assert [caption.text for caption in served] == [entry["caption"] for entry in said[5.0]]


def test_train_does_not_change_the_encoder(pipeline):
    before, after = (load_model(pipeline / "data/models" / name) for name in ("train", "finetune"))
    from safetensors.torch import load_file

    frozen = load_file(pipeline / "data/models/encoder/encoder.safetensors")
    assert all((before.encoder.state_dict()[name] == tensor).all() for name, tensor in frozen.items())
    assert any((after.encoder.state_dict()[name] != tensor).any() for name, tensor in frozen.items())


def test_the_word_detector_of_pretraining_is_handed_on_and_learns_further(pipeline):
    trained, tuned, last = (load_model(pipeline / "data/models" / name) for name in ("train", "finetune", "reinforce"))
    kept = load_encoder(pipeline / "data/models/encoder").detector
    before, after = kept.detect.weight, tuned.detector.detect.weight
    assert trained.detector.detect.weight.equal(before) and last.detector.detect.weight.equal(after)
    # an epoch of three updates changes it, and does not begin it anew
    assert not after.equal(before) and (after - before).abs().mean() < 0.1 * before.abs().mean()


def test_without_word_loss_fine_tuning_leaves_the_detector_as_it_was(copy_pipeline):
    folder = copy_pipeline("data")
    write_params(folder, finetune={"word_loss": 0.0})
    run_stage("finetune", folder)
    trained, tuned = (load_model(folder / "data/models" / name) for name in ("train", "finetune"))
    assert trained.detector.detect.weight.equal(tuned.detector.detect.weight)


def test_cached_features_equal_served_features(pipeline):
    model = load_model(pipeline / "data/models/train")
    import torch

    images = RowReader(pipeline / "data/images/val.h5", "images")
    grid = RowReader(pipeline / "data/features/val.h5", "grid")
    online = model.encode(torch.from_numpy(images.rows([1, 4]))).numpy()
    cached = grid.rows([1, 4]).astype(np.float32)
    assert (
        np.abs(online - cached).max() <= 0.02 * np.abs(cached).max()
    )  # float16 storage, arithmetic as `precision` says


@pytest.mark.parametrize("stage", ["train", "finetune", "reinforce"])
def test_killed_training_resumes_to_the_same_weights(stage, copy_pipeline, pipeline, monkeypatch):
    folder = copy_pipeline("data")
    write_params(folder, finetune={"epochs": 2}, reinforce={"epochs": 2})
    run_stage(stage, folder)
    whole = model_bytes(folder, stage)
    kill_at(monkeypatch, checkpoints.Checkpoints, "save", 1)
    with pytest.raises(Killed):
        run_stage(stage, folder)
    monkeypatch.undo()
    assert len(list((folder / "work").glob(f"{stage}-*/latest.pt"))) == 1
    run_stage(stage, folder)
    assert model_bytes(folder, stage) == whole


def test_a_checkpoint_of_other_params_is_not_used(copy_pipeline, monkeypatch):
    folder = copy_pipeline("data")
    kill_at(monkeypatch, checkpoints.Checkpoints, "save", 1)
    with pytest.raises(Killed):
        run_stage("train", folder)
    monkeypatch.undo()
    write_params(folder, train={"learning_rate": 0.0001})
    run_stage("train", folder)
    resumed = model_bytes(folder, "train")
    run_stage("train", folder)
    assert model_bytes(folder, "train") == resumed


def test_pretraining_on_other_captions_begins_anew(copy_pipeline, monkeypatch, capsys):
    folder = copy_pipeline("data")
    write_params(folder, encoder={"weights": "none"}, pretrain={"enabled": True, "epochs": 2})
    kill_at(monkeypatch, checkpoints.Checkpoints, "save", 1)
    with pytest.raises(Killed):
        run_stage("encoder", folder)
    monkeypatch.undo()
    path = folder / "data/raw/captions.json"
    content = json.loads(path.read_text())
    one, other = [image for image in content["images"] if image["split"] == "train"][:2]
    one["sentences"], other["sentences"] = other["sentences"], one["sentences"]
    path.write_text(json.dumps(content))
    run_stage("vocab", folder)
    capsys.readouterr()
    run_stage("encoder", folder)
    assert "going on after" not in capsys.readouterr().err


def test_killed_features_resume_to_the_same_bytes(copy_pipeline, pipeline, monkeypatch):
    folder = copy_pipeline("data")
    kill_at(monkeypatch, RowWriter, "append", 1)
    with pytest.raises(Killed):
        run_stage("features", folder)
    monkeypatch.undo()
    run_stage("features", folder)
    for split in ("train", "val"):
        name = f"data/features/{split}.h5"
        assert (folder / name).read_bytes() == (pipeline / name).read_bytes()


def test_the_same_seed_gives_the_same_metrics(copy_pipeline, pipeline):
    folder = copy_pipeline()
    for stage in STAGES:
        run_stage(stage, folder)
    names = ("evaluate.json", "behaviour.json", "intervals.json", "provenance.json", "data.json")
    for name in (*names, "train.tsv", "finetune.tsv"):
        assert (folder / "metrics" / name).read_text() == (pipeline / "metrics" / name).read_text()


def test_another_vocabulary_under_a_model_is_refused(copy_pipeline):
    folder = copy_pipeline("data", "metrics")
    vocabulary = folder / "data/models/reinforce/vocab.json"
    content = json.loads(vocabulary.read_text())
    content["words"][4], content["words"][5] = content["words"][5], content["words"][4]
    vocabulary.write_text(json.dumps(content))
    with pytest.raises(Exception, match=r"vocabulary .* vocab\.json"):
        run_stage("evaluate", folder)


def photographs(folder, count: int):
    """A folder of JPEGs and a Karpathy JSON without `filepath`, as Flickr8k's."""
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    images = []
    for number in range(count):
        spots = Image.fromarray(generator.integers(0, 255, (6, 6, 3), dtype=np.uint8))  # noise has near-duplicates
        spots.resize((60, 40 + number)).save(folder / "photos" / f"{number}.jpg")
        sentences = [{"raw": f"A picture number {number % 3} .", "tokens": ["a", "picture", "number", str(number % 3)]}]
        split = "test" if number < 3 else "val" if number < 6 else "train"
        images.append({"imgid": number, "filename": f"{number}.jpg", "split": split, "sentences": sentences * 2})
    (folder / "captions.json").write_text(json.dumps({"dataset": "mine", "images": images}))


def test_own_photographs_and_a_weights_file_go_through_all_stages(tmp_path):
    import torch
    import torchvision

    photographs(tmp_path, 14)
    torch.manual_seed(2)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.pth")
    encoder = {"name": "squeezenet1_1", "weights": "weights.pth", "node": "features.12"}
    custom = {"images": "photos", "captions": "captions.json"}
    write_params(tmp_path, dataset="custom", custom=custom, encoder=encoder, finetune={"trainable_from": "features.9"})
    for stage in STAGES:
        run_stage(stage, tmp_path)
    metrics = json.loads((tmp_path / "metrics/evaluate.json").read_text())
    assert metrics["bleu4"] is not None and metrics["chair_i"] is None
    assert len(json.loads((tmp_path / "data/hypotheses/test.json").read_text())) == 3


def test_pretraining_s_keys_do_not_change_an_encoder_with_weights(copy_pipeline):
    """`features` depends on the encoder's files and on no parameter, so DVC does not run it again."""
    import torch
    import torchvision

    folder = copy_pipeline("data/captions", "data/images", "data/vocab.json")
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), folder / "weights.pth")
    encoder = {"name": "squeezenet1_1", "weights": "weights.pth", "node": "features.12"}
    made = []
    for pretraining, detection in (({}, {}), ({"seed": 9, "learning_rate": 0.1}, {"min_images": 1})):
        write_params(folder, encoder=encoder, pretrain=pretraining, detection=detection)
        run_stage("encoder", folder)
        files = sorted((folder / "data/models/encoder").iterdir())
        made.append([(file.name, file.read_bytes()) for file in files])
    assert made[0] == made[1] and len(made[0]) == 2
    assert "params" not in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["features"]


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"beam": 0}, "beam = 0: input should be greater than or equal to 1"),
        ({"finetune": {"epochs": "many"}}, "finetune.epochs = 'many': input should be a valid integer"),
        ({"train": {"speed": 1}}, "unknown key train.speed"),
        ({"encoder": {"weights": "imagenet.pth"}}, "imagenet.pth': no such file"),
        ({"encoder": {"name": "resnet17"}}, "encoder.name = 'resnet17' is not a classification model"),
    ],
)
def test_a_wrong_value_is_one_line_before_any_work(overlay, message, copy_pipeline, monkeypatch, capfd):
    folder = copy_pipeline("data/captions", "data/images", "data/vocab.json")
    write_params(folder, **overlay)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit, match="1"):  # as `python stages/encoder.py` ends; starting it would import torch
        processes.launch(stage_module("encoder").main)
    said = capfd.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not Path("data/models").exists()


HOLD = """
import contextlib, sys
from showtell.core.workplace import held
with contextlib.ExitStack() as stack:
    for stage in sys.argv[1:]:
        stack.enter_context(held(stage))
    print("held", flush=True)
    input()
"""


def test_no_stage_starts_twice_in_a_folder(copy_pipeline, monkeypatch, capfd):
    """Two `evaluate` at once would write the same files."""
    folder = copy_pipeline("data", "metrics")
    pipe, before = subprocess.PIPE, {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    command = [sys.executable, "-c", HOLD, *STAGES]
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        monkeypatch.chdir(folder)
        for stage in STAGES:
            with pytest.raises(SystemExit, match="1"):
                runpy.run_path(str(ROOT / "stages" / f"{stage}.py"), run_name="__main__")
            said = capfd.readouterr().err
            assert said.startswith(f"error: stage {stage} is already running here (process {holder.pid} holds work/")
            assert said.count("\n") == 1
        holder.communicate("\n")
    assert {path: path.read_bytes() for path in before} == before


def test_missing_and_unknown_sections_are_named(tmp_path):
    from showtell.core.errors import UserError
    from showtell.core.params import load_all

    path = write_params(tmp_path)
    params = yaml.safe_load(path.read_text())
    for change, message in (({"beams": 3}, "unknown key 'beams'"), ({"vocab": None}, "vocab")):
        path.write_text(yaml.safe_dump({**params, **change}))
        with pytest.raises(UserError, match=message):
            load_all(path)
    del params["beam"]
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match="the key 'beam' is missing"):
        load_all(path)
