"""One row of docs/systems.md: all stages in a clone, and the results of the run."""

import hashlib
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from systems_rows import PASSES, ROOT, SCENES, Params, Pictures, Row, settings
from torch import nn
from word_vectors import make_vectors

from showtell.commands import recipe
from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import fingerprint, read_json, sha256, write_bytes, write_json, write_text
from showtell.core.progress import log
from showtell.core.tensor_files import tensors_hash
from showtell.core.yaml_files import read_sections
from showtell.encoders.features import load_encoder
from showtell.encoders.weights import bare_network
from showtell.generation.bundle import load_model

STAGES = (
    "check", "source", "download", "vocab", "resize", "encoder", "features",
    "train", "finetune", "reinforce", "evaluate",
)  # fmt: skip
VECTOR_SCENES = 40_000  # scenes whose captions the word vectors are trained on
EPOCH = re.compile(r"^epoch +\d+/\d+ .* ([\d.]+) s(?:  best)?$", re.MULTILINE)


class RunFailed(Exception):
    """A stage of a row failed; the message is one line."""


@dataclass
class Plan:
    """Settings of the runs of all rows."""

    base: Path  # clones, logs and results
    commit: str
    jobs: int
    quick: bool
    encoder: str = "none"  # `encoder.weights` of all rows
    pictures: Pictures = SCENES
    locks: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    @property
    def threads(self) -> int:
        return max(1, len(os.sched_getaffinity(0)) // self.jobs)


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

    Returns the path relative to the clones. Its name has the hash of the weights, since DVC compares names only.
    """
    learnt = ROOT / paths.ENCODER
    if not quick and not learnt.exists():
        raise UserError(f"{learnt} does not exist: systems share the encoder the pipeline learns; `make repro`")
    name = read_sections(ROOT / "recipes" / "small.yaml")["encoder"]["name"]
    torch.manual_seed(0)
    state = bare_network(name).state_dict()  # layers after the encoder's node stay random, and are not used
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
        # `encoder.name` is in the section `encoder`; `check` has no section, but the whole file.
        sections |= {key.partition(".")[0] for key in declared[stage].get("params", []) if isinstance(key, str)}
        # Rows with a stage in common run it in turn: the second uses the cache.
        with plan.locks[fingerprint(stage, {section: params[section] for section in sorted(sections)})]:
            said = repro(stage, folder, plan)
        if stage in PASSES:
            keep_seconds(plan, folder, stage, [float(number) for number in EPOCH.findall(said)])
    found = result(row, plan, folder, params)
    write_json(plan.base / f"{row.name}.json", found)
    log(f"{row.name}: CIDEr-D {100 * found['test']['cider']:.1f}, {time.monotonic() - started:.0f} s")
    return found


def repro(stage: str, folder: Path, plan: Plan) -> str:
    """Bring one stage up to date and return its output; `RunFailed` with its last line if it fails."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(plan.threads),
        "SHOWTELL_PROCESSES": "1",  # systems run in parallel instead
        "PYTHONPATH": str(folder / "src"),  # the clone's code, not the installed one
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
    """Named by the curve, not by the row: a cached stage prints nothing, but has the same curve."""
    return plan.base / "seconds" / f"{sha256(folder / 'metrics' / f'{stage}.tsv')[:16]}.json"


def keep_seconds(plan: Plan, folder: Path, stage: str, seconds: list[float]) -> None:
    """Save the seconds of each epoch, if the stage has just run."""
    if seconds:
        noted = {"seconds": seconds, "threads": plan.threads, "jobs": plan.jobs}
        write_json(seconds_file(plan, folder, stage), noted)


def result(row: Row, plan: Plan, folder: Path, params: Params) -> Params:
    """The table's values of a finished run, and its metrics."""
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
        "encoder": tensors_hash(frozen.encoder.state_dict())[:16] if params["train"]["epochs"] else None,
        "decoder": decoder,
        "learning": learning,
        **stages,
        "test": read_json(metrics / "evaluate.json"),
        "intervals": read_json(metrics / "intervals.json"),
    }


def size_of(module: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def git(*arguments: str) -> str:
    """The output of git; `UserError` with its last line if it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout.strip()


def attempt(plan: Plan, row: Row) -> bool:
    """Run a row; False, and one line, if it fails."""
    try:
        perform(row, plan)
    except (RunFailed, UserError, OSError, subprocess.SubprocessError) as error:
        log(f"{row.name} failed: {error}")
        return False
    return True
