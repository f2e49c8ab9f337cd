"""Which row of a table describes which image: an index on disk, so that memory does not grow with the table."""

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from showtell.commands.alt_text.description import BY_OTHERS, Kept
from showtell.core.errors import UserError

CACHE = 1 << 19  # bytes of the index in memory


class RowIndex:
    """The row that counts of each image, and what it says of it: the last one, or the last one by others if there is
    any. `UserError` when there is no room for the index.

    It is a private SQLite database: what exceeds `CACHE` goes to a file in the folder for temporary files, which SQLite
    removes with the connection.
    """

    def __init__(self, table: Path):
        self.table, self.rows = table, 0
        self.repeated = False  # whether an image has several rows
        self._database = sqlite3.connect("", isolation_level=None)  # "": private, in memory or in a temporary file
        self._run(f"PRAGMA cache_size = -{CACHE >> 10}")
        self._run("PRAGMA journal_mode = OFF")
        columns = "file BLOB PRIMARY KEY, row INTEGER, origin BLOB, state BLOB, withheld REAL, written REAL"
        self._run(f"CREATE TABLE last ({columns}) WITHOUT ROWID")

    def add(self, file: str, kept: Kept) -> None:
        """Add the next row of the table."""
        before = self.kept(file)
        self.repeated |= before is not None
        if before == BY_OTHERS != kept:
            self.rows += 1
            return
        values = _bytes(file), self.rows, _bytes(kept.origin), _bytes(kept.state), kept.withheld, kept.written
        self._run("INSERT OR REPLACE INTO last VALUES (?, ?, ?, ?, ?, ?)", *values)
        self.rows += 1

    def row(self, file: str) -> int | None:
        """The number of the image's row, from 0; None if it has none."""
        found = self._run("SELECT row FROM last WHERE file = ?", _bytes(file))
        return found[0] if found else None

    def kept(self, file: str) -> Kept | None:
        """What the image's row says; None if it has none."""
        found = self._run("SELECT origin, state, withheld, written FROM last WHERE file = ?", _bytes(file))
        return Kept(_text(found[0]), _text(found[1]), *found[2:]) if found else None

    def _run(self, statement: str, *values: Any) -> Any:
        """The first row that a statement finds; None if it finds none."""
        try:
            return self._database.execute(statement, values).fetchone()
        except sqlite3.OperationalError as error:
            folder = tempfile.gettempdir()
            raise UserError(
                f"{self.table} cannot be indexed in {folder} ({error}); make room there, or set TMPDIR"
            ) from None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # file names are bytes that may not be valid text


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")
