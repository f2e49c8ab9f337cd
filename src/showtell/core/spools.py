"""Arrays and objects too large for memory, in unnamed temporary files: written sequentially, then read or mapped."""

import mmap
import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from showtell.core.files import naming
from showtell.core.on_demand import OnDemand

T = TypeVar("T")

NUMBERS_AT_ONCE = 1 << 18  # numbers read at once


class Spool:
    """A temporary file of numbers of one dtype; a context manager, which closes it."""

    def __init__(self, dtype: Any, folder: Path | None = None):
        """`folder`: where the file is, by default the system's folder for temporary files."""
        self.dtype, self.count = np.dtype(dtype), 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `close` or `mapped`

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def add(self, values: np.ndarray | Sequence[int]) -> None:
        """Append numbers, converted to this dtype; an `array.array` and bytes are written as they are."""
        self._file.write(
            values if isinstance(values, array | bytes) else np.ascontiguousarray(values, self.dtype).data
        )
        self.count += len(values)

    def blocks(self, size: int = NUMBERS_AT_ONCE) -> Iterator[np.ndarray]:
        """All numbers from the start, `size` at a time."""
        self._file.seek(0)
        while block := self._file.read(size * self.dtype.itemsize):
            yield np.frombuffer(block, self.dtype)

    def mapped(self) -> "Mapped":
        """The numbers as a memory map; the file is closed here, and removed when the map is released."""
        self._file.flush()
        found = Mapped(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if self.count else None, self.dtype)
        self.close()
        return found


class Pickled(OnDemand[T]):
    """Objects pickled to disk, unpickled each time they are asked for."""

    def __init__(self, objects: Iterable[T]):
        self._ends = array("q")
        with tempfile.TemporaryFile() as file:
            for item in objects:
                pickle.dump(item, file, pickle.HIGHEST_PROTOCOL)
                self._ends.append(file.tell())
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self._ends)

    def at(self, place: int) -> T:
        start = self._ends[place - 1] if place else 0
        return pickle.loads(os.pread(self._file, self._ends[place] - start, start))


class Mapped:
    """A memory-mapped `array`, read through the page cache."""

    @classmethod
    def blank(cls, count: int, dtype: Any) -> "Mapped":
        """A new map of zeros, to be written; `OSError` when the disk has no room (it would end the process later)."""
        with tempfile.TemporaryFile() as file:
            size = count * np.dtype(dtype).itemsize
            with naming(Path(tempfile.gettempdir())):
                file.truncate(size)
                if size and hasattr(os, "posix_fallocate"):  # macOS has none
                    os.posix_fallocate(file.fileno(), 0, size)
            return cls(mmap.mmap(file.fileno(), 0) if count else None, np.dtype(dtype))

    def __init__(self, memory: mmap.mmap | None, dtype: np.dtype):
        self._memory = memory
        self.array = np.zeros(0, dtype) if memory is None else np.frombuffer(memory, dtype)

    def forget(self) -> None:
        """Release its pages from this process: what was read or written stays in the page cache alone."""
        if self._memory is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)
