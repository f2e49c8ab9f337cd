"""The output formats of one file with a row for each image: CSV and JSON lines."""

import codecs
import csv
import fcntl
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal, TextIO

from showtell.commands.alt_text.description import BY_OTHERS, Description, Kept, Origin, replaceable, text_hash
from showtell.commands.alt_text.row_index import RowIndex
from showtell.core.errors import UserError
from showtell.core.files import atomic, json_line

COLUMNS = ("file", "caption", "logprob", "confidence", "abstained", "picture", "written", "origin")
_OTHER_COLUMNS = "has other columns than this version of showtell describe writes; name another --output"


class Table:
    """One file with a row for each image: CSV or JSON lines. Rows are appended as they are made.

    The caption of a withheld one is empty, and `abstained` gives the reason. `written` is the caption's hash. Of an
    image that was described again the last row counts, unless others wrote one; `finish` removes those that do not
    count. People may save the file while it grows: what they have made of it is read before it is added to. Pictures
    are named as they were given, and known by where that leads from the current folder.
    """

    def __init__(self, path: Path, origin: Origin, as_json: bool):
        self.path, self.origin, self.as_json = path, origin, as_json
        self._look()

    def _look(self) -> None:
        """Read the file, which people may have edited."""
        self._seen = self._version()
        self._encoding = "utf-8-sig" if self._has_mark() else "utf-8"
        self._index = RowIndex(self.path)
        for row in self._rows():
            self._index.add(_place(row["file"]), _kept(row))
        self._cut_short = self._is_cut_short()

    def _look_again(self) -> None:
        """Read the file once more where another program has changed it."""
        if self._version() != self._seen:
            self._look()

    def _version(self) -> tuple[int, ...] | None:
        """What differs when the file has changed; None without a file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def kept(self, path: Path) -> Kept | None:
        self._look_again()
        return self._index.kept(_place(path))

    @contextmanager
    def alone(self) -> Iterator[None]:
        table = hashlib.sha256(os.fsencode(os.path.realpath(self.path))).hexdigest()[:16]
        with open(Path(tempfile.gettempdir(), f"showtell-{os.getuid()}-{table}.lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another showtell describe is writing {self.path}; wait for it, or name another --output"
                ) from None
            yield

    def write(self, description: Description) -> None:
        place = _place(description.path)
        row = {
            "file": str(description.path), "caption": description.caption, "logprob": round(description.logprob, 4),
            "confidence": description.confidence, "abstained": description.abstained, "picture": description.state,
            "written": None if description.caption is None else text_hash(description.caption),
            "origin": str(self.origin),
        }  # fmt: skip
        self._look_again()
        if self._index.kept(place) == BY_OTHERS:
            return  # corrected since the run looked
        if self._cut_short:  # this row would be appended to an incomplete one
            self._compact()
        new = not self.path.exists() or not self.path.stat().st_size
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open(self.path, "a") as out:
            out.write((self._head() if new else "") + self._line(row))
        self._index.add(place, _kept(row))
        self._seen = self._version()

    def finish(self) -> None:
        self._look_again()
        if self._index.repeated or self._cut_short:
            self._compact()

    def _compact(self) -> None:
        """Rewrite the file with the row that counts of each image."""
        with atomic(self.path, shared=True) as temporary, self._open(temporary, "w") as out:
            out.write(self._head())
            for number, row in enumerate(self._rows()):
                if self._index.row(_place(row["file"])) == number:
                    out.write(self._line(row))
        self._look()

    def _head(self) -> str:
        return "" if self.as_json else _csv_line(COLUMNS)

    def _line(self, row: dict[str, Any]) -> str:
        if self.as_json:
            return json_line(row) + "\n"
        return _csv_line([row[column] for column in COLUMNS])

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The rows in the file, without a last one that a kill cut short."""
        if not self.path.exists():
            return
        cut_short = self._is_cut_short()  # asked anew: `_compact` reads its own file again
        with self._open(self.path, "r") as file:
            if self.as_json:
                yield from self._json_rows(file)
                return
            table = csv.DictReader(file)
            try:
                if tuple(table.fieldnames or COLUMNS) != COLUMNS:
                    raise UserError(f"{self.path} {_OTHER_COLUMNS}")
                for row, following in pairwise(chain(table, [{}])):
                    if row["origin"] is not None or following or not cut_short:
                        yield row
            except csv.Error as error:
                raise UserError(f"{self.path}, line {table.line_num}: {error}; name another --output") from None

    def _json_rows(self, file: TextIO) -> Iterator[dict[str, Any]]:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and row.keys() == set(COLUMNS):
                yield row
            elif line.endswith("\n"):
                raise UserError(f"{self.path} {_OTHER_COLUMNS}")

    def _open(self, path: Path, mode: Literal["r", "w", "a"]) -> TextIO:
        """Opened with surrogateescape: file names are bytes that may not be valid text."""
        newline = "\n" if self.as_json else ""
        return open(path, mode, encoding=self._encoding, errors="surrogateescape", newline=newline)

    def _has_mark(self) -> bool:
        """Whether the file begins with a byte order mark, as spreadsheets write it; it is kept."""
        if not self.path.exists():
            return False
        with open(self.path, "rb") as file:
            return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8

    def _is_cut_short(self) -> bool:
        """Whether the file ends in an incomplete row."""
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        with open(self.path, "rb") as file:
            file.seek(-1, io.SEEK_END)
            return file.read(1) != b"\n"


def _place(file: Any) -> str:
    """What a picture is known by: its path as the current folder has it, links and all."""
    return os.path.abspath(str(file))


def _csv_line(values: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _kept(row: dict[str, Any]) -> Kept:
    try:
        confidence = float(row["confidence"])
    except (TypeError, ValueError):
        confidence = None
    # Of a withheld caption it is not to be unknown: the image is then described again whatever the threshold
    withheld, written = (1.0 if confidence is None else confidence, None) if row["abstained"] else (None, confidence)
    origin, state, caption = (str(row[column] or "") for column in ("origin", "picture", "caption"))
    return Kept(origin, state, withheld, written) if replaceable(caption, row["written"]) else BY_OTHERS
