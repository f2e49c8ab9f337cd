"""HDF5 files of equal rows (images, feature grids) that survive a kill and can be read by any process.

The rows are in one contiguous HDF5 dataset that is allocated when the file is created. After that HDF5's metadata is
not touched: rows are written at their byte offset, and a count beside the file records how many are written. After a
kill the next run continues with the file, and the finished bytes are the same as without the kill. Every few seconds
the rows are flushed to the disk: a power cut loses only later ones. Rows are read at the same offsets, so no HDF5
handle is shared between workers.

Each row has a CRC-32 (dataset `crc32`), and all image ids together have one (an attribute of `image_id`). Each process
checks a row when it first reads it, so that a changed byte on the disk is an error and not a wrong result.
"""

import os
import time
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from showtell.core.damage import remedy
from showtell.core.errors import UserError, explained
from showtell.core.files import flush, move, naming
from showtell.core.terminal import one_line
from showtell.data.store_layout import (
    IDS_AT_ONCE,
    STORE_ERRORS,
    SUM_TYPE,
    SUMS,
    allocate,
    ids_of,
    locate,
    rows_of,
    sum_of_names,
    sums_of,
    texts_of,
)

FLUSH = 5.0  # seconds between flushes, the work that a power cut can lose


# Attributes that an image store must have: its transform, and a hash of its content. Feature stores have more, which
# are compared when they are opened.
ATTRS = {"images": ("transform", "content")}


class RowWriter:
    """Fills `part` with up to `capacity` rows, then moves it to its place; a new writer on the same part continues."""

    def __init__(self, part: Path, name: str, capacity: int, row_shape: tuple[int, ...], dtype: Any):
        self.part, self.name, self.capacity = Path(part), name, capacity
        self.row_shape, self.dtype = tuple(row_shape), np.dtype(dtype)
        self.row_bytes = int(np.prod(row_shape)) * self.dtype.itemsize
        self._count_path = self.part.with_name(f"{self.part.name}.count")
        self._flushed_path = self.part.with_name(f"{self.part.name}.flushed")
        self._flushed = time.monotonic()
        if not self._resume():
            self._create()

    def append(self, rows: np.ndarray) -> None:
        """Write `rows` (row, *row_shape) after the rows that are written."""
        self.write(self.done, rows)
        if len(rows):
            self.mark(self.done + len(rows))

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write `rows` at row `start` without counting them, for workers that fill a store together."""
        if rows.shape[1:] != self.row_shape or rows.dtype != self.dtype:
            raise ValueError(f"rows are {rows.shape[1:]} {rows.dtype}, the store holds {self.row_shape} {self.dtype}")
        if start + len(rows) > self.capacity:
            raise ValueError(f"{start + len(rows)} rows do not fit a store of {self.capacity}")
        if len(rows) == 0:
            return
        whole = np.ascontiguousarray(rows)
        sums = np.array([zlib.crc32(row) for row in whole], SUM_TYPE)
        with naming(self.part), open(self.part, "r+b") as file:
            _put_at(file.fileno(), self._row_at(start), whole)
            _put_at(file.fileno(), self._sums_offset + start * SUM_TYPE.itemsize, sums)

    def mark(self, done: int, beside: Path | None = None) -> None:
        """Record that the first `done` rows, and a file `beside`, are written: a new writer continues after them."""
        self.done = done
        _put(self._count_path, str(done))
        if time.monotonic() - self._flushed > FLUSH:
            self.flush(beside)

    def flush(self, beside: Path | None = None) -> None:
        """Flush the recorded rows to the disk, then write their count."""
        for path in (self.part, beside):
            if path is not None:
                flush(path)
        _put(self._flushed_path, f"{self.done} {_boot()}")
        flush(self._flushed_path)
        self._flushed = time.monotonic()

    def keep(self, kept: Sequence[int]) -> None:
        """Keep only the rows numbered `kept`, in this order, without gaps."""
        exact = RowWriter(self.part.with_suffix(".exact"), self.name, len(kept), self.row_shape, self.dtype)
        block = max(1, (64 << 20) // max(1, self.row_bytes))
        with open(self.part, "rb") as file:
            while exact.done < len(kept):
                numbers = kept[exact.done : exact.done + block]
                data = b"".join(os.pread(file.fileno(), self.row_bytes, self._row_at(n)) for n in numbers)
                exact.append(np.frombuffer(data, self.dtype).reshape(-1, *self.row_shape))
        os.replace(exact.part, self.part)
        exact._forget()
        self.capacity = len(kept)
        self.mark(len(kept))

    def _row_at(self, number: int) -> int:
        return self._offset + number * self.row_bytes

    def finish(self, path: Path, ids: Sequence[Any], attrs: dict[str, str]) -> None:
        """Add the ids (dataset `image_id`) and `attrs`, and move the file to `path`."""
        if len(ids) != self.done:
            raise ValueError(f"{len(ids)} ids for {self.done} rows")
        if self.done < self.capacity or self._is_named():
            self.keep(range(self.done))
        with naming(self.part), h5py.File(self.part, "r+") as file:
            named = file.create_dataset("image_id", (len(ids),), h5py.string_dtype())
            told = 0
            for start in range(0, len(ids), IDS_AT_ONCE):
                names = [str(i) for i in ids[start : start + IDS_AT_ONCE]]
                named[start : start + IDS_AT_ONCE] = names
                told = sum_of_names(names, told)
            named.attrs[SUMS] = np.array(told, SUM_TYPE)
            file.attrs.update(attrs)
        move(self.part, path)
        self._forget()

    def _forget(self) -> None:
        """Remove the files beside the store."""
        for path in (self._count_path, self._flushed_path):
            path.unlink(missing_ok=True)

    def _resume(self) -> bool:
        try:
            self._find()
            self.done = int(self._count_path.read_text())
            flushed, boot = self._flushed_path.read_text().split(" ")
            if boot != _boot():  # the machine was restarted since: rows that were not flushed may be lost
                self.done = min(self.done, int(flushed))
        except (OSError, KeyError, ValueError):  # absent, or killed while it was being created
            return False
        return 0 <= self.done <= self.capacity

    def _create(self) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.part):
            allocate(self.part, self.name, (self.capacity, *self.row_shape), self.dtype)
        self._find()
        self.mark(0)
        self.flush()

    def _find(self) -> None:
        """Find the byte offsets of the rows and of their checksums."""
        self._offset = locate(self.part, self.name, (self.capacity, *self.row_shape), self.dtype)
        self._sums_offset = locate(self.part, SUMS, (self.capacity, 1), SUM_TYPE)

    def _is_named(self) -> bool:
        """Whether an earlier `finish` was killed half-way; HDF5 would leave a gap where it deletes its datasets."""
        with h5py.File(self.part, "r") as file:
            return "image_id" in file


class RowReader:
    """Random access to the rows of a finished store; opened on first use in each process, so it can be pickled or
    forked."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = Path(path), name
        try:
            with h5py.File(path, "r") as file:
                dataset = rows_of(file, name)
                self.shape: tuple[int, ...] = dataset.shape
                self.dtype: np.dtype = dataset.dtype
                self.attrs: dict[str, str] = texts_of(file, ATTRS.get(name, ()))
                self.ids = ids_of(file)
                if len(self.ids) != len(self):
                    raise ValueError(f"it names {len(self.ids)} images and holds {len(self)}")
                self._sums = sums_of(file, self.ids)
            self._offset = locate(self.path, name, self.shape, self.dtype)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; run `dvc repro`") from None
        except STORE_ERRORS as error:
            if refusal := explained(error):  # by the disk or the system: the file may well be a store
                raise UserError(refusal) from None
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path} is not a store of {name}: {reason}; {remedy(self.path)}") from None
        self._sound = bytearray(len(self))  # (row) 1 once its checksum was compared
        self._file: tuple[int, int] | None = None  # (process, descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, indices: Sequence[int]) -> np.ndarray:
        """(row, *row_shape), in the order of `indices`; `UserError` for a row whose checksum differs."""
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        if out.nbytes == 0:
            return out
        descriptor, row_bytes = self._descriptor(), out[0].nbytes
        flat = out.data.cast("B")
        for position, index in enumerate(indices):
            if not 0 <= index < len(self):
                raise IndexError(f"row {index} of {len(self)} in {self.path}")
            target = flat[position * row_bytes : (position + 1) * row_bytes]
            self._fill(descriptor, target, index * row_bytes)
            if not self._sound[index]:
                self._compare(index, target)
        return out

    def _compare(self, index: int, content: memoryview) -> None:
        if zlib.crc32(content) != self._sums[index]:
            raise UserError(
                f"{self.path} is damaged: row {index} (image {one_line(self.ids[index])}) is not as it was written; "
                f"{remedy(self.path)}"
            )
        self._sound[index] = 1

    def _fill(self, descriptor: int, target: memoryview, start: int) -> None:
        position = self._offset + start
        while target:
            count = os.preadv(descriptor, [target], position)
            if count == 0:
                raise UserError(f"{self.path} is damaged: it is cut short; {remedy(self.path)}")
            target, position = target[count:], position + count

    def _descriptor(self) -> int:
        if self._file is None or self._file[0] != os.getpid():
            descriptor = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            self._file = (os.getpid(), descriptor)
        return self._file[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


class MirroredImages(RowReader):
    """The pictures of an image store, each mirrored: left is right."""

    def __init__(self, path: Path):
        super().__init__(path, "images")
        self.attrs = {**self.attrs, "content": f"{self.attrs['content']} mirrored"}

    def rows(self, indices: Sequence[int]) -> np.ndarray:
        return super().rows(indices)[..., ::-1].copy()


def rows_there(path: Path) -> int:
    """The number of rows of the store `path` that an earlier run has written, finished or in its part."""
    try:
        if path.exists():
            with h5py.File(path, "r") as file:
                return len(ids_of(file))
        return int(path.with_name(f"{path.name}.part.count").read_text())
    except STORE_ERRORS:
        return 0


def _put(path: Path, text: str) -> None:
    """Write a small file atomically with respect to a kill of this process."""
    temporary = path.with_name(f"{path.name}.part")
    with naming(path, temporary):
        temporary.write_text(text)
        os.replace(temporary, path)


def _boot() -> str:
    """An id of the time since the last start of this machine; empty where the system does not provide one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _put_at(descriptor: int, position: int, values: np.ndarray) -> None:
    """Write the bytes of `values` at an offset of the file."""
    data = values.data.cast("B")
    while data:  # one pwrite moves at most 2 GiB
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written
