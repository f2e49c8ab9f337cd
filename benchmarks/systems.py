"""Every published system under one protocol: runs them and rewrites a table of docs/systems.md.

    python benchmarks/systems.py [--only NAME ...] [--jobs 2] [--quick]
    python benchmarks/systems.py --photographs IMAGES CAPTIONS --encoder NAME WEIGHTS --trainable-from BLOCK

Each row of ROWS is a run of all stages in a clone of HEAD under work/systems/. On `scenes` the encoder is the one that
this checkout's stage `encoder` has learnt, so run `make repro` first; on photographs it is the one that is named, with
weights from a file. The clones share one DVC cache, so what rows have in common (pictures, words, features) is made
once, and what was run before is not run again. A row that fails is told in a line, its log has the rest, and the others
go on.
"""

import argparse
import hashlib
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from systems_table import PAGE, rewritten, table
from torch import nn
from word_vectors import make_vectors

from showtell.commands import recipe
from showtell.core import errors, paths
from showtell.core.errors import UserError
from showtell.core.files import fingerprint, read_json, sha256, write_bytes, write_json, write_text
from showtell.core.progress import log
from showtell.core.yaml_files import read_sections
from showtell.encoders.features import load_encoder
from showtell.encoders.network import state_hash
from showtell.encoders.weights import bare_network
from showtell.generation.bundle import load_model

ROOT = Path(__file__).resolve().parents[1]
STAGES = (
    "check", "source", "download", "vocab", "resize", "encoder", "features",
    "train", "finetune", "reinforce", "evaluate",
)  # fmt: skip
Params = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of the table: recipes `scenes`, `recipe` and `small`, one after the other, PASSES, and `changes`."""

    name: str
    recipe: str
    what: str = ""  # how it differs from its recipe, for the table
    changes: Params = field(default_factory=dict)
    vectors: bool = False  # begin with word vectors
    scratch: bool = False  # the encoder begins with nothing


NO_SAMPLING: Params = {"learning": {"sampling": 0.0, "sampling_start": None, "sampling_schedule": None}}

ROWS = (
    Row("show-attend-tell", "show-attend-tell"),
    Row("resnet152-lstm", "resnet152-lstm"),
    Row("vgg16-onehot-lstm", "vgg16-onehot-lstm"),
    Row("vgg16-no-sampling", "vgg16-onehot-lstm", "without scheduled sampling", NO_SAMPLING),
    # Its encoder begins with nothing, and it has no other stage to learn in.
    Row("densenet121-lstm", "densenet121-lstm", changes={"finetune": {"epochs": 5}}, scratch=True),
    Row("showtell", "showtell"),
    Row("showtell-vectors", "showtell", "with pretrained word vectors", vectors=True),
)


@dataclass(frozen=True)
class Pictures:
    """What all rows are run on: the recipes laid before and after a row's own, then `changes`; where their table is."""

    table: str  # of docs/systems.md
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    changes: Params = field(default_factory=dict)


SCENES = Pictures("scenes", before=("scenes",), after=("small",))


def photographs(images: Path, captions: Path, name: str, trainable_from: str) -> Pictures:
    """One's own pictures, 224 pixels. Words and decoding are those that `small` has for all."""
    for path in (images, captions):
        if not path.exists():
            raise UserError(f"{path} does not exist; --photographs takes a folder or archive, and a captions file")
    small = recipe.merged([str(ROOT / "recipes" / "small.yaml")])
    changes = {
        "dataset": "custom",
        "custom": {"images": str(images.resolve()), "captions": str(captions.resolve())},
        "resize": {"size": 224, "fit": "stretch"},
        "encoder": {"name": name, "node": None, "crop": None},
        "decoder": {"grid": None},
        "finetune": {"trainable_from": trainable_from},
    }
    return Pictures("photographs", changes=changes | {key: small[key] for key in ("vocab", "beam", "search")})


# Passes over the training images at most: no published system asks for fewer in either stage, so those that have the
# stage at all have the same number, and 0 stays 0.
PASSES = {"train": 3, "finetune": 1}

VECTOR_SCENES = 40_000  # scenes whose captions the word vectors are learnt from
QUICK: Params = {
    "scenes": {"train": 120, "val": 16, "test": 24, "size": 64},
    "detection": {"min_images": 5},
    "pretrain": {"epochs": 1},
}
EPOCH = re.compile(r"^epoch +\d+/\d+ .* ([\d.]+) s(?:  best)?$", re.MULTILINE)


class RunFailed(Exception):
    """A stage of a row ended badly; the message is one line."""


@dataclass
class Plan:
    """What all rows share."""

    base: Path  # clones, logs and results
    commit: str
    jobs: int
    quick: bool
    encoder: str = "none"  # file of the weights that rows begin with, as their params.yaml has it
    pictures: Pictures = SCENES
    locks: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    @property
    def threads(self) -> int:
        return max(1, len(os.sched_getaffinity(0)) // self.jobs)


def settings(row: Row, recipes: Path, quick: bool = False, pictures: Pictures = SCENES) -> Params:
    """The overlay of params.yaml that makes a row."""
    names = (*pictures.before, row.recipe, *pictures.after)
    overlay = recipe.merged([str(recipes / f"{name}.yaml") for name in names])
    for stage, most in PASSES.items():
        overlay[stage]["epochs"] = min(overlay[stage]["epochs"], most)
    changes = [pictures.changes, row.changes]
    if row.vectors:
        changes.append({"decoder": {"embeddings": f"../word-vectors-{overlay['decoder']['embedding']}.txt"}})
    if quick:
        changes += [QUICK, {stage: {"epochs": min(overlay[stage]["epochs"], 1)} for stage in PASSES}]
    for section, values in (pair for change in changes for pair in change.items()):
        overlay[section] = overlay.get(section, {}) | values if isinstance(values, dict) else values
    return overlay


def prepare(row: Row, plan: Plan, folder: Path) -> Params:
    """A clone at the commit, with the row's params.yaml; returns its content."""
    if not folder.exists():
        git("clone", "--quiet", "--no-checkout", str(ROOT), str(folder))
    git("-C", str(folder), "fetch", "--quiet", "origin", "HEAD")
    git("-C", str(folder), "checkout", "--quiet", "--force", "--detach", plan.commit)
    dvc = [sys.executable, "-m", "dvc", "cache", "dir", "--local", str(plan.base / "cache")]
    subprocess.run(dvc, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    overlay = settings(row, folder / "recipes", plan.quick, plan.pictures)
    if not row.scratch:
        overlay["encoder"]["weights"] = plan.encoder
    path = folder / "params.yaml"
    params = recipe.overlaid(read_sections(path), overlay)
    recipe.check(params)
    write_text(path, recipe.written(path.read_text(encoding="utf-8"), overlay))
    vectors = overlay["decoder"]["embeddings"]
    if vectors:
        with plan.locks[vectors]:
            if not (folder / vectors).exists():
                size = params["decoder"]["embedding"]
                make_vectors((folder / vectors).resolve(), 400 if plan.quick else VECTOR_SCENES, size)
    return params


def export_encoder(base: Path, quick: bool) -> str:
    """Write the encoder of this checkout's pipeline (a random one when `quick`) as weights of the whole network.

    Returns the path as the clones see it. Its name holds the weights' hash: DVC looks at names alone.
    """
    learnt = ROOT / paths.ENCODER
    if not quick and not learnt.exists():
        raise UserError(f"{learnt} does not exist: systems share the encoder the pipeline learns; `make repro`")
    name = read_sections(ROOT / "recipes" / "small.yaml")["encoder"]["name"]
    torch.manual_seed(0)
    state = bare_network(name).state_dict()  # what lies behind the encoder's node stays random, and unused
    if not quick:
        found = load_encoder(learnt)[0].backbone.network.state_dict()
        if unknown := [key for key in found if key not in state]:
            raise UserError(f"{learnt} is no {name} ({unknown[0]}), which recipes/small.yaml asks for")
        state |= found
    state = {key: tensor.contiguous() for key, tensor in state.items()}
    path = base / f"encoder-{hashlib.sha256(save(state)).hexdigest()[:12]}.safetensors"
    if not path.exists():
        write_bytes(path, save(state))
    return f"../{path.name}"


def perform(row: Row, plan: Plan) -> Params:
    """Run all stages of a row; returns its result, which is also in `<name>.json`."""
    folder, started = plan.base / row.name, time.monotonic()
    (plan.base / f"{row.name}.json").unlink(missing_ok=True)
    (plan.base / f"{row.name}.log").unlink(missing_ok=True)
    params = prepare(row, plan, folder)
    declared = read_sections(folder / "dvc.yaml")["stages"]
    sections: set[str] = set()
    for stage in STAGES:
        # `encoder.name` is of the section `encoder`; `check` has no section, but the whole file.
        sections |= {key.partition(".")[0] for key in declared[stage].get("params", []) if isinstance(key, str)}
        # Rows that have a stage in common take turns: the second finds in the cache what the first has made.
        with plan.locks[fingerprint(stage, {section: params[section] for section in sorted(sections)})]:
            said = repro(stage, folder, plan)
        if stage in PASSES:
            keep_seconds(plan, folder, stage, [float(number) for number in EPOCH.findall(said)])
    found = result(row, plan, folder, params)
    write_json(plan.base / f"{row.name}.json", found)
    log(f"{row.name}: CIDEr-D {100 * found['test']['cider']:.1f}, {time.monotonic() - started:.0f} s")
    return found


def repro(stage: str, folder: Path, plan: Plan) -> str:
    """Bring one stage up to date and return what it said; `RunFailed` with the line that says why it could not."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(plan.threads),
        "SHOWTELL_PROCESSES": "1",  # systems run side by side instead
        "PYTHONPATH": str(folder / "src"),  # the clone's own code, whatever is installed
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    path = plan.base / f"{folder.name}.log"
    with open(path, "ab") as file:
        before = file.tell()
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
        status = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    said = path.read_bytes()[before:].decode("utf-8", "replace")
    if status:
        lines = [line for line in said.splitlines() if line.strip() and not line.startswith("ERROR: failed to repro")]
        raise RunFailed(f"{stage}: {lines[-1] if lines else f'exit status {status}'} (more in {path})")
    return said


def seconds_file(plan: Plan, folder: Path, stage: str) -> Path:
    """Named by the curve, not by the row: a stage out of the cache says nothing, but its curve is the same."""
    return plan.base / "seconds" / f"{sha256(folder / 'metrics' / f'{stage}.tsv')[:16]}.json"


def keep_seconds(plan: Plan, folder: Path, stage: str, seconds: list[float]) -> None:
    """Write down how long each epoch took, when the stage has run just now."""
    if seconds:
        noted = {"seconds": seconds, "threads": plan.threads, "jobs": plan.jobs}
        write_json(seconds_file(plan, folder, stage), noted)


def result(row: Row, plan: Plan, folder: Path, params: Params) -> Params:
    """All that the table shows of a finished run, and the metrics it is from."""
    metrics = folder / "metrics"
    frozen, model = (load_model(folder / "data" / "models" / stage) for stage in PASSES)
    decoder = learning = size_of(model.decoder)
    if params["finetune"]["epochs"]:
        model.encoder.train_from(params["finetune"]["trainable_from"])
        learning += size_of(model.encoder)
    stages = {}
    for stage in PASSES:
        path = seconds_file(plan, folder, stage)
        noted = read_json(path) if path.exists() else {"seconds": [], "threads": None, "jobs": None}
        stages[stage] = {
            "epochs": params[stage]["epochs"],
            "best": read_json(metrics / f"{stage}.json").get("epoch"),
            "seconds": statistics.median(noted["seconds"]) if noted["seconds"] else None,
            "threads": noted["threads"],
            "jobs": noted["jobs"],
        }
    return {
        "name": row.name,
        "recipe": row.recipe,
        "what": row.what,
        "commit": plan.commit,
        "encoder": state_hash(frozen.encoder)[:16] if params["train"]["epochs"] else None,
        "decoder": decoder,
        "learning": learning,
        **stages,
        "test": read_json(metrics / "evaluate.json"),
        "intervals": read_json(metrics / "intervals.json"),
    }


def size_of(module: nn.Module) -> int:
    """Parameters that learn."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def git(*arguments: str) -> str:
    """What git says; `UserError` with its last line when it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout.strip()


def attempt(plan: Plan, row: Row) -> bool:
    """Perform a row; False, and one line, when it fails."""
    try:
        perform(row, plan)
    except (RunFailed, UserError, OSError, subprocess.SubprocessError) as error:
        log(f"{row.name} failed: {error}")
        return False
    return True


def chosen(names: Sequence[str]) -> list[Row]:
    """The rows of these names, all of them where there are none."""
    known = {row.name: row for row in ROWS}
    for name in names:
        if name not in known:
            raise UserError(f"there is no row {name!r}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these rows; the others stay as they are")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, the processor shared among them (1)")
    parser.add_argument("--quick", action="store_true", help="tiny runs, to try the script: prints, changes no page")
    parser.add_argument("--folder", type=Path, help="of clones, logs and results (work/systems, or work/systems-quick)")
    parser.add_argument(
        "--photographs", nargs=2, type=Path, metavar=("IMAGES", "CAPTIONS"), help="not scenes but these"
    )
    parser.add_argument("--encoder", nargs=2, metavar=("NAME", "WEIGHTS"), help="of the photographs; a file of weights")
    parser.add_argument(
        "--trainable-from", metavar="BLOCK", help="of that encoder: the first block that fine-tuning moves"
    )
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: must be 1 or more")
    rows = chosen(args.only)
    pictures, place = SCENES, "systems-quick" if args.quick else "systems"
    if args.photographs:
        if not args.encoder or not args.trainable_from:
            raise UserError("--photographs also takes --encoder NAME WEIGHTS and --trainable-from BLOCK")
        pictures = photographs(*args.photographs, args.encoder[0], args.trainable_from)
        place += "-photographs"
    base = (args.folder or ROOT / "work" / place).resolve()
    encoder = str(Path(args.encoder[1]).resolve()) if args.photographs else export_encoder(base, args.quick)
    plan = Plan(base, git("-C", str(ROOT), "rev-parse", "HEAD"), args.jobs, args.quick, encoder, pictures=pictures)
    if changed := git("-C", str(ROOT), "status", "--porcelain", "--", "src", "stages", "recipes", "params.yaml"):
        log(f"these runs are of HEAD, without what is not committed: {len(changed.splitlines())} files")
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(partial(attempt, plan), rows))
    files = [base / f"{row.name}.json" for row in ROWS]
    lines = table([read_json(file) for file in files if file.exists()])
    if not args.quick and any(done):
        write_text(PAGE, rewritten(PAGE.read_text(encoding="utf-8"), lines, pictures.table))
    print(lines)
    return 0 if all(done) else 1


if __name__ == "__main__":
    errors.run(main)
