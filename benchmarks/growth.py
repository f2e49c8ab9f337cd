"""Growth of the stages' memory, and of their time per image, with the dataset.

    python benchmarks/growth.py [--images 1000 4000 16000 64000] [--until train]

Makes a custom dataset of small pictures with five captions each and runs the stage scripts on it, each in its own
process: vocab, resize, features, train (one epoch) and evaluate. All images are in train; for evaluate they are
in test instead. Memory is the peak, sampled, of what a stage's processes hold themselves; pages of mapped files are not
counted, since they belong to the page cache, which the system takes back when it needs memory. The time per image is
the difference to a run on `BASE` images, divided by the difference in images; starting Python and importing do not
count. The largest dataset comes first, and evaluate uses the model trained on it for all sizes: models trained on fewer
images generate shorter captions, which takes less time.

For evaluate only the growth with test images is measured. Its report also searches the training caption nearest
to each generated one, which takes longer for more training captions: that search is timed separately.

Writes docs/growth.tsv and docs/growth.png and prints a table. Nothing is asserted. Linux only (/proc).
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
from growth_figures import CAPTIONS, STAGES, Run, plot, table, write
from PIL import Image

from showtell.core.yaml_files import set_values
from showtell.data.datasets import karpathy
from showtell.data.datasets.karpathy import Record
from showtell.evaluation.report.nearest import TrainingCaptions

ROOT = Path(__file__).resolve().parents[1]
BASE = 250  # images of the run whose time is subtracted
FEW = 100  # images of val, and of test until evaluate
SHORT, REPEATS = 10.0, 3  # shorter runs (seconds) are repeated, and the fastest counts
LONGEST = 16  # words of a caption
WORDS = np.array(["".join(letters) for letters in product("bdgklmnprst", "aeiou", "bdgklmnprst", ("", "e", "o"))])
OFTEN = 1 / np.arange(10, len(WORDS) + 10)
SEARCHED = 100  # captions whose nearest training caption is searched
INTERVAL = 0.1  # seconds between two measurements of memory
CHILD = """
import importlib.util, pathlib, sys, time
from showtell.core import errors
from showtell.core.params import load_all
spec = importlib.util.spec_from_file_location("stage", sys.argv[1])
stage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stage)
load_all()
started = time.perf_counter()
try:
    errors.run(lambda: stage.main() and None)
finally:
    pathlib.Path("measured").write_text(str(time.perf_counter() - started))
"""
# Everything that does not grow with the dataset is small, so that growth is visible.
PARAMS = {
    "dataset": "custom",
    "reinforce.truth": 0.0,  # objects in the pictures are unknown
    "learning.precision": "fp32",  # in bf16 oneDNN stores a compiled product for each shape, which hides the captions
    "resize.size": 64,
    "encoder.name": "mobilenet_v3_small",
    "encoder.weights": "none",
    "encoder.node": "features.8",
    "pretrain.enabled": False,
    "decoder.embedding": 32,
    "decoder.hidden": 32,
    "decoder.attention": 32,
    "train.epochs": 1,
    "train.captions_per_update": None,
    "beam": 2,
    "search.max_length": LONGEST + 1,
    "evaluate.pictures": 2,
}


def make(folder: Path, count: int) -> None:
    """A project folder: photos.zip, captions.json and params.yaml for `count` train images, and few of val and test."""
    rng = np.random.default_rng(0)
    splits = ["train"] * count + ["val"] * FEW + ["test"] * FEW
    pictures = [jpeg(rng) for _ in range(53)]  # a prime; pictures repeat after so many
    records = []
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for number, split in enumerate(splits):
            file = f"photos/picture_{number:012d}.jpg"
            # Bytes after the end of a JPEG are not read, but make every file different.
            archive.writestr(file, pictures[number % len(pictures)] + number.to_bytes(4, "big"))
            said = captions(rng, CAPTIONS)
            records.append(Record(number, file, split, [" ".join(s).capitalize() + "." for s in said], said))
    karpathy.write(folder / "captions.json", "custom", records)
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    own = {"custom.images": str(folder / "photos.zip"), "custom.captions": str(folder / "captions.json")}
    set_values(folder / "params.yaml", PARAMS | own)


def captions(rng: np.random.Generator, count: int) -> list[list[str]]:
    """Random captions of 9 to `LONGEST` words; as in language, a few words are frequent."""
    lengths = rng.integers(9, LONGEST + 1, count)
    drawn = WORDS[rng.choice(len(WORDS), lengths.sum(), p=OFTEN / OFTEN.sum())]
    return [part.tolist() for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def jpeg(rng: np.random.Generator) -> bytes:
    """A small picture of soft patches."""
    buffer = io.BytesIO()
    soft = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((80, 60))
    soft.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def turn_train_into_test(folder: Path, model: Path) -> None:
    """Swap the splits for evaluate: all images in test, val's in train; `model` is the trained and the last model."""
    for source, target in (("train", "test"), ("val", "train")):
        for kind in ("json", "h5"):
            shutil.copyfile(folder / f"data/captions/{source}.{kind}", folder / f"data/captions/{target}.{kind}")
    os.replace(folder / "data/images/train.h5", folder / "data/images/test.h5")
    shutil.copyfile(folder / "data/images/val.h5", folder / "data/images/train.h5")
    shutil.rmtree(folder / "data/models/train")
    for stage in ("train", "reinforce"):
        shutil.copytree(model, folder / "data/models" / stage)
    for stage in ("finetune", "reinforce"):
        shutil.copyfile(folder / "metrics/train.tsv", folder / f"metrics/{stage}.tsv")


def run(stage: str, folder: Path) -> tuple[float, float]:
    """Seconds (once everything is imported) and peak megabytes of a stage."""
    command = [sys.executable, "-c", CHILD, str(ROOT / "stages" / f"{stage}.py")]
    environment = os.environ | {
        "PATH": str(Path(sys.executable).parent),  # no Java: METEOR is not measured
        "SHOWTELL_PROCESSES": "1",  # each process would hold the captions
    }
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        memory = Memory(child.pid)
        _, said = child.communicate()
    if child.returncode:
        sys.exit(f"{stage} failed: {said.strip().splitlines()[-1]}")
    return float((folder / "measured").read_text()), memory.most() * 1024 / 1e6


class Memory(threading.Thread):
    """Samples what a process and its children hold themselves, not pages of files; shared memory counts once."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.greatest, self.over = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(INTERVAL):
            children = _children(self.pid)
            # Alone nothing is shared, and `status` is read 100 times as fast as `smaps_rollup`.
            held = sum(map(_share, [self.pid, *children])) if children else _kilobytes(self.pid, "status", "Rss")
            self.greatest = max(self.greatest, held)

    def most(self) -> int:
        """Peak in kilobytes."""
        self.over.set()
        self.join()
        return self.greatest


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for path in Path(f"/proc/{pid}/task").iterdir()
            for child in (path / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return []


def _share(pid: int) -> int:
    """A process's part of what it shares, and all that is its own."""
    return _kilobytes(pid, "smaps_rollup", "Pss_")


def _kilobytes(pid: int, file: str, measure: str) -> int:
    """Anonymous and shared memory in a file of /proc; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith((f"{measure}Anon:", f"{measure}Shmem:")))


def measured(count: int, model: Path, until: str) -> list[Run]:
    """Every stage up to `until` on `count` images; evaluate uses `model`, which is trained on these if it does not
    exist."""
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, count)
        run("source", folder)
        run("download", folder)
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage == "evaluate":
                if not model.exists():
                    shutil.copytree(folder / "data/models/train", model)
                turn_train_into_test(folder, model)
            if stage == "features":
                run("encoder", folder)  # fast, with a random encoder
            found = [run(stage, folder)]
            while found[0][0] < SHORT and len(found) < REPEATS:
                found.append(run(stage, folder))
            runs.append(Run(stage, count, min(s for s, _ in found), max(m for _, m in found)))
            said = f"{stage:<9}{runs[-1].seconds:8.1f} s{runs[-1].megabytes:8.0f} MB"
            print(f"{count:>7,} images  {said}", file=sys.stderr, flush=True)
    return runs


def searching(count: int) -> float:
    """Milliseconds of a search of the nearest among the captions of `count` images, for a caption unlike them."""
    rng = np.random.default_rng(0)
    known, asked = TrainingCaptions(captions(rng, CAPTIONS * count)), captions(rng, SEARCHED)
    started = time.perf_counter()
    for words in asked:
        known.nearest(words)
    return 1000 * (time.perf_counter() - started) / SEARCHED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000, 16_000, 64_000])
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage to run (evaluate)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of growth.tsv and growth.png (docs)")
    args = parser.parse_args()
    counts = sorted({BASE, *args.images})
    with tempfile.TemporaryDirectory() as name:
        by_count = {count: measured(count, Path(name) / "model", args.until) for count in reversed(counts)}
    runs = [run for count in counts for run in by_count[count]]
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "growth.tsv", runs)
    plot(args.out / "growth.png", runs)
    found = ", ".join(f"{searching(count):.1f} ms among {CAPTIONS * count:,}" for count in args.images)
    print(f"{table(runs)}\n\nFinding the training caption nearest to one that is unlike all: {found}.")


if __name__ == "__main__":
    main()
