"""The measurements of growth.py as a file, a table and a plot."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

STAGES = ("vocab", "resize", "features", "train", "evaluate")
CAPTIONS = 5  # of an image
COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa3377")


class Run(NamedTuple):
    """One stage on one dataset. `seconds` without starting Python and importing; megabytes of 1,000,000 bytes."""

    stage: str
    images: int
    seconds: float
    megabytes: float


def write(path: Path, runs: Sequence[Run]) -> None:
    """A TSV with a row for each run."""
    rows = ["\t".join(Run._fields), *(f"{r.stage}\t{r.images}\t{r.seconds:.3f}\t{r.megabytes:.1f}" for r in runs)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def read(path: Path) -> list[Run]:
    """The runs in a file by `write`."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [Run(r["stage"], int(r["images"]), float(r["seconds"]), float(r["megabytes"])) for r in rows]


def of_stage(runs: Sequence[Run], stage: str) -> list[Run]:
    """A stage's runs, the smallest dataset first."""
    return sorted((run for run in runs if run.stage == stage), key=lambda run: run.images)


def milliseconds(runs: Sequence[Run], stage: str) -> dict[int, float]:
    """Time per image by size of the dataset: the difference to the smallest run, per additional image."""
    base, *others = of_stage(runs, stage)
    return {run.images: 1000 * (run.seconds - base.seconds) / (run.images - base.images) for run in others}


def bytes_a_caption(runs: Sequence[Run], stage: str) -> float:
    """Slope of the memory between the two largest datasets, per caption."""
    *_, before, last = of_stage(runs, stage)
    return 1e6 * (last.megabytes - before.megabytes) / (CAPTIONS * (last.images - before.images))


def table(runs: Sequence[Run]) -> str:
    """Markdown: a row for each stage, peak memory and time of an image for each size of the dataset that it ran on."""
    sizes = sorted(milliseconds(runs, STAGES[0]))
    heads = ["stage", *(f"{size:,} images" for size in sizes), "bytes a caption"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for stage in (stage for stage in STAGES if of_stage(runs, stage)):
        times, memory = milliseconds(runs, stage), {run.images: run.megabytes for run in of_stage(runs, stage)}
        cells = [f"{memory[size]:,.0f} MB, {times[size]:.2f} ms" if size in times else "" for size in sizes]
        lines.append(f"| `{stage}` | {' | '.join(cells)} | {bytes_a_caption(runs, stage):,.0f} |")
    return "\n".join(lines)


def plot(path: Path, runs: Sequence[Run]) -> None:
    """Two panels over the number of images: peak memory, and time of an image."""
    figure, (memory, speed) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    sizes = sorted(milliseconds(runs, STAGES[0]))
    for stage, colour in zip(STAGES, COLOURS, strict=True):
        if not of_stage(runs, stage):
            continue
        times = milliseconds(runs, stage)
        own = sorted(times)
        peaks = {run.images: run.megabytes / 1000 for run in of_stage(runs, stage)}
        for axes, values in ((memory, [peaks[size] for size in own]), (speed, [times[size] for size in own])):
            axes.plot(own, values, marker="o", markersize=4, color=colour, label=stage)
    memory.set_title("Peak memory, GB", loc="left", fontsize=11)
    speed.set_title("Time of an image, ms", loc="left", fontsize=11)
    for axes in (memory, speed):
        _over_images(axes, sizes)
    handles, labels = memory.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _over_images(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("images")
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
