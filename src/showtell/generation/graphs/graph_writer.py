"""Writing a model's graphs: atomically, and only if they give the same captions as PyTorch."""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from showtell.core.errors import UserError
from showtell.core.files import atomic, atomic_folder, write_bytes
from showtell.core.progress import log
from showtell.generation.bundle import Bundle
from showtell.generation.captioner import Captioner
from showtell.generation.graphs.torch_programs import (
    Functions,
    PictureEncoder,
    functions_of,
    picture_programs,
    square_programs,
)
from showtell.generation.model import Model, check_detector
from showtell.generation.onnx_captioner import OnnxCaptioner, onnx_package, runtime_package
from showtell.generation.search_params import SearchParams

# Tolerance on a caption's log probability, in nats: floating-point order differs. For images of other sizes than the
# network's, resizing differs too, by one level of 255 in a few pixels.
TOLERANCE, RESIZED_TOLERANCE = 0.005, 0.1
CHECKED_SIZE = (211, 150)  # height and width of the second test image


def exportable(bundle: Bundle, **settings: Any) -> SearchParams:
    """The bundle's search settings with `settings` replaced; `UserError` for settings that cannot be exported."""
    if settings.get("precision", "fp32") != "fp32":
        raise UserError(f"precision = {settings['precision']}: exported graphs compute in fp32")
    of_images = ["consensus", "neighbour_ngrams", "neighbour_bonus"]  # settings that need training images
    for key in of_images:
        if settings.get(key):
            raise UserError(f"{key}: exported graphs hold no training images")
    if bundle.model.detector is None:
        of_images.append("detection_weight")
    search = bundle.search.override(**{**settings, "precision": "fp32", **dict.fromkeys(of_images, 0.0)})
    dropped = [key for key in of_images if getattr(bundle.search, key) and key not in settings]
    if dropped and bundle.neighbours is not None:
        flags = " ".join(f"--{key.replace('_', '-')} 0" for key in dropped)
        log(f"the graph holds no training images: its captions are those of `showtell caption {flags}`")
    if settings.get("detection_weight"):
        check_detector([bundle.model], settings["detection_weight"])
    if bundle.others:
        raise UserError(f"{len(bundle.others) + 1} models of an ensemble cannot be exported: export one of them")
    if search.method not in ("beam", "greedy"):
        raise UserError(f"search.method {search.method} cannot be exported: choose --method beam or greedy")
    return search


def export_whole(model: Model, search: SearchParams, out: Path) -> int:
    """Write one graph from pixels to the caption; returns its size in bytes."""
    onnx_package()
    from showtell.generation.graphs import onnx_files as files

    functions = functions_of(model, search)
    about = files.metadata(model, search, version("showtell"))
    content = files.serialised(files.whole_file(square_programs(functions), functions, model, search, about))
    with atomic(out) as temporary:
        temporary.write_bytes(content)
        if _can_run():
            _check_whole(Captioner(replace(model, precision="fp32"), search), OnnxCaptioner(temporary))
    return len(content)


def export_parts(model: Model, search: SearchParams, out: Path) -> int:
    """Write the folder `out` with `encoder.onnx` and `step.onnx`; returns their size in bytes."""
    onnx_package()
    from showtell.generation.graphs import onnx_files as files

    functions = functions_of(model, search)
    programs, names = square_programs(functions), functions.names
    about = files.metadata(model, search, version("showtell"))
    encoder = files.serialised(files.encoder_file(programs.encoder, names, model, about))
    step = files.serialised(files.step_file(programs.step, names, about))
    with atomic_folder(out) as folder:
        for name, content in (("encoder", encoder), ("step", step)):
            write_bytes(folder / f"{name}.onnx", content)
        if _can_run():
            _check_parts(functions, model, *(_runner(folder / f"{name}.onnx") for name in ("encoder", "step")))
    return len(encoder) + len(step)


def export_torch(model: Model, search: SearchParams, out: Path) -> int:
    """Write the folder `out` with `encoder.pt2` and `step.pt2`, of `torch.export`; returns their size in bytes."""
    functions = functions_of(model, search)
    programs = picture_programs(functions, model.transform)
    total = 0
    with atomic_folder(out) as folder:
        for name, program in zip(programs._fields, programs, strict=True):
            content = _saved(program)
            write_bytes(folder / f"{name}.pt2", content)
            total += len(content)
        _check_parts(functions, model, *(_loaded(folder / f"{name}.pt2") for name in programs._fields))
    return total


def _can_run() -> bool:
    try:
        runtime_package()
    except UserError as error:
        log(f"not checked against PyTorch: {error}")
        return False
    return True


def _pictures(size: int) -> list[np.ndarray]:
    """Test images of smooth shapes and noise, uint8 (height, width, 3): of the network's size, and of another."""
    rng = np.random.default_rng(0)
    pictures = []
    for height, width in ((size, size), CHECKED_SIZE):
        rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
        waves = [np.sin(6 * rows * (n + 1) + 4 * columns) for n in range(3)]
        noisy = 128 + 70 * np.stack(waves, axis=2) + rng.normal(0, 20, (height, width, 3))
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return pictures


def _check_whole(captioner: Captioner, graph: OnnxCaptioner) -> None:
    """`UserError` when the graph gives another caption; of two equally likely captions either is accepted."""
    own, resized = _pictures(captioner.model.transform.size)
    # a longer search may differ after a rounding of one level of 255
    few = {"beam": 1, "max_length": captioner.search.min_length}
    for picture, tolerance, settings in ((own, TOLERANCE, {}), (resized, RESIZED_TOLERANCE, few)):
        ours = captioner.caption([picture], attention=False, **settings)[0]
        theirs = graph.caption(picture, **settings)
        difference = abs(ours.score - theirs.score)
        if not difference <= tolerance * max(1.0, abs(ours.score)):
            raise _differs(f"it says {theirs.text!r} ({theirs.score:.4f}), not {ours.text!r} ({ours.score:.4f})")


Run = Callable[..., list[np.ndarray]]


def _check_parts(functions: Functions, model: Model, encoder: Run, step: Run) -> None:
    """`UserError` when encoder or step compute other numbers, for an image of the network's size."""
    picture = _pictures(model.transform.size)[0]
    with torch.no_grad():
        expected = PictureEncoder(functions.encoder, model.transform)(torch.from_numpy(picture))
        found = encoder(picture)
        _close("encoder", expected, found)
        tokens, parents, *_ = functions.step_inputs
        first = tokens[:, :1], torch.zeros_like(parents[:, :1])
        for given in (first, (tokens, torch.zeros_like(parents))):  # the first step, and a step with reordered beams
            expected_step = functions.step(*given, *expected)
            found_step = step(*(x.numpy() for x in given), *found)
            _close("step", expected_step, found_step)
            fixed = len(functions.names.fixed)
            expected = (*expected[:fixed], *expected_step[1:])
            found = [*found[:fixed], *found_step[1:]]


def _close(name: str, expected: tuple[torch.Tensor, ...], found: list[np.ndarray]) -> None:
    for ours, theirs in zip(expected, found, strict=True):
        wanted = ours.numpy()
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
        if wanted.shape != theirs.shape or not np.allclose(theirs, wanted, rtol=0, atol=TOLERANCE * float(size)):
            raise _differs(f"its {name} computes other numbers")


def _differs(how: str) -> UserError:
    return UserError(f"the exported graph differs from the model: {how}; nothing was written")


def _runner(path: Path) -> Run:
    session = runtime_package().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *tensors: session.run(None, dict(zip(names, tensors, strict=True)))


def _saved(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _loaded(path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()
    return lambda *tensors: [x.detach().numpy() for x in module(*(torch.from_numpy(x) for x in tensors))]
