"""Many strings in a few arrays: a list of Python strings takes dozens of bytes more for each."""

import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from showtell.core.on_demand import OnDemand


class Texts(OnDemand[str]):
    """Concatenated strings: `content` UTF-8, uint8 (byte); string i ends before byte `ends[i]`, int64 (text)."""

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
        for block in range(0, len(self), _TEXTS_AT_ONCE):
            ends = self.ends[block : block + _TEXTS_AT_ONCE].tolist()
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

    __hash__ = None  # type: ignore[assignment]  # unhashable, like a list

    def take(self, places: Iterable[int]) -> "Texts":
        """The strings at `places`, in that order."""
        return Texts.of(self[place] for place in places)


class Index:
    """Positions of strings in a long list, in 16 bytes for each; a dict takes more than a hundred."""

    def __init__(self, texts: Iterable[str]):
        hashes = np.array(array.array("q", map(hash, texts)), np.int64)
        self._places = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._places]

    def find(self, text: str) -> list[int]:
        """Positions, ascending, of all strings with the hash of `text`: those equal to it, and hash collisions."""
        start = int(np.searchsorted(self._hashes, hash(text)))
        end = start
        while end < len(self._hashes) and self._hashes[end] == hash(text):
            end += 1
        return self._places[start:end].tolist()


_TEXTS_AT_ONCE = 4096  # texts decoded at once while iterating


def encoded(text: str) -> bytes:
    """UTF-8; an unpaired surrogate, which file names may contain, is kept."""
    return text.encode("utf-8", "surrogatepass")
