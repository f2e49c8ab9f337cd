"""The layout of a store's HDF5 file: contiguous rows, a CRC-32 of each row, and the image ids as text.

Files can come from anywhere: other content is refused with a `ValueError` that gives the reason.
"""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from showtell.core.texts import Texts, encoded

IDS_AT_ONCE = 1 << 14  # image ids read or written at once
SUMS, SUM_TYPE = "crc32", np.dtype("<u4")  # (row, 1), the CRC-32 of each row's bytes

# Exceptions of the HDF5 library for files that are damaged or have other content.
STORE_ERRORS = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError)


def allocate(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Create the HDF5 file with its two contiguous datasets, rows and checksums, allocated but not filled."""
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.CONTIGUOUS)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)  # a creation time would make two equal runs differ
        for each, size, kind in ((name, shape, dtype), (SUMS, (shape[0], 1), SUM_TYPE)):
            space, stored = h5py.h5s.create_simple(size), h5py.h5t.py_create(kind, logical=True)
            h5py.h5d.create(file.id, each.encode(), stored, space, plist)


def locate(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Byte offset of the first row; `ValueError` when the file has other content."""
    with h5py.File(path, "r") as file:
        dataset = rows_of(file, name)
        if dataset.shape != shape or dataset.dtype != dtype:
            raise ValueError(f"{path} holds {dataset.shape} {dataset.dtype}, not {shape} {dtype}")
        offset, size = dataset.id.get_offset(), dataset.size
    if size and offset is None:
        raise ValueError("its rows are not laid out in the file")
    return offset or 0


def rows_of(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name`, if its rows can be read by offset; the `ValueError` gives the reason if not."""
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no `{name}` of its own")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"`{name}` is not an array")
    if dataset.dtype.kind not in "uif" or dataset.shape is None or len(dataset.shape) < 2:
        raise ValueError(f"`{name}` is {dataset.dtype} {dataset.shape}, not rows of numbers")
    if dataset.chunks is not None or dataset.is_virtual or dataset.external or dataset.compression:
        raise ValueError(f"`{name}` is chunked, compressed or elsewhere; rows must lie one behind the other")
    return dataset


def texts_of(file: h5py.File, required: Sequence[str]) -> dict[str, str]:
    """The file's attributes, which must be text and include the required ones."""
    attrs = dict(file.attrs)
    for key in required:
        if key not in attrs:
            raise ValueError(f"it has no attribute {key!r}")
    for key, value in attrs.items():
        if not isinstance(value, str):
            raise ValueError(f"its attribute {key!r} is {type(value).__name__}, not text")
    return attrs


def ids_of(file: h5py.File) -> Texts:
    """The image id of each row."""
    ids = file.get("image_id")
    if not isinstance(ids, h5py.Dataset) or h5py.check_string_dtype(ids.dtype) is None or ids.ndim != 1:
        raise ValueError("it has no `image_id`, a list of text")
    return Texts.of(i.decode() for start in range(0, len(ids), IDS_AT_ONCE) for i in ids[start : start + IDS_AT_ONCE])


def sums_of(file: h5py.File, names: Texts) -> np.ndarray:
    """The CRC-32 of each row (row), after the image ids are compared with theirs."""
    sums = file.get(SUMS)
    if not isinstance(sums, h5py.Dataset) or sums.shape != (len(names), 1) or sums.dtype != SUM_TYPE:
        raise ValueError(f"it has no `{SUMS}`, a number for each row")
    if sum_of_names(names) != file["image_id"].attrs.get(SUMS):
        raise ValueError("the names of its images are not as they were written")
    return sums[:, 0]


def sum_of_names(names: Iterable[str], before: int = 0) -> int:
    """CRC-32 of texts, each after its length; `before` is the CRC-32 of earlier texts."""
    for name in names:
        content = encoded(name)
        before = zlib.crc32(content, zlib.crc32(len(content).to_bytes(8, "little"), before))
    return before
