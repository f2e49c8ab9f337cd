"""`showtell plan`: estimates the cost of the present params.yaml on this machine, stage by stage, before any work."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.commands.sample_run import (
    PUBLISHED,
    Counts,
    Ran,
    Stages,
    Whole,
    fill_vocabulary,
    look,
    make_sample,
    sizes,
)
from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.params import load_all
from showtell.core.progress import log
from showtell.core.stage import spent
from showtell.core.workplace import ROOT, held
from showtell.core.yaml_files import read_sections, set_values
from showtell.data.datasets.published import CAPTION_DATASETS, DOWNLOADS
from showtell.generation.search_params import SearchParams, SweepParams

# Stages whose cost depends on the number of images only; stages that train have epochs.
GROWING = ("download", "vocab", "resize", "features")
TRAINING = {"encoder": "pretrain", "train": "train", "finetune": "finetune", "reinforce": "reinforce"}
STORES = ("data/raw", "data/captions", "data/images", "data/features")  # outputs that grow with the images

FEW_DECODINGS = SweepParams(beams=[1], length_penalties=[0.0], others=None)


@dataclass(frozen=True)
class Cost:
    """Cost of a stage."""

    seconds: float
    memory: int  # peak memory, bytes
    disk: int  # bytes of its outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Runs the stages on a small sample, which takes up to a minute or two."


def run(args: argparse.Namespace) -> int:
    stages = read_sections(Path("dvc.yaml"))["stages"]
    print_plan(stages, load_all(paths.PARAMS))
    return 0


def print_plan(stages: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Print the downloads, then the cost of each stage, then the total of the stages that will run."""
    whole, waiting = look(params), to_run(stages)
    print(f"images     {', '.join(f'{split} {whole.counts[split]:,}' for split in paths.SPLITS)}")
    for line in downloads(params):
        print(f"download   {line}")
    if not waiting - {"check", "source"}:
        print("nothing to run: every stage is up to date")
        return
    log("measuring each stage on a small sample ...")
    costs = estimate(stages, params, whole)
    print(f"{'stage':10} {'time':>14} {'memory':>9} {'disk':>9}")
    for name, cost in costs.items():
        left = "" if name in waiting else "  up to date"
        print(f"{name:10} {spent(cost.seconds):>14} {size(cost.memory):>9} {size(cost.disk):>9}{left}")
    todo = [cost for name, cost in costs.items() if name in waiting]
    seconds, memory = sum(cost.seconds for cost in todo), max(cost.memory for cost in todo)
    print(f"{'to run':10} {spent(seconds):>14} {size(memory):>9} {size(sum(cost.disk for cost in todo)):>9}")
    free = shutil.disk_usage(".").free
    if sum(cost.disk for cost in todo) > free:
        print(f"the disk has {size(free)} left: not enough")


def to_run(stages: Mapping[str, Any]) -> set[str]:
    """The stages that `dvc repro` would run: those that changed, and those that depend on their outputs."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc status: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    changed = set(json.loads(done.stdout)) - {"check", "source"}  # these run every time, without effect on the others
    while True:
        outs = [out for name in changed for out in _paths(stages[name], "outs", "metrics", "plots")]
        after = {name for name, stage in stages.items() if _touches(_paths(stage, "deps"), outs)}
        if after <= changed:
            return changed
        changed |= after


def _touches(deps: Sequence[str], outs: Sequence[str]) -> bool:
    return any(f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/") for dep in deps for out in outs)


def _paths(stage: Mapping[str, Any], *keys: str) -> list[str]:
    entries = [entry for key in keys for entry in stage.get(key, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def downloads(params: Mapping[str, Any]) -> Iterable[str]:
    """Downloads that are still to be made, as far as they are known."""
    dataset = PUBLISHED.get(params["dataset"])
    if dataset is not None and params["download"].source is None:
        for file in (CAPTION_DATASETS, *dataset.pictures):
            if not (DOWNLOADS / file.name).exists() and not paths.CAPTIONS_RAW.exists():
                yield f"{file.name}, {size(file.size) if file.size else 'size unknown'}"
    encoder = params["encoder"]
    if encoder.weights == "DEFAULT" or encoder.weights.isupper():
        yield f"weights {encoder.weights} of {encoder.name}, unless they are in its library's cache"


def estimate(stages: Mapping[str, Any], params: Mapping[str, Any], whole: Whole) -> dict[str, Cost]:
    """The cost of every stage, from its runs on two samples: their difference is the cost per image."""
    names = [name for name in stages if name != "check"]
    counts, few = sizes(whole, params), sizes(whole, params, share=0.25)
    with held("plan"), _samples() as place:
        large, small = place / "large", place / "small"
        make_sample(large, whole, counts)
        make_sample(small, whole, few)
        runner = Stages()
        ran = {name: _run(runner, name, large, whole) for name in names}
        shutil.copytree(large / paths.ENCODER, small / paths.ENCODER)
        again = {name: _run(runner, name, small, whole) for name in names if name in ("source", *GROWING)}
        again["evaluate"] = _few_decodings(runner, large)
        costs = {}
        for name in names:
            seconds = _seconds(name, ran[name], again.get(name), params, whole.counts, counts, few)
            disk = sum(_disk(large / out, out, whole.counts, counts) for out in _paths(stages[name], "outs"))
            costs[name] = Cost(seconds, ran[name].memory, disk)
    return costs


@contextmanager
def _samples() -> Iterator[Path]:
    """An empty folder for the samples, removed at the end; one that a killed process left is removed at the start.

    It is on the repository's disk, where there is room and images can be linked.
    """
    folder = ROOT.absolute() / "plan"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the default handler would leave the folder
    try:
        yield folder
    finally:
        signal.signal(signal.SIGTERM, before)
        shutil.rmtree(folder, ignore_errors=True)


def _run(runner: Stages, name: str, folder: Path, whole: Whole) -> Ran:
    ran = runner.run(name, folder)
    log(f"  {name}: {spent(ran.seconds)} for the sample")
    if name == "vocab":
        fill_vocabulary(folder, whole.words)
    return ran


def _few_decodings(runner: Stages, folder: Path) -> Ran:
    """`evaluate` again with a smaller sweep: the difference is what the other decodings cost."""
    set_values(folder / "params.yaml", {f"sweep.{key}": value for key, value in FEW_DECODINGS.model_dump().items()})
    return runner.run("evaluate", folder)


def _seconds(
    name: str, ran: Ran, again: Ran | None, params: Mapping[str, Any], whole: Counts, counts: Counts, few: Counts
) -> float:
    """Seconds of a stage on the whole dataset, from its run on the sample and, where there is one, a second run."""
    if name in GROWING and again is not None:
        images = sum(counts.values()) - sum(few.values())
        each = max(0.0, ran.seconds - again.seconds) / max(images, 1)
        return ran.seconds + each * (sum(whole.values()) - sum(counts.values()))
    if name in TRAINING and ran.epochs:
        return _training(ran, params[TRAINING[name]], whole, counts)
    if name == "evaluate" and again is not None:
        search = SearchParams.of(params["beam"], params["search"])
        decodings, few_decodings = (len(sweep.settings(search)) for sweep in (params["sweep"], FEW_DECODINGS))
        each = max(0.0, ran.seconds - again.seconds) / max((decodings - few_decodings) * counts["val"], 1)  # an image
        more = 2 * (whole["test"] - counts["test"]) + decodings * (whole["val"] - counts["val"])
        return ran.seconds + each * more
    return ran.seconds


def _training(ran: Ran, params: Any, whole: Counts, counts: Counts) -> float:
    """Extrapolated from the epochs after the first, which includes warm-up; epochs with all blocks trainable are
    longer."""
    grown = (whole["train"] + whole["val"]) / (counts["train"] + counts["val"])
    longer = getattr(params, "front_epochs", 0) if len(ran.epochs) > 2 else 0
    later = ran.epochs[-1]
    return ran.seconds - sum(ran.epochs) + grown * (longer * ran.epochs[1] + (params.epochs - longer) * later)


def _disk(path: Path, out: str, whole: Counts, counts: Counts) -> int:
    """Size of an output for the whole dataset, in bytes."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    found = sum(file.stat().st_size for file in files if file.exists())
    return round(found * sum(whole.values()) / sum(counts.values())) if out.startswith(STORES) else found


def size(count: int) -> str:
    """Bytes as text for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
