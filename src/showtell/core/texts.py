"""Many texts in a few arrays: lists of Python's own objects take dozens of bytes more for each."""

import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from showtell.core.on_demand import OnDemand


class Texts(OnDemand[str]):
    """Texts one after another: UTF-8 in `content`, uint8 (byte); text i ends before `ends[i]`, int64 (text)."""

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        content, ends = bytearray(), array.array("q")
        for text in texts:
            content += encoded(text)
            ends.append(len(content))
        return cls(np.frombuffer(content, np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def at(self, place: int) -> str:
        start = int(self.ends[place - 1]) if place else 0
        return self.content[start : int(self.ends[place])].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start = 0
        for block in range(0, len(self), _BLOCK):
            ends = self.ends[block : block + _BLOCK].tolist()
            content, first = self.content[start : ends[-1]].tobytes(), start
            for end in ends:
                yield content[start - first : end - first].decode("utf-8", "surrogatepass")
                start = end

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return np.array_equal(self.ends, other.ends) and np.array_equal(self.content, other.content)
        if isinstance(other, Sequence):
            return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def take(self, places: Iterable[int]) -> "Texts":
        """Those at `places`, in that order."""
        return Texts.of(self[place] for place in places)


class Index:
    """Where texts stand in a list of many, 16 bytes for each; a dict takes more than a hundred."""

    def __init__(self, texts: Iterable[str]):
        hashes = np.array(array.array("q", map(hash, texts)), np.int64)
        self._places = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._places]

    def find(self, text: str) -> list[int]:
        """The places of all texts that may be `text`, rising: it, and what its hash does not tell from it."""
        start = int(np.searchsorted(self._hashes, hash(text)))
        end = start
        while end < len(self._hashes) and self._hashes[end] == hash(text):
            end += 1
        return self._places[start:end].tolist()


_BLOCK = 4096  # texts read at once while going through all


def encoded(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, as names of files may have it, is kept."""
    return text.encode("utf-8", "surrogatepass")


def ragged(first: np.ndarray, number: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, ... (`number[0]` of them), then the same of the next."""
    start = np.cumsum(number) - number
    return np.arange(int(number.sum())) - np.repeat(start - first, number)
