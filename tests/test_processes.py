"""Stages in two gloo processes give the results of one process."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import ROOT, run_stage, write_params
from forked_scripts import Script
from safetensors.torch import load_file

from showtell.core import processes
from showtell.data.batches import Batch
from showtell.learning import parallel
from showtell.learning.parallel import own_share

# No dropout, of units or of words: each process draws its own. Updates of 23 and 8 images, in uneven shares; the
# last of 24 images is alone.
SAME = {
    "decoder": {"dropout": 0.0},
    "train": {"images_per_update": 23, "epochs": 2, "accumulate": 2, "precision": "fp32", "word_dropout": 0.0},
    "finetune": {
        "images_per_update": 8, "flip": False, "grey": 0.0, "word_dropout": 0.0, "precision": "fp32",
        "trainable_from": "layer3.1.bn2", "ema": 0.5,
    },
    "encoder": {"name": "resnet18", "node": "layer3", "precision": "fp32"},
    "pretrain": {"enabled": False},
}  # fmt: skip


def start(stage: str, folder: Path, **environment: str) -> Script:
    """`python stages/<stage>.py`, as DVC starts it."""
    return Script(ROOT / "stages" / f"{stage}.py", folder, **environment)


def in_two(stage: str, folder: Path, **environment: str) -> str:
    with start(stage, folder, SHOWTELL_PROCESSES="2", **environment) as process:
        _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def metrics(folder: Path, stage: str) -> dict:
    return json.loads((folder / "metrics" / f"{stage}.json").read_text())


@pytest.mark.slow
def test_two_processes_equal_one(copy_pipeline, tmp_path):
    one, two = (copy_pipeline("data", "metrics", folder=tmp_path / name) for name in ("one", "two"))
    for folder in (one, two):
        # Outputs of one process must not be reused.
        for model in ("features", "models"):
            shutil.rmtree(folder / "data" / model)
        write_params(folder, **SAME)
    for stage in ("encoder", "features", "train", "finetune"):
        run_stage(stage, one)
        in_two(stage, two)
    for split in ("train", "val"):
        grids = [h5py.File(folder / "data" / "features" / f"{split}.h5")["grid"][:] for folder in (one, two)]
        np.testing.assert_allclose(*grids, rtol=2e-3, atol=2e-3)  # float16, other batches
    models = [load_file(folder / "data" / "models" / "train" / "model.safetensors") for folder in (one, two)]
    for name, tensor in models[0].items():
        torch.testing.assert_close(
            models[1][name], tensor, rtol=1e-2, atol=2e-3, msg=lambda m, name=name: f"{name}: {m}"
        )
    for stage in ("train", "finetune"):
        there, here = metrics(two, stage), metrics(one, stage)
        assert (there.pop("processes"), here.pop("processes")) == (2, 1)
        assert there.pop("selected_by", None) == here.pop("selected_by", None)
        assert there == pytest.approx(here, rel=2e-2, abs=2e-2)
    assert not list((two / "work").glob("*/"))


@pytest.mark.slow
def test_evaluation_by_two_processes_equals_one(copy_pipeline, pipeline):
    folder = copy_pipeline("data", "metrics")
    in_two("evaluate", folder, PATH="")  # without Java: METEOR would take seconds
    here, there = (json.loads((f / "data" / "hypotheses" / "test.json").read_text()) for f in (folder, pipeline))
    assert [(h["image_id"], h["caption"]) for h in here] == [(h["image_id"], h["caption"]) for h in there]
    two, one = metrics(folder, "evaluate"), metrics(pipeline, "evaluate")
    numbers = [key for key in one if isinstance(one[key], float)]
    assert "cider" in numbers and two["meteor"] is None
    assert [two[key] for key in numbers] == pytest.approx([one[key] for key in numbers], rel=1e-5)


@pytest.mark.slow
def test_errors_are_one_line_and_a_signal_ends_all_processes(copy_pipeline, tmp_path):
    folder = copy_pipeline("data")
    (folder / "data" / "vocab.json").unlink()
    with start("train", folder, SHOWTELL_PROCESSES="2") as process:
        _, said = process.communicate(timeout=600)
    assert process.returncode == 1
    assert said.startswith("error: data/vocab.json does not exist")
    assert said.count("\n") == 1
    other = copy_pipeline("data", folder=tmp_path / "other")
    write_params(other, train={"epochs": 5000, "stop_after": 5000})
    with start("train", other, SHOWTELL_PROCESSES="2") as process:
        line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
    assert line.startswith("epoch   1/5000")
    holder = int((other / "work" / "train.pid").read_text())
    assert soon(lambda: not _alive(holder)), "a process works on"


# `train` whose first process is killed when it has trained its second epoch and not yet saved it.
KILLED = """
import os, runpy, signal
from showtell.learning.checkpoints import Checkpoints

saves, save = [], Checkpoints.save

def killed(*args):
    saves.append(args)
    if len(saves) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*args)

Checkpoints.save = killed
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_two_killed_processes_resume_to_the_same_weights(copy_pipeline, tmp_path):
    whole, killed = (copy_pipeline("data", folder=tmp_path / name) for name in ("whole", "killed"))
    for folder in (whole, killed):
        write_params(folder, train={"epochs": 3, "stop_after": 3})
    in_two("train", whole)
    (tmp_path / "killed.py").write_text(KILLED.format(script=str(ROOT / "stages" / "train.py")))
    with Script(tmp_path / "killed.py", killed, SHOWTELL_PROCESSES="2") as process:
        _, said = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, said
    assert in_two("train", killed).startswith("going on after epoch 1\n")
    weights = [load_file(folder / "data" / "models" / "train" / "model.safetensors") for folder in (whole, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within five minutes."""
    return any(true() or time.sleep(0.1) for _ in range(3000))


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() != b""


def test_a_wrong_number_is_refused(tmp_path):
    with start("train", tmp_path, SHOWTELL_PROCESSES="many") as process:
        _, said = process.communicate(timeout=600)
    assert process.returncode == 1
    assert said == "error: SHOWTELL_PROCESSES = 'many': it must be a number of processes, 1 or more\n"


ALONE_IN_TROUBLE = """
import os, signal, time
from showtell.core.errors import UserError
from showtell.core.processes import all_gather, launch, rank

def main():
    if rank() == 1:
        {trouble}
    all_gather([1])

if __name__ == "__main__":
    launch(main, memory="lower the beam")
"""


def in_trouble(folder: Path, trouble: str) -> Script:
    (folder / "stage.py").write_text(ALONE_IN_TROUBLE.format(trouble=trouble))
    return Script(folder / "stage.py", folder, SHOWTELL_PROCESSES="2")


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ("raise UserError('no room on disk')", "error: process 1: no room on disk\n"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "error: process 1 ended with status -9 (out of memory?); SHOWTELL_PROCESSES=1 needs less\n",
        ),
        (
            "import torch; raise torch.OutOfMemoryError('Tried to allocate 2.00 GiB.')",
            "error: process 1: stage: out of memory (Tried to allocate 2.00 GiB.); lower the beam\n",
        ),
    ],
)
def test_an_error_of_another_process_ends_the_stage_with_one_line(tmp_path, trouble, line):
    with in_trouble(tmp_path, trouble) as process:
        _, said = process.communicate(timeout=600)
    assert (process.returncode, said) == (1, line)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total of"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_one_line_with_the_settings_to_lower(tmp_path, monkeypatch, capsys, error):
    def main() -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        processes.launch(main, memory="lower train.images_per_update")
    said = capsys.readouterr().err
    assert said.startswith("error: test_processes: out of memory (") and said.count("\n") == 1
    assert said.endswith("; lower train.images_per_update\n")


def test_killing_a_stage_ends_its_other_processes(tmp_path):
    with in_trouble(tmp_path, "print(os.getpid(), flush=True); time.sleep(600)") as process:
        other = int(process.stdout.readline())
        process.kill()
    assert soon(lambda: not _alive(other)), "a process works on"


@pytest.mark.parametrize(("cores", "usually", "count"), [(1, 2, 1), (2, 2, 2), (16, 2, 2), (16, 1, 1)])
def test_processes_share_the_cores(monkeypatch, cores, usually, count):
    monkeypatch.delenv("SHOWTELL_PROCESSES")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert processes.wanted(usually) == count


def test_a_single_process_has_all_items():
    assert processes.is_main() and processes.world() == 1
    assert processes.share([1, 2, 3]) == processes.all_gather([1, 2, 3]) == [1, 2, 3]
    assert processes.broadcast(lambda: 5) == 5
    assert processes.gather_to_main("x") == ["x"]


def test_shares_partition_the_images_and_none_is_empty(monkeypatch):
    batch = Batch(torch.arange(3), *(torch.ones(3, 2, 4),) * 2, torch.ones(3, 2, 4, dtype=torch.bool))
    seen = []
    for number in range(4):
        monkeypatch.setattr("showtell.learning.parallel.world", lambda: 4)
        monkeypatch.setattr("showtell.learning.parallel.rank", lambda number=number: number)
        mine = own_share(batch)
        assert len(mine.images) == 1
        seen += mine.images[mine.mask.any(2).any(1)].tolist()
    assert sorted(seen) == [0, 1, 2]


def test_statistics_that_are_equal_in_three_processes_stay_as_they_are(monkeypatch):
    """The sum of three equal float32 values is not always three times the value: frozen norms would drift."""
    monkeypatch.setattr(parallel, "world", lambda: 3)
    monkeypatch.setattr(parallel.distributed, "all_reduce", lambda tensor: tensor.copy_(tensor + tensor + tensor))
    norm = torch.nn.BatchNorm1d(1000)
    norm.running_mean.copy_(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    before, averages = norm.running_mean.clone(), {"running_mean": norm.running_mean.clone()}
    parallel.average_statistics(norm, averages)
    assert torch.equal(norm.running_mean, before) and torch.equal(averages["running_mean"], before)
