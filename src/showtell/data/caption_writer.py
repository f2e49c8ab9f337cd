"""Writes data/captions/<split>.json and .h5 (described in `captions.py`) image by image, without holding them in
memory."""

import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from showtell.core.files import check_space
from showtell.core.spools import Spool
from showtell.core.texts import encoded
from showtell.data.captions import ARRAYS, LINE_SUMS, SUM, CaptionFile, Entry


class CaptionWriter:
    """Writes the files of one split; a context manager. Data that does not need the vocabulary goes to the JSON and to
    temporary files."""

    def __init__(self, path: Path):
        self.path = path
        self._open = ExitStack()
        self._text = self._open.enter_context(path.open("wb"))
        self._text.write(b"[")
        self._numbers = {name: self._spool(np.int64) for name in ARRAYS if name.endswith("_ends")}
        self._numbers |= {name: self._spool(np.uint32) for name in ("tokens", LINE_SUMS)}
        self._bytes = {name: self._spool(np.uint8) for name in ("image_id", "file")}
        self._captions = self.references = 0

    def __enter__(self) -> "CaptionWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _spool(self, dtype: type[np.generic]) -> Spool:
        return self._open.enter_context(Spool(dtype, self.path.parent))

    def add(self, entry: Entry, tokens: Sequence[Sequence[int]]) -> None:
        """Add one image and the tokens of its captions, with start and end; `finish` may renumber them."""
        if self._numbers["line_ends"].count:
            self._text.write(b",")
        line = encoded(json.dumps(entry, ensure_ascii=False))
        self._text.write(b"\n" + line)
        self._numbers["line_ends"].add([self._text.tell()])
        self._numbers[LINE_SUMS].add([zlib.crc32(line)])
        for caption in tokens:
            self._numbers["tokens"].add(caption)
            self._numbers["token_ends"].add([self._numbers["tokens"].count])
        self._captions += len(tokens)
        self.references += len(entry["references"])
        self._numbers["caption_ends"].add([self._captions])
        for name, spool in self._bytes.items():
            spool.add(encoded(str(entry[name])))
            self._numbers[f"{name}_ends"].add([spool.count])

    @property
    def images(self) -> int:
        return self._numbers["line_ends"].count

    def finish(self, table: np.ndarray) -> None:
        """Write the rest; token t is replaced by `table[t]`."""
        self._text.write(b"\n]\n")
        size = self._text.tell()
        self._text.flush()
        spools = {**self._numbers, **self._bytes}
        # HDF5 ends the process when the disk is full while it closes a file.
        check_space(self.path.parent, sum(spool.count * spool.dtype.itemsize for spool in spools.values()))
        narrow = np.uint16 if table.max(initial=0) < 1 << 16 else np.uint32
        with h5py.File(self.path.with_suffix(".h5"), "w") as file:
            file.attrs["bytes"] = size
            for name, spool in spools.items():
                kind = narrow if name == "tokens" else spool.dtype
                dataset = file.create_dataset(name, (spool.count,), kind)
                start = told = 0
                for block in spool.blocks():
                    stored = table[block].astype(narrow) if name == "tokens" else block
                    dataset[start : start + len(block)] = stored
                    start, told = start + len(block), zlib.crc32(stored.data, told)
                dataset.attrs[SUM] = told


def write_captions(path: Path, entries: Iterable[Entry]) -> CaptionFile:
    """Write the files of `entries` that have `tokens` as well; missing fields are left out."""
    most = 0
    with CaptionWriter(path) as writer:
        for entry in entries:
            texts = {"file": "", "references": [], "words": [], **entry}
            tokens = texts.pop("tokens")
            writer.add(texts, tokens)
            most = max([most, *(token for caption in tokens for token in caption)])
        writer.finish(np.arange(most + 1))
    return CaptionFile(path)
