"""`showtell encoders`: lists the networks of torchvision and timm, their size and what they need."""

import argparse
import fnmatch
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.initialisation import shapes_only
from showtell.core.params import validate
from showtell.core.terminal import one_line
from showtell.core.yaml_files import read_sections
from showtell.encoders import timm_names, weights
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder

PICTURES = 16  # images per batch when the time is measured
USUAL = 224  # image size in pixels where there is no params.yaml
HEAD = ("encoder.name", "parameters", "map", "bytes an image", "ms an image", "licence of the weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", help="part of a name, or with * and ?: dinov2, 'timm/convnext*'")
    parser.add_argument("--size", type=int, help="pixels; without it resize.size of params.yaml")
    parser.add_argument("--time", action="store_true", help="measure the milliseconds that an image takes here")


def run(args: argparse.Namespace) -> int:
    """Without a pattern names only, since figures of 1,400 networks take minutes; exit status 0."""
    if args.size is not None and args.size < 1:
        raise UserError(f"--size {args.size}: must be 1 or more")
    names = _matching(args.pattern)
    if not args.pattern:
        print("\n".join(names))
        print(f"{len(names):,} networks; `showtell encoders PATTERN` says what they take", file=sys.stderr)
        return 0
    if not names:
        raise UserError(f"no network of torchvision or timm has {args.pattern!r} in its name")
    size = args.size or _own_size()
    print(f"at {size} pixels, features of the last map as float16", file=sys.stderr)
    width = max(map(len, (*names, HEAD[0])))
    for row in chain([HEAD], _rows(names, size, args.time)):  # each as soon as it is known
        print(_line(row, width), flush=True)
    return 0


def _matching(pattern: str | None) -> list[str]:
    names = weights.networks()
    try:
        names = [*names, *timm_names.networks()]
    except UserError as error:
        print(error, file=sys.stderr)
    pattern = pattern or "*"
    return [name for name in names if fnmatch.fnmatch(name, pattern if "*" in pattern else f"*{pattern}*")]


def _own_size() -> int:
    path = Path(paths.PARAMS)
    return validate("resize", read_sections(path), path).size if path.exists() else USUAL


def _line(row: Sequence[str], width: int) -> str:
    if len(row) == 2:  # a name, and the reason why it has no figures
        return f"{row[0]:<{width}}  {row[1]}"
    name, parameters, grid, size, milliseconds, terms = row
    return f"{name:<{width}}  {parameters:>10}  {grid:>14}  {size:>14}  {milliseconds:>11}  {terms}".rstrip()


def _rows(names: Sequence[str], size: int, timed: bool) -> Iterator[Sequence[str]]:
    for name in names:
        try:
            encoder = _encoder(name, size, real=timed)
        except UserError as error:
            yield name, str(error).removeprefix(f"{name} ")
            continue
        except Exception as error:  # one of 1,400 networks does not keep the others from the list
            yield name, f"cannot be built: {one_line(str(error) or type(error).__name__, 100)}"
            continue
        parameters = sum(p.numel() for p in encoder.backbone.network.parameters())
        grid = f"{encoder.cells} x {encoder.channels}"
        taken = f"{_milliseconds(encoder, size):.1f}" if timed else "-"
        terms = timm_names.licence(name) if name.startswith(timm_names.PREFIX) else ""
        yield name, f"{parameters / 1e6:.1f} M", grid, f"{2 * encoder.cells * encoder.channels:,}", taken, terms or "-"


def _encoder(name: str, size: int, real: bool) -> Encoder:
    """The encoder with random weights; on the meta device unless `real`, where the network can be built there."""
    statistics = ImageStatistics()
    config: dict[str, Any] = {"name": name, "output": "grid", "node": None, "size": size}
    config |= {"mean": statistics.mean, "std": statistics.std}
    if not real:
        try:
            with shapes_only():
                return Encoder(config)
        except Exception:  # some networks read values of tensors while they are built
            pass
    return Encoder(config)


def _milliseconds(encoder: Encoder, size: int) -> float:
    """Milliseconds per image, the minimum of two batches after a warm-up, with `encoder.precision: auto`."""
    frozen, images = FrozenEncoder(encoder, "auto"), torch.zeros(PICTURES, 3, size, size, dtype=torch.uint8)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        frozen(images).sum().item()  # synchronises with the device
        taken.append(time.perf_counter() - started)
    return 1000 * min(taken[1:]) / PICTURES
