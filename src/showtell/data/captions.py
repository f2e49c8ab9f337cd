"""data/captions/<split>.json and .h5: the captions of a split, for people and for programs.

The JSON has the texts, one image a line. The HDF5 file beside it has the tokens, ids and file names as arrays, and the
offset of each line of the JSON. Both are read on access, through the system's page cache, so that no process holds the
captions of a large dataset in memory: arrays are memory-mapped, a line is parsed when its image is accessed.

Each line and each array has a CRC-32, so that a changed byte on the disk is an error and not a wrong result. A line is
compared when it is parsed, the arrays when a process first opens the file.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from showtell.core.arrays import ragged
from showtell.core.damage import remedy
from showtell.core.errors import UserError, explained
from showtell.core.on_demand import OnDemand
from showtell.core.texts import Texts

Entry = dict[str, Any]  # image_id, file, references (every caption, raw) and words (every caption, uncut) of an image

# The arrays of the HDF5 file. Ends are cumulative counts including the item itself: of captions in tokens, of images in
# captions, of lines (without separators) and texts in bytes.
LINE_SUMS, SUM = "line_crc32", "crc32"  # of each line, an array; of each array, an attribute
ARRAYS = (
    "tokens", "token_ends", "caption_ends", "line_ends", LINE_SUMS, "image_id", "image_id_ends", "file", "file_ends"
)  # fmt: skip
# Types of the arrays, as NumPy spells them; those that are not named here are <i8.
TYPES = {"tokens": ("<u2", "<u4"), LINE_SUMS: ("<u4",), "image_id": ("|u1",), "file": ("|u1",)}
BYTES_AT_ONCE = 1 << 20  # bytes read at once

_sound: set[tuple[int, ...]] = set()  # files whose arrays this process has compared


class Block(NamedTuple):
    """Consecutive images: tokens (token), with start and end, of all their captions; number of tokens of each caption
    (caption); number of captions of each image (image)."""

    tokens: np.ndarray
    lengths: np.ndarray
    number: np.ndarray


class CaptionFile(OnDemand[Entry]):
    """The images of a split as entries, each parsed when it is accessed, and their tokens as arrays.

    `image_ids` (text) and `files` (image) and the tokens are read without parsing the JSON.
    """

    def __init__(self, path: Path, rows: np.ndarray | None = None):
        """`path`: data/captions/<split>.json; `rows` (image), ascending: only these images."""
        self.path, self._rows = Path(path), rows
        arrays = _mapped(self.path)
        self._tokens, self._ends = arrays["tokens"], arrays["token_ends"]
        self._line_ends, self._line_sums = arrays["line_ends"], arrays[LINE_SUMS]
        number = np.diff(arrays["caption_ends"], prepend=0)
        first = arrays["caption_ends"] - number
        self.image_ids = Texts(arrays["image_id"], arrays["image_id_ends"])
        self.files = Texts(arrays["file"], arrays["file_ends"])
        if rows is not None:
            number, first = number[rows], first[rows]
            self.image_ids, self.files = self.image_ids.take(rows), self.files.take(rows)
        self.number: np.ndarray = number  # (image) of captions with tokens
        self.first: np.ndarray = first  # (image) index of its first caption in the file, an argument of `lengths`

    @property
    def text_sums(self) -> np.ndarray:
        """A checksum (image) of the text of each entry."""
        return self._line_sums if self._rows is None else self._line_sums[self._rows]

    def __len__(self) -> int:
        return len(self.number)

    def at(self, place: int) -> Entry:
        row = place if self._rows is None else int(self._rows[place])
        start = int(self._line_ends[row - 1]) if row else 0
        with open(self.path, "rb") as file:
            file.seek(start + 2)  # after the bracket or the comma, and the line end
            return self._parsed(row, file.read(int(self._line_ends[row]) - start - 2))

    def __iter__(self) -> Iterator[Entry]:
        """All entries in order, read sequentially."""
        wanted = iter(range(len(self)) if self._rows is None else self._rows)
        following = next(wanted, None)
        with open(self.path, "rb") as file:
            next(file)  # the opening bracket
            for row, line in enumerate(file):
                if following is None:
                    return
                if row == following:
                    yield self._parsed(row, line.rstrip(b"\n").removesuffix(b","))
                    following = next(wanted, None)

    def _parsed(self, row: int, line: bytes) -> Entry:
        if zlib.crc32(line) != self._line_sums[row]:
            raise UserError(f"{self.path} is damaged: line {row + 2} is not as it was written; {remedy(self.path)}")
        return json.loads(line)

    def __reduce__(self) -> tuple[Any, ...]:
        return CaptionFile, (self.path, self._rows)  # another process maps the files again

    def only(self, rows: np.ndarray) -> "CaptionFile":
        """The images at `rows` (image), ascending; only for a file with all its images."""
        return CaptionFile(self.path, rows)

    def tokens(self, captions: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Tokens (token), with start and end, of the captions at these indices of the file."""
        return [self._tokens[self._ends[place - 1] if place else 0 : self._ends[place]] for place in captions]

    def lengths(self, captions: np.ndarray) -> np.ndarray:
        """Number of tokens, with start and end, of the captions at these indices of the file (caption)."""
        return self._ends[captions] - np.where(captions > 0, self._ends[captions - 1], 0)

    def flat(self, captions: np.ndarray, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The concatenated tokens (token) of the captions at these indices, without the first `skip` of each, and the
        number of tokens of each (caption)."""
        lengths = self.lengths(captions) - skip
        return self._tokens[ragged(self._ends[captions] - lengths, lengths)], lengths

    def blocks(self, size: int = 4096) -> Iterator[Block]:
        """All captions, `size` images at a time."""
        for start in range(0, len(self), size):
            number = self.number[start : start + size]
            yield Block(*self.flat(ragged(self.first[start : start + size], number)), number)

    def texts(self) -> Iterator[str]:
        """Every reference, unprocessed, in order."""
        return (text for entry in self for text in entry["references"])


def _mapped(path: Path) -> dict[str, np.ndarray]:
    beside = path.with_suffix(".h5")
    for file in (path, beside):
        if not file.is_file():
            raise UserError(f"{file} does not exist; run `dvc repro vocab`")
    try:
        with h5py.File(beside, "r") as file:
            unknown = _identity(beside) not in _sound
            arrays = {name: _map(beside, file[name], unknown) for name in ARRAYS}
            told = int(file.attrs["bytes"])
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        if refusal := explained(error):  # by the disk or the system: the file may well be whole
            raise UserError(refusal) from None
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{beside} does not hold tokens: {reason}; run `dvc repro -f vocab`") from None
    if path.stat().st_size != told:
        raise UserError(f"{path} is not the file that {beside} was made for; run `dvc repro -f vocab`")
    _sound.add(_identity(beside))
    return arrays


def _identity(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _map(path: Path, dataset: h5py.Dataset, compare: bool) -> np.ndarray:
    """The dataset as a memory map, not read before it is used but to `compare` its CRC-32."""
    if dataset.ndim != 1 or dataset.dtype.str not in TYPES.get(dataset.name.strip("/"), ("<i8",)):
        raise ValueError(f"`{dataset.name}` is {dataset.dtype} {dataset.shape}")
    if dataset.size == 0:
        return np.zeros(0, dataset.dtype)
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"`{dataset.name}` is not laid out in the file")
    if compare and _sum(path, offset, dataset.nbytes) != dataset.attrs[SUM]:
        raise UserError(f"{path} is damaged: `{dataset.name}` is not as it was written; {remedy(path)}")
    # As a plain array: slicing a memmap takes a microsecond each time.
    return np.asarray(np.memmap(path, dataset.dtype, "r", offset, dataset.shape))


def _sum(path: Path, start: int, size: int) -> int:
    """CRC-32 of `size` bytes of the file from `start`; read, not mapped, so that they do not count as memory in use."""
    told = 0
    with open(path, "rb") as file:
        file.seek(start)
        while size and (block := file.read(min(size, BYTES_AT_ONCE))):
            told, size = zlib.crc32(block, told), size - len(block)
    return told
