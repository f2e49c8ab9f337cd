"""Weights files (safetensors): written atomically, checked before they are used. No pickle.

The metadata of a file that is written here has a CRC-32 of its tensors, compared when they are loaded: a changed byte
is an error and not another result. Files without it (older ones, and other programs') are loaded without comparison.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from showtell.core.damage import remedy
from showtell.core.errors import UserError
from showtell.core.files import atomic, check_readable
from showtell.core.terminal import one_line

SUM = "crc32"  # key of the metadata


class Header(NamedTuple):
    """Names, shapes, dtypes and metadata of a file's tensors, read without the tensors."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]  # as safetensors spells them: F32, I64, ...
    metadata: dict[str, str]


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of the names and bytes of tensors, such as a module's state dict, from any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors`, from any device; the same tensors and metadata always give the same bytes."""
    whole, seen = {}, set()
    for name, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        if copied.data_ptr() in seen:  # safetensors refuses tensors that share memory
            copied = copied.clone()
        seen.add(copied.data_ptr())
        whole[name] = copied
    with atomic(path) as temporary:
        save_file(whole, temporary, {**(metadata or {}), SUM: _sum(whole)})
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the metadata in order: the library writes it in another order each time."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))


def read_header(path: Path) -> Header:
    """The header of a file; no tensor is loaded."""
    if path.is_file():
        check_readable(path)
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            return Header(shapes, dtypes, file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a complete weights file: {one_line(error)}") from None


def _sum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the tensors' bytes, by name, as text."""
    told = 0
    for name in sorted(tensors):
        told = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, zlib.crc32(name.encode(), told))
    return f"{told:08x}"


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file; `UserError` naming the first that a network cannot use, or when they are not as they were
    written."""
    told = read_header(path).metadata.get(SUM)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} is not a complete weights file: {one_line(error)}") from None
    if reason := unusable(tensors):
        raise UserError(f"{path}: {reason}")
    if told is not None and told != _sum(tensors):
        raise UserError(
            f"{path} is damaged: its tensors are not as they were written; copy it again, or {remedy(path)}"
        )
    return tensors


def unusable(tensors: Mapping[Any, Any]) -> str:
    """Why a network cannot use these tensors as its state, naming the first such tensor; empty when it can."""
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            return f"a tensor's name is {one_line(repr(name))}, which is not text"
        kind = _unusable_kind(tensor)
        if kind:
            return f"the tensor {one_line(name)} is {kind}"
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = "NaN" if torch.isnan(tensor).any() else "infinite"
            return f"the tensor {one_line(name)} holds values that are {bad}: training diverged, or the file is damaged"
    return ""


def _unusable_kind(tensor: Any) -> str:
    if not isinstance(tensor, Tensor):
        return f"not a tensor but of type {type(tensor).__name__}"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_meta:
        return "without values (a meta tensor)"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_complex():
        return "complex"
    return ""


def difference(wanted: Mapping[str, Tensor], header: Header) -> str:
    """How the file's tensors differ from `wanted` (on any device, also meta); empty when they do not."""
    for name, tensor in wanted.items():
        if name not in header.shapes:
            return f"{name} is missing"
        if header.shapes[name] != tuple(tensor.shape):
            return f"{name} has size mismatch: {_size(header.shapes[name])} in the file, {_size(tensor.shape)} expected"
        if header.dtypes[name].startswith(("F", "BF")) != tensor.is_floating_point():
            return f"{name} is of type {header.dtypes[name]}, not of {tensor.dtype}"
    other = [name for name in header.shapes if name not in wanted]
    return f"{one_line(other[0])} does not belong to it" if other else ""


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"
