"""`showtell plan`: estimates the cost of the present params.yaml on this machine, stage by stage, before any work."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from showtell.commands.costs.estimates import estimate, paths_of
from showtell.commands.costs.sample import PUBLISHED, Whole, look
from showtell.commands.costs.sample_run import Stages
from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.core.params import load_all
from showtell.core.progress import log
from showtell.core.stage import spent
from showtell.core.yaml_files import read_sections
from showtell.data.datasets.published import DOWNLOADS, to_download
from showtell.data.datasets.source import record
from showtell.encoders import pretrained
from showtell.encoders.weights import WEIGHTS_SUFFIXES

ALWAYS = ("check", "source")  # stages that run every time, without effect on the others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Runs the stages on a small sample, which takes about half a minute."


def run(args: argparse.Namespace) -> int:
    stages = read_sections(Path("dvc.yaml"))["stages"]
    print_plan(stages, load_all(paths.PARAMS))
    return 0


def print_plan(stages: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Print the downloads, then the cost of each stage, then the total of the stages that will run."""
    whole = look(params)
    try:
        _print_plan(stages, params, whole)
    finally:
        if whole.pictures is not None:
            whole.pictures.discard_scratch()


def _print_plan(stages: Mapping[str, Any], params: Mapping[str, Any], whole: Whole) -> None:
    print(f"images     {', '.join(f'{split} {whole.counts[split]:,}' for split in paths.SPLITS)}")
    with ThreadPoolExecutor() as side:
        changed = side.submit(to_run, stages, params)
        runner = Stages()  # meanwhile: each takes seconds
        waiting = changed.result()
    for line in downloads(params, waiting):
        print(f"download   {line}")
    if not waiting:
        print("nothing to run: every stage is up to date")
        return
    log("measuring each stage on a small sample ...")
    if "evaluate" in waiting and (params["evaluate"].ensemble or params["evaluate"].clip_model):
        log("evaluate is measured without the other models of its ensemble, and without CLIPScore: it takes longer")
    costs = estimate(stages, params, whole, runner)
    print(f"{'stage':10} {'time':>14} {'memory':>9} {'disk':>9}")
    for name, cost in costs.items():
        left = "" if name in waiting else "  every time" if name in ALWAYS else "  up to date"
        print(f"{name:10} {spent(rounded(cost.seconds)):>14} {size(cost.memory):>9} {size(cost.disk):>9}{left}")
    todo = [cost for name, cost in costs.items() if name in waiting or name in ALWAYS]
    seconds, memory = sum(cost.seconds for cost in todo), max(cost.memory for cost in todo)
    print(f"{'to run':10} {spent(rounded(seconds)):>14} {size(memory):>9} {size(sum(cost.disk for cost in todo)):>9}")
    free = shutil.disk_usage(".").free
    if sum(cost.disk for cost in todo) > free:
        print(f"the disk has {size(free)} left: not enough")


def to_run(stages: Mapping[str, Any], params: Mapping[str, Any]) -> set[str]:
    """The stages that `dvc repro` would run: those that changed, and those that depend on their outputs."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc status: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    changed = (json.loads(done.stdout).keys() & stages.keys()) - set(ALWAYS)  # not: what was added by `dvc add`
    if _changed_outside(params):
        changed |= {name for name, stage in stages.items() if str(paths.SOURCE) in paths_of(stage, "deps")}
    while True:
        outs = [out for name in changed for out in paths_of(stages[name], "outs", "metrics", "plots")]
        after = {name for name, stage in stages.items() if _touches(paths_of(stage, "deps"), outs)}
        if after <= changed:
            return changed
        changed |= after


def _changed_outside(params: Mapping[str, Any]) -> bool:
    """Whether the stage `source` will find other files outside the repository than it recorded: DVC cannot know."""
    if not paths.SOURCE.is_file():
        return False  # `dvc status` says so
    return read_json(paths.SOURCE) != record(params["dataset"], params["download"], params["custom"])


def _touches(deps: Sequence[str], outs: Sequence[str]) -> bool:
    return any(f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/") for dep in deps for out in outs)


def downloads(params: Mapping[str, Any], waiting: Collection[str]) -> Iterable[str]:
    """Downloads that the stages `waiting` to run will make, as far as they are known."""
    dataset = PUBLISHED.get(params["dataset"])
    if dataset is not None and "download" in waiting:
        for file in to_download(dataset, params["download"]):
            if not (DOWNLOADS / file.name).exists():
                yield f"{file.name}, {size(file.size) if file.size else 'size unknown'}"
    encoder = params["encoder"]
    if encoder.weights not in ("none", *pretrained.SHIPPED) and not encoder.weights.endswith(WEIGHTS_SUFFIXES):
        yield f"weights {encoder.weights} of {encoder.name}, unless they are in its library's cache"


def rounded(seconds: float) -> float:
    """Two digits: more are not known."""
    return float(f"{seconds:.2g}")


def size(count: int) -> str:
    """Bytes as text for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
