"""Unpickling a foreign file in time and memory that its size accounts for.

The unpickler is Python's own. The one in C has a table as long as the largest number that a pickle gives to an object,
and hashes whatever is a key: tuples of tuples, each of which names the one before twice, take 2 ** depth steps.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

# An object can take a hundred times the bytes that it takes in a pickle. Tensors are not part of it: the pickle of a
# ResNet-101 with its optimiser has 0.1 MB, that of a vocabulary of 500,000 words 18.
LARGEST_PICKLE = 32 * 2**20
LARGEST_KEY = 16  # parts of a tuple that is a key
LARGEST_NUMBER = 2**63


def checked_key(key: Any) -> Any:
    """`key`, if it is hashed in little time: hashes of tuples and long integers are not remembered."""
    parts = key if type(key) is tuple else (key,)
    if len(parts) > LARGEST_KEY or any(isinstance(part, tuple | frozenset) for part in parts):
        raise pickle.UnpicklingError("it has keys of tuples or sets")
    if any(isinstance(part, int) and abs(part) >= LARGEST_NUMBER for part in parts):
        raise pickle.UnpicklingError("it has keys of long numbers")
    return key


class _Limited:
    """A file of which a pickle may read `LARGEST_PICKLE` bytes."""

    def __init__(self, file: BinaryIO):
        self._file, self._left = file, LARGEST_PICKLE

    def read(self, count: int) -> bytes:
        return self._counted(self._file.read(min(count, self._left + 1)))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._left + 1))

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left < 0:
            raise pickle.UnpicklingError(f"its pickle has more than {LARGEST_PICKLE >> 20} MiB")
        return content


Operation = Callable[[Any], None]
_OPERATIONS: Mapping[int, Operation] = pickle._Unpickler.dispatch
# What an operation hashes of the objects since the last mark.
_HASHED = {
    pickle.SETITEM: slice(-2, -1), pickle.SETITEMS: slice(None, None, 2), pickle.DICT: slice(None, None, 2),
    pickle.ADDITEMS: slice(None), pickle.FROZENSET: slice(None),
}  # fmt: skip


def _checking(operation: Operation, hashed: slice) -> Operation:
    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[hashed]:
            checked_key(key)
        operation(unpickler)

    return checked


class BoundedUnpickler(pickle._Unpickler):
    """As `pickle.Unpickler`; `UnpicklingError` for keys that are slow to hash, and for more than `LARGEST_PICKLE`."""

    dispatch: ClassVar = {
        **_OPERATIONS,
        **{code[0]: _checking(_OPERATIONS[code[0]], hashed) for code, hashed in _HASHED.items()},
    }

    def __init__(self, file: BinaryIO):
        super().__init__(_Limited(file), encoding="latin1")  # latin1 also reads pickles of Python 2

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise pickle.UnpicklingError(f"it has an operation that does not exist ({error})") from None
