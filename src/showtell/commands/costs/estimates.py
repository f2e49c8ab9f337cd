"""Time, memory and disk of every stage on the whole dataset, from runs on samples."""

import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from showtell.commands.costs.sample import ATTENTION, Counts, Whole, fill_vocabulary, make_sample, shorten, sizes
from showtell.commands.costs.sample_run import Ran, Stages, Times
from showtell.core import paths
from showtell.core.machine import cores
from showtell.core.progress import log
from showtell.core.stage import spent
from showtell.core.workplace import ROOT, held
from showtell.core.yaml_files import set_values

# Stages that read captions. They run on two samples, and what is measured is processor time: for the few images of a
# sample it is short, and other work on the machine does not change it.
PLAIN = ("source", "download", "vocab")
ONE_CORE = (*PLAIN, "resize")  # their workers are not started for the sample's few images
TRAINING = {"encoder": "pretrain", "train": "train", "finetune": "finetune", "reinforce": "reinforce"}
STORES = ("data/raw", "data/captions", "data/images", "data/features")  # outputs that grow with the images


@dataclass(frozen=True)
class Cost:
    """Cost of a stage."""

    seconds: float
    memory: int  # peak memory, bytes
    disk: int  # bytes of its outputs


@dataclass(frozen=True)
class Images:
    """Number of images in each split of the whole dataset, of the sample, and of the second sample with a few."""

    whole: Counts
    sample: Counts
    few: Counts


def estimate(stages: Mapping[str, Any], params: Mapping[str, Any], whole: Whole, runner: Stages) -> dict[str, Cost]:
    """The cost of every stage."""
    names = [name for name in stages if name != "check"]
    images = Images(whole.counts, *sizes(whole, params))
    with held("plan"), samples() as place:
        sample, few = place / "sample", place / "few"
        make_sample(sample, whole, images.sample)
        make_sample(few, whole, images.few)
        ran, again = _run(runner, names, sample, few, params, whole.words)
        seconds = estimated({name: one.times for name, one in ran.items()}, again, params, images)
        disk = {name: sum(_disk(sample / o, o, images) for o in paths_of(stages[name], "outs")) for name in names}
        disk["download"] += whole.archives  # the sample has pictures that are only linked
    return {name: Cost(seconds[name], ran[name].memory, disk[name]) for name in names}


@contextmanager
def samples() -> Iterator[Path]:
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


def _run(
    runner: Stages, names: Iterable[str], sample: Path, few: Path, params: Mapping[str, Any], vocabulary: int
) -> tuple[dict[str, Ran], dict[str, Times]]:
    """Measurements of all stages on `sample`, and of `PLAIN` ones on `few`. `vocabulary`: number of its words."""
    ran, again, length = {}, {}, 0
    for name in names:
        if name == "reinforce" and params[name].epochs:
            shorten(sample, ["train"], length)
            runner.run("vocab", sample)
            fill_vocabulary(sample, vocabulary)
        ran[name] = runner.run(name, sample, one_core=name in ONE_CORE)
        log(f"  {name}: {spent(ran[name].times.whole)} for the sample")
        if name in PLAIN:
            again[name] = runner.run(name, few, one_core=True).times
        if name == "download":
            length = shorten(sample, ["val"])
            set_values(sample / "params.yaml", _no_longer_than(length + 1, params))
        elif name == "vocab":
            fill_vocabulary(sample, vocabulary)
    return ran, again


def _no_longer_than(tokens: int, params: Mapping[str, Any]) -> dict[str, Any]:
    """What to set so that a search ends after so many tokens, or after the fewest that it is allowed to generate."""
    others = params["sweep"].others or []
    longest = max(params["search"].min_length, min(tokens, params["search"].max_length))

    def limited(other: Mapping[str, Any]) -> dict[str, Any]:
        least = other.get("min_length", params["search"].min_length)
        return {**other, "max_length": max(least, min(other.get("max_length", longest), longest))}

    return {"search.max_length": longest, "sweep.others": [limited(other) for other in others] or None}


def estimated(
    ran: Mapping[str, Times], again: Mapping[str, Times], params: Mapping[str, Any], images: Images
) -> dict[str, float]:
    """Seconds of every stage for the whole dataset, from its times on the sample and (`again`) on few images."""
    found = {}
    for name, times in ran.items():
        if name in PLAIN:
            divided = (name, params["dataset"]) == ("download", "scenes")
            found[name] = _line(times, again[name], images, cores() if divided else 1)
        else:
            found[name] = times.whole + _more_of_parts(times, params, images)
            if times.images:
                found[name] += _more_images(times, *_work_on_images(name, params, images.whole))
            if times.updates:
                found[name] += _more_training(times, params[TRAINING[name]], images)
    return found


def _line(times: Times, again: Times, images: Images, workers: int) -> float:
    """Fixed seconds, and seconds for every image, which workers divide, from the times on two samples."""
    whole, sample, few = (sum(counts.values()) for counts in (images.whole, images.sample, images.few))
    each = max(0.0, times.processor - again.processor) / max(sample - few, 1)
    return max(0.0, times.processor - each * sample) + each * whole / workers


def _more_of_parts(times: Times, params: Mapping[str, Any], images: Images) -> float:
    """Seconds that the parts of a stage take more than on the sample; parts that are not listed do not grow."""
    grown = {split: images.whole[split] / images.sample[split] for split in paths.SPLITS}
    most = params["evaluate"].remembered  # the part that grows with train images is what `evaluate` remembers
    grown["train"] = min(images.whole["train"], most) / min(images.sample["train"], most)
    grown["pictures"] = max(1.0, params["evaluate"].pictures / ATTENTION)
    return sum(seconds * (grown.get(part, 1.0) - 1) for part, seconds in times.parts.items())


def _work_on_images(name: str, params: Mapping[str, Any], whole: Counts) -> tuple[int, int]:
    """How many images a stage works on, and the number of workers that share them."""
    if name == "resize":
        return sum(whole.values()), cores()
    count = whole["train"] + whole["val"]
    if name == "reinforce":
        count = (count if params["finetune"].epochs else 0) + (whole["train"] if params[name].flip else 0)
    return count, 1  # an encoder uses all cores already


def _more_images(times: Times, count: int, workers: int) -> float:
    """Seconds that work on `count` images takes more than on the sample's."""
    calls = times.images[1:] or times.images  # the first includes warm-up
    each = sum(seconds for seconds, _ in calls) / sum(number for _, number in calls)
    return each * (count - sum(number for _, number in times.images)) / workers


def _more_training(times: Times, params: Any, images: Images) -> float:
    """Seconds that updates and validations take more than on the sample."""
    count = ceil(images.whole["train"] / params.images_per_update)
    each = [min(epoch[1:] or epoch) for epoch in times.updates]  # the first includes warm-up
    longer = getattr(params, "front_epochs", 0) if len(each) > 1 else 0  # epochs with all blocks trainable
    updating = count * (longer * each[0] + (params.epochs - longer) * each[-1])
    validations = params.epochs + len(times.validations) - len(times.updates)  # one more where the start is validated
    validating = validations * min(times.validations) * images.whole["val"] / images.sample["val"]
    return updating + validating - sum(map(sum, times.updates)) - sum(times.validations)


def paths_of(stage: Mapping[str, Any], *keys: str) -> list[str]:
    """Paths under these keys of a stage in dvc.yaml."""
    entries = [entry for key in keys for entry in stage.get(key, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _disk(path: Path, out: str, images: Images) -> int:
    """Size of an output for the whole dataset, in bytes."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    found = sum(file.stat().st_size for file in files if file.exists())
    grown = sum(images.whole.values()) / sum(images.sample.values())
    return round(found * grown) if out.startswith(STORES) else found
