"""`showtell plan`: estimates of time and space from a run on a sample."""

import json
import os
import signal
import subprocess
from types import SimpleNamespace

import pytest
from conftest import ROOT, TINY, inside

from showtell.commands import cli, plan
from showtell.commands.recipe import flat
from showtell.commands.sample_run import Ran, look, make_sample, sizes
from showtell.core.params import load_all
from showtell.core.yaml_files import read_sections, set_values
from showtell.generation.search_params import SweepParams

WHOLE = {"train": 8000, "val": 1000, "test": 1000}
LARGE = {"train": 96, "val": 32, "test": 32}
SMALL = {"train": 24, "val": 32, "test": 32}


def ran(seconds: float, *epochs: float) -> Ran:
    return Ran(seconds, 10**9, list(epochs))


def test_time_of_stages_that_is_linear_in_the_images():
    """4 s of startup and 0.1 s an image."""
    found = plan._seconds("features", ran(4 + 16), ran(4 + 8.8), {}, WHOLE, LARGE, SMALL)
    assert found == pytest.approx(4 + 1000)


def test_time_of_training_is_startup_and_epochs():
    """5 s of startup, epochs of 2 s, one second more in the first; `epochs` passes over 9,000 images."""
    params = {"train": SimpleNamespace(epochs=6)}
    found = plan._seconds("train", ran(10, 3, 2), None, params, WHOLE, LARGE, SMALL)
    assert found == pytest.approx(5 + 6 * 2 * 9000 / 128)


def test_front_epochs_of_pretraining_take_longer():
    params = {"pretrain": SimpleNamespace(epochs=5, front_epochs=2)}
    found = plan._seconds("encoder", ran(12, 5, 4, 1), None, params, WHOLE, LARGE, SMALL)
    assert found == pytest.approx(2 + (2 * 4 + 3 * 1) * 9000 / 128)


def test_time_of_evaluation_counts_all_decodings():
    """10 s of other work, 0.05 s an image and decoding; the test captions' settings are a separate entry."""
    sweep = SweepParams(beams=[1, 2, 3], length_penalties=[0, 0.7], others=None)
    params = load_all(ROOT / "params.yaml") | {"sweep": sweep}
    assert params["search"].length_penalty == 1.0
    large = ran(10 + 0.05 * (2 * 32 + 7 * 32))
    few = ran(10 + 0.05 * (2 * 32 + 2 * 32))
    found = plan._seconds("evaluate", large, few, params, WHOLE, LARGE, SMALL)
    assert found == pytest.approx(10 + 0.05 * (2 * 1000 + 7 * 1000))


def test_stages_after_a_changed_stage_run_too(monkeypatch):
    stages = read_sections(ROOT / "dvc.yaml")["stages"]

    def status(changed: list[str]):
        said = json.dumps({name: [] for name in ["source", *changed]})
        return lambda *args, **options: SimpleNamespace(returncode=0, stdout=said, stderr="")

    for changed, wanted in (
        ([], set()),
        (["evaluate"], {"evaluate"}),
        (["train"], {"train", "finetune", "reinforce", "evaluate"}),
        (["download"], set(stages) - {"check", "source"}),
    ):
        monkeypatch.setattr(subprocess, "run", status(changed))
        assert plan.to_run(stages) == wanted


def test_the_size_of_downloads_is_listed(tmp_path):
    params = load_all(ROOT / "params.yaml")
    with inside(tmp_path):
        assert list(plan.downloads(params)) == []
        assert "train2014.zip, 13.5 GB" in list(plan.downloads(params | {"dataset": "coco"}))


@pytest.mark.parametrize("dataset", ["scenes", "flickr8k"])
def test_a_sample_is_valid_and_keeps_the_cost_of_an_image(tmp_path, dataset):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_values(tmp_path / "params.yaml", {"dataset": dataset, "reinforce.chair": 0.0, "reinforce.truth": 0.0})
    with inside(tmp_path):
        params = load_all()
        whole = look(params)
        counts = sizes(whole, params, share=0.1)
        make_sample(tmp_path / "sample", whole, counts)
        sample, own = load_all(tmp_path / "sample/params.yaml"), load_all()
    assert sample["resize"].size == own["resize"].size and sample["decoder"] == own["decoder"]
    assert sample["train"].images_per_update == own["train"].images_per_update and sample["train"].epochs == 2
    pictures = list((tmp_path / "sample/pictures").glob("*.jpg"))
    assert len(pictures) == (0 if dataset == "scenes" else sum(counts.values()))


@pytest.mark.long
def test_a_plan_of_a_tiny_pipeline(tmp_path, capsys):
    """Stages run on a sample: every stage has a line, and the sum counts the stages that have to run."""
    for name in ("dvc.yaml", "params.yaml", "stages", "src", ".dvc", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").unlink()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_values(tmp_path / "params.yaml", dict(flat(TINY)))
    with inside(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "to_run", lambda stages: set(stages))
        assert cli.dispatch(["plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = [name for name in read_sections(ROOT / "dvc.yaml")["stages"] if name != "check"]
    assert [line.split()[0] for line in lines][-len(stages) - 1 : -1] == stages
    assert not (tmp_path / "work/plan").exists()


def test_every_stage_has_its_cost_and_is_up_to_date_or_not(tmp_path, monkeypatch, capsys):
    """A plan of stages that take a second each and write a megabyte."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    stages = read_sections(ROOT / "dvc.yaml")["stages"]

    def run_stage(name, folder):
        for out in plan._paths(stages[name], "outs"):
            (folder / out).mkdir(parents=True, exist_ok=True)
            (folder / out / "file").write_bytes(bytes(10**6))
        return ran(1.0, 0.4, 0.2) if name in plan.TRAINING else ran(1.0)

    monkeypatch.setattr(plan, "Stages", lambda: SimpleNamespace(run=run_stage))
    monkeypatch.setattr(plan, "fill_vocabulary", lambda folder, words: None)
    monkeypatch.setattr(plan, "to_run", lambda stages: {"finetune", "evaluate"})
    with inside(tmp_path):
        assert cli.dispatch(["plan"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = {line[0]: line for line in lines[2:]}
    assert list(table) == [*(name for name in stages if name != "check"), "to"]
    assert table["train"][-3:] == ["up", "to", "date"] and table["finetune"][-1] == "MB"
    assert not (tmp_path / "work/plan").exists()


def test_samples_of_killed_plans_are_removed(tmp_path):
    left = tmp_path / "work/plan/large/params.yaml"
    left.parent.mkdir(parents=True)
    left.touch()
    with inside(tmp_path), pytest.raises(SystemExit), plan._samples() as folder:
        assert not list(folder.iterdir())
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert not left.parent.parent.exists()
