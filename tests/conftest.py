"""Shared fixtures: one tiny pipeline, run once per session, and the stages as functions."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import yaml
from http_files import Server
from hypothesis import HealthCheck, settings

from showtell.core.params import merged
from showtell.core.yaml_files import read_sections

# Tensors are tiny: further threads and processes only add overhead.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SHOWTELL_PROCESSES", "1")

# Properties must not depend on the load of the machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).parent.parent
STAGES = (
    "check", "source", "download", "vocab", "resize", "encoder", "features", "train", "finetune", "reinforce",
    "evaluate",
)  # fmt: skip

# All stages take seconds, and every branch of the default pipeline runs.
TINY = {
    "scenes": {"seed": 1, "train": 24, "val": 6, "test": 8, "size": 64},
    "vocab": {"min_count": 1},
    "resize": {"size": 64},
    "encoder": {"weights": "none"},  # so that it learns here
    "detection": {"min_images": 2},
    "pretrain": {"epochs": 2, "front_epochs": 1, "images_per_update": 8, "warmup_updates": 0},
    "decoder": {"embedding": 8, "hidden": 8, "attention": 8, "summary": 8},
    "learning": {"warmup_updates": 0},
    "train": {"epochs": 2, "images_per_update": 8},
    "finetune": {"epochs": 1, "images_per_update": 8},
    "reinforce": {
        "epochs": 1, "images_per_update": 8, "samples": 2, "consensus": 0.5, "bleu4": 0.5, "chair": 0.5, "flip": True,
    },
    "search": {  # else it says nothing
        "min_length": 3, "max_length": 8, "consensus": 0.3, "neighbour_ngrams": 0.2, "neighbour_bonus": 0.1,
    },
    "sweep": {"beams": [1, 2], "length_penalties": [0.0]},
    "evaluate": {"pictures": 2},
    "beam": 2,
}


def overlaid(params: dict, overlay: dict) -> dict:
    """`params` with the keys of `overlay` replaced in each section."""
    merged = dict(params)
    for key, value in overlay.items():
        merged[key] = {**merged[key], **value} if isinstance(value, dict) else value
    return merged


def tiny_params(**overlay) -> dict:
    """The repository's params.yaml with TINY and `overlay`."""
    params = read_sections(ROOT / "params.yaml")
    tiny = overlaid(params, TINY)
    if overlay.get("dataset", "scenes") != "scenes":  # objects in the pictures are unknown
        tiny = overlaid(tiny, {"reinforce": {"chair": 0.0, "truth": 0.0}})
    return overlaid(tiny, overlay)


def stage_params(section: str) -> dict:
    """The section `train`, `finetune` or `reinforce` of `tiny_params`, with its keys of `learning`."""
    return merged(section, tiny_params())


def write_params(folder: Path, **overlay) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_params(**overlay)))
    return path


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def stage_module(name: str) -> ModuleType:
    """A stage's script as a module."""
    spec = importlib.util.spec_from_file_location(f"stages.{name}", ROOT / "stages" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_stage(name: str, folder: Path) -> str | None:
    """Run a stage's `main` in `folder`, in this process; returns its last message."""
    module = stage_module(name)
    # METEOR would start Java, which takes seconds; it has its own tests.
    with inside(folder), patch("showtell.metrics.protocol.run_meteor", lambda *_: "not computed: a test"):
        return module.main()


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory) -> Path:
    """A folder in which all stages have run. Tests must not change it; `copy_pipeline` copies it."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_params(folder)
    for stage in STAGES:
        run_stage(stage, folder)
    return folder


@pytest.fixture
def copy_pipeline(pipeline, tmp_path) -> Callable[..., Path]:
    """A function that copies these files and folders of the pipeline to a fresh folder, with params.yaml."""

    def copy(*names: str, folder: Path = tmp_path) -> Path:
        for name in ("params.yaml", *names):
            source, target = pipeline / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        return folder

    return copy


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """Three pictures in two folders, a broken one, and other files."""
    from test_caption_command import write_picture  # it imports this module

    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.jpg", "b.png", "deeper/c.jpg")):
        write_picture(tmp_path / "album" / name, seed=number)
    (tmp_path / "album/broken.jpg").write_bytes(b"no picture")
    (tmp_path / "album/notes.md").write_text("# notes")
    (tmp_path / "album/.hidden.jpg").write_bytes(b"")
    return tmp_path / "album"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The folder of a tiny model with random weights."""
    from tiny_model import tiny_captioner  # it imports this module

    from showtell.generation.bundle import save_model

    folder = tmp_path_factory.mktemp("model")
    save_model(tiny_captioner().model, folder, notes={})
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """A served bundle whose captions all have the confidence 0.625."""
    from tiny_model import CONFIDENCE, serve_tiny_model

    return serve_tiny_model(tmp_path_factory.mktemp("calibrated"), CONFIDENCE)


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory) -> Path:
    """The same bundle without a calibration."""
    from tiny_model import serve_tiny_model

    return serve_tiny_model(tmp_path_factory.mktemp("uncalibrated"), None)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A picture of noise."""
    import numpy as np  # it reads OMP_NUM_THREADS
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of one file, without failures until its `plan` has some."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def waits() -> list[float]:
    """Seconds of each wait, for `fetch(sleep=waits.append)`: no test waits."""
    return []


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty folder, the current directory of the test."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
