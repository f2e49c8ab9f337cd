"""Storages and tensors of a file of `torch.save`: views of its bytes, never copies, so that many of one storage need no
more memory than it."""

import math
import os
import pickle
from typing import Any, BinaryIO

import torch
from torch import Tensor

from showtell.commands.conversion.bounded_pickle import LARGEST_NUMBER

MOST_DIMENSIONS = 64  # of a tensor, PyTorch's own limit
DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class Fixed:
    """An object of the reader: the file cannot set its attributes."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes what reads it")


class Storage(Fixed):
    """Numbers of one dtype; in the older format their bytes follow the pickle that names them."""

    def __init__(self, dtype: torch.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.flat: Tensor | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.dtype.itemsize

    def fill(self, content: bytes) -> None:
        if len(content) != self.size:
            raise ValueError("a storage is cut short")
        self.flat = torch.frombuffer(bytearray(content), dtype=self.dtype) if content else torch.empty(0)


class LazyTensor(Fixed):
    """A view of a storage, made when all storages have their bytes."""

    def __init__(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def tensor(self) -> Tensor:
        storage = self.storage
        if not isinstance(storage, Storage) or storage.flat is None:
            raise ValueError("a tensor without a storage")
        numbers = [self.offset, *self.size, *self.stride]
        dimensions = len(self.size)
        if dimensions != len(self.stride) or dimensions > MOST_DIMENSIONS or not all(map(is_count, numbers)):
            raise ValueError("a tensor with a broken shape")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        # A stride of 0 repeats numbers: a few bytes could ask for all of the memory.
        if (0 not in self.size and last >= storage.count) or math.prod(self.size) > storage.count:
            raise ValueError("a tensor larger than its storage")
        return storage.flat.as_strided(self.size, self.stride, self.offset)


def is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < LARGEST_NUMBER


class Storages(dict[str, Storage]):
    """The storages of one file, by name: together no larger than the file, so that none are the same bytes of it."""

    def __init__(self, file: BinaryIO):
        super().__init__()
        self._left = os.fstat(file.fileno()).st_size

    def named(self, kind: str, key: str, count: int) -> Storage:
        if key not in self:
            self[key] = Storage(_dtype(kind), count)
            self._left -= self[key].size
            if self._left < 0:
                raise ValueError("its storages are larger than the file")
        return self[key]


def _dtype(kind: str) -> torch.dtype:
    if kind not in DTYPES:
        raise ValueError(f"numbers of an unknown type {kind[:40]!r}")
    return DTYPES[kind]
