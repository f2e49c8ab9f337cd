"""Bundles with one change in a JSON file or a weights header: a caption, or one line and status 1."""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import tiny_captioner

from showtell.commands import cli
from showtell.encoders.detection import WordDetector, Words
from showtell.generation.bundle import save_model, serve_model
from showtell.generation.confidence import Calibration, Confidence
from showtell.generation.neighbours import Neighbours
from showtell.generation.search_params import PLAIN

TRIED = 10  # mutations of each file
VALUES = (
    None, True, 0, -1, 1, 2.5, 1e308, 10**30, 2**63, float("nan"), float("-inf"), "", "x" * 5000, "\x1b[2J\n", "..",
    "é", [], {}, [1], ["a", None], {"a": 1}, [[[]]],
)  # fmt: skip
FILES = (
    "config.json", "vocab.json", "confidence.json", "model.safetensors", "neighbours.safetensors",
    "others/1/config.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A bundle with all its parts: a detector, an ensemble, a calibration, training images."""
    folder = tmp_path_factory.mktemp("mutated")
    model = tiny_captioner(node="layer1").model
    detector = WordDetector(model.encoder, Words(torch.tensor([4, 5]), torch.zeros(16)))
    save_model(replace(model, detector=detector), folder / "one", {})
    save_model(model, folder / "two", {})
    calibration = Calibration(power=1.0, places=[-3.0, -1.0], chances=[0.2, 0.8], captions=10, lowest=-4.0)
    confidence = Confidence(median_cider=1.0, good=calibration, true=calibration)
    search, features = PLAIN.override(max_length=6, consensus=1.0), torch.randn(3, model.encoder.channels).numpy()
    neighbours = Neighbours.of(features, np.array([1, 1, 1]), np.array([2, 1, 2]), np.array([4, 2, 2, 5, 2]))
    serve_model(folder / "one", folder / "bundle", search, {"cider": 0.5}, [folder / "two"], confidence, neighbours)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "p.png")
    return folder


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value in a tree of dicts and lists."""
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(value, (*path, key))


def mutated(tree: Any, random: random.Random) -> Any:
    """`tree` with one value replaced, removed, repeated or renamed."""
    tree = json.loads(json.dumps(tree))
    *above, last = random.choice(list(places(tree))[1:])
    owner = tree
    for key in above:
        owner = owner[key]
    way = random.randrange(6)
    if way == 0:
        del owner[last]
    elif way == 1 and isinstance(owner, dict):
        owner[f"{last}x"] = owner.pop(last)
    elif way == 2 and isinstance(owner, list):
        owner.insert(last, owner[last])
    elif way == 3 and type(owner[last]) in (int, float):
        owner[last] *= random.choice((-1, 2, 1.5, 10**9))
    else:
        owner[last] = random.choice(VALUES)
    return tree


def damaged(content: bytes, random: random.Random) -> bytes:
    """`content` cut off, or with one byte changed."""
    place = random.randrange(len(content))
    if random.random() < 0.3:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def json_mutation(content: bytes, random: random.Random) -> bytes:
    if random.random() < 0.2:
        return damaged(content, random)
    return json.dumps(mutated(json.loads(content), random)).encode()


def header_mutation(content: bytes, random: random.Random) -> bytes:
    """A safetensors file with another header: its length (8 bytes), then JSON."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end]
    way = random.random()
    if way < 0.1:
        return random.randrange(1 << random.randrange(1, 64)).to_bytes(8, "little") + content[8:]
    if way < 0.2:
        return content[: random.randrange(len(content))]
    changed = json_mutation(header, random)
    return len(changed).to_bytes(8, "little") + changed + content[end:]


@pytest.mark.parametrize("name", FILES)
def test_one_change_gives_a_caption_or_one_line(good, name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good / "bundle", "bundle")
    shutil.copy(good / "p.png", "p.png")
    file, whole = Path("bundle", name), (good / "bundle" / name).read_bytes()
    change: Callable = json_mutation if file.suffix == ".json" else header_mutation
    said = [status_and_output(capfd)]
    assert re.fullmatch(r"0 p\.png: .+\n", said[0])
    for number in range(TRIED):
        file.unlink()
        file.write_bytes(change(whole, random.Random(number)))
        said.append(status_and_output(capfd))
        assert re.fullmatch(r"(0 p\.png: [^\n]+|1 error: [^\n]{1,500})\n", said[-1]), (number, said[-1])
        assert said[-1][:-1].isprintable()
    assert sum(line.startswith("1") for line in said) > TRIED / 4


def status_and_output(capfd) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["caption", "p.png", "--model", "bundle"])
    out, err = capfd.readouterr()
    return f"{ended.value.code} {out}{err}"
