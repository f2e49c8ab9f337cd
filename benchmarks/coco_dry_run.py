"""A recipe for COCO without the download: all stages on synthetic photographs in COCO's layout.

    python benchmarks/coco_dry_run.py [--recipe photographs-gpu] [--images 300] [--folder FOLDER] [--set KEY=VALUE ...]

Noise of 640 x 480 pixels in train2014.zip and val2014.zip, captions of composed scenes in caption_datasets.zip, and
a random state dict: of ResNet-101 for `show-attend-tell`, of CLIP's ViT-B/16 for `photographs-gpu` (which
needs timm). The recipes are those for the full dataset (`show-attend-tell`: 256 pixels, 14 x 14 grid, encoder
fine-tuned from its second block), except that each training takes one epoch. Prints seconds and peak memory of every
stage, checks the outputs, and estimates the time of an epoch over the full dataset.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from resize import jpeg
from torch import nn
from torchvision.models.resnet import Bottleneck
from word_vectors import undrawn_captions

from showtell.commands import recipe
from showtell.core import paths
from showtell.core.errors import UserError, run
from showtell.core.files import read_json, write_text
from showtell.core.yaml_files import parsed, read_sections
from showtell.data.datasets.coco import COCO
from showtell.data.store import RowReader
from showtell.data.words import unicode_words
from showtell.encoders.weights import bare_network
from showtell.generation.captioner import Captioner

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("source", "download", "vocab", "resize", "encoder", "features", "train", "finetune", "reinforce", "evaluate")
# Of ten images: one val, one test, two of val2014 in Karpathy's `restval` (training), six of train2014.
SPLITS = ("val", "test", "restval", "restval", *["train"] * 6)
PICTURES = 50  # different ones; the others are copies
EPOCH = re.compile(r"^epoch +1/1 .* ([\d.]+) s(?:  best)?$", re.MULTILINE)


class Recipe(NamedTuple):
    """Expected values of a recipe: weights file, cells and channels of the features, cells of the attention."""

    weights: str
    features: tuple[int, int]
    cells: int


RECIPES = {
    "show-attend-tell": Recipe("resnet101.pth", (64, 2048), 14 * 14),
    "photographs-gpu": Recipe("vit_base_patch16_clip_quickgelu_224.pth", (14 * 14, 768), 14 * 14),
}


class Stage(NamedTuple):
    name: str
    seconds: float
    megabytes: float  # peak resident memory of its process; 0 where unknown
    epoch: float | None  # seconds of its training epoch


def make_source(folder: Path, images: int) -> None:
    """train2014.zip, val2014.zip and caption_datasets.zip in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [jpeg(number, 640, 480) for number in range(min(images, PICTURES))]
    entries = []
    with zipfile.ZipFile(folder / "train2014.zip", "w") as train, zipfile.ZipFile(folder / "val2014.zip", "w") as val:
        for number, said in enumerate(undrawn_captions(3, images)):
            split, cocoid = SPLITS[number % len(SPLITS)], 9 + 13 * number
            place, archive = ("train2014", train) if split == "train" else ("val2014", val)
            name = f"COCO_{place}_{cocoid:012d}.jpg"
            archive.writestr(f"{place}/{name}", pictures[number % len(pictures)])
            entries.append(_entry(number, split, place, name, cocoid, said))
    with zipfile.ZipFile(folder / "caption_datasets.zip", "w") as archive:
        archive.writestr("dataset_coco.json", json.dumps({"images": entries, "dataset": "coco"}))


def _entry(number: int, split: str, place: str, name: str, cocoid: int, said: list[str]) -> dict[str, Any]:
    """An image in Karpathy's file for COCO."""
    sentids = [len(said) * number + position for position in range(len(said))]
    sentences = [
        {"tokens": unicode_words(caption), "raw": caption, "imgid": number, "sentid": sentid}
        for caption, sentid in zip(said, sentids, strict=True)
    ]
    return {"filepath": place, "sentids": sentids, "filename": name, "imgid": number, "split": split,
            "sentences": sentences, "cocoid": cocoid}  # fmt: skip


def make_weights(path: Path) -> None:
    """A random state dict of the network named by the file. The residual branches of a ResNet-101 are scaled down,
    since activations would exceed the range of float16 without trained batch norm statistics."""
    torch.manual_seed(0)
    if path.stem == "resnet101":
        network = bare_network(path.stem)
        for module in network.modules():
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, 0.2)
    else:
        import timm

        network = timm.create_model(path.stem, pretrained=False)
    torch.save(network.state_dict(), path)


def write_params(folder: Path, changes: dict[str, Any], name: str = "show-attend-tell") -> None:
    """`showtell recipe coco NAME --write`, and the changes of the dry run."""
    overlay = recipe.merged([str(ROOT / "recipes" / f"{part}.yaml") for part in ("coco", name)])
    dry = {
        "download": {"source": str(folder / "source"), "incomplete": "accept"},
        "encoder": {"weights": str(folder / RECIPES[name].weights)},
        "train": {"epochs": 1},
        "finetune": {"epochs": 1},
    }
    for layer in (dry, recipe.unflat(changes)):
        overlay = recipe.laid_over(overlay, layer)
    recipe.check(recipe.overlaid(read_sections(ROOT / "params.yaml"), overlay))
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    write_text(folder / "params.yaml", recipe.written(text, overlay))


def run_stage(name: str, folder: Path) -> Stage:
    """Run a stage as DVC does, in `folder`; `UserError` with its last line if it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "SHOWTELL_PROCESSES": "1"}
    command = [sys.executable, str(ROOT / "stages" / f"{name}.py")]
    started, kilobytes = time.perf_counter(), 0
    with open(folder / f"{name}.log", "w+b") as log:
        stage = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        while stage.poll() is None:
            kilobytes = max(kilobytes, peak(stage.pid))
            time.sleep(0.05)
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
    if stage.returncode:
        raise UserError(f"{name}: {(said.strip().splitlines() or ['no word'])[-1]}")
    epoch = EPOCH.search(said)
    return Stage(name, time.perf_counter() - started, kilobytes / 1024, float(epoch[1]) if epoch else None)


def peak(pid: int) -> int:
    """Peak memory of a process so far, kB. (The value from `wait` would include its parent's.)"""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def check(folder: Path, known: Recipe) -> list[str]:
    """The generated captions; `UserError` unless the outputs of the stages contain every image."""
    grids = {split: RowReader(folder / paths.split_features(split), "grid") for split in ("train", "val")}
    for split, grid in grids.items():
        ids = [str(entry["image_id"]) for entry in read_json(folder / paths.split_json(split))]
        if grid.ids != ids or grid.shape[1:] != known.features:
            raise UserError(f"{split}: features of {len(grid)} images, {grid.shape[1:]} each, for {len(ids)} images")
    found = read_json(folder / paths.HYPOTHESES)
    asked = [str(entry["image_id"]) for entry in read_json(folder / paths.split_json("test"))]
    if [str(one["image_id"]) for one in found] != asked:
        raise UserError(f"{len(found)} captions for {len(asked)} test images")
    best = Captioner.load(folder / paths.MODEL).caption([jpeg(1, 640, 480)], attention=True)[0]
    if best.attention is None or best.attention.shape[1] != known.cells:
        raise UserError(f"attention is not over {known.cells} cells")
    return [one["caption"] for one in found]


def dry_run(
    folder: Path, images: int, changes: dict[str, Any] | None = None, name: str = "show-attend-tell"
) -> list[str]:
    """All stages in `folder`; returns the captions of the test images."""
    known = RECIPES[name]
    make_source(folder / "source", images)
    make_weights(folder / known.weights)
    write_params(folder, changes or {}, name)
    stages = []
    for stage_name in STAGES:
        stages.append(run_stage(stage_name, folder))
        print(f"{stage_name:9} {stages[-1].seconds:7.1f} s {stages[-1].megabytes:7,.0f} MB", flush=True)
    captions = check(folder, known)
    trained = read_json(folder / paths.METRICS / "data.json")["train_images"]
    print(f"{images} images, {len(captions)} captions of test images, such as: {captions[0]!r}")
    for stage in stages:
        if stage.epoch is not None:
            hours = stage.epoch * COCO.counts["train"] / trained / 3600
            print(f"{stage.name}: {trained} images {stage.epoch:.1f} s an epoch; COCO's at this rate {hours:.1f} h")
    return captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", choices=RECIPES, default="show-attend-tell")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="to work in, and to keep; else a temporary one")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other parameters")
    args = parser.parse_args()
    if args.images < 2 * len(SPLITS):
        raise UserError(f"--images {args.images}: must be {2 * len(SPLITS)} or more, for two of each split")
    pairs = (setting.partition("=") for setting in args.set)
    changes = {key: parsed(f"value: {value}", "--set")["value"] for key, _, value in pairs}
    with tempfile.TemporaryDirectory() as name:
        folder = (args.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        dry_run(folder, args.images, changes, args.recipe)


if __name__ == "__main__":
    run(main)
