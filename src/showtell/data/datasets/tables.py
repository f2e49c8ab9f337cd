"""Tables of captions (CSV, TSV and similar), read completely: a row that cannot be parsed is an error.

Cells are separated by the delimiter that is most frequent in the first line. With commas and semicolons a cell may be
quoted, as in RFC 4180, and then contain delimiters and line breaks. With tabs and bars a quotation mark is a character,
except that a cell which is quoted as a whole loses its quotation marks.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from showtell.core.errors import UserError
from showtell.core.fields import shown
from showtell.core.progress import log
from showtell.data.formats import PICTURE_SUFFIXES

MARKS = ",\t|;"
QUOTING = ",;"  # delimiters of tables that are quoted as in RFC 4180
AS_CHARACTER = "write a quotation mark that is a character as two, in a quoted cell"
SHOWN_ROWS = 3  # number of wrong rows listed in an error

COLUMNS = {
    "file": ("image", "file", "filename", "file_name", "image_name", "path"),
    "caption": ("caption", "comment", "text", "sentence", "raw"),
    "split": ("split", "set", "subset"),
    "id": ("image_id", "id"),
}


class Row(NamedTuple):
    """The cells of a row in used columns, by the keys of `COLUMNS`; "" for a column that the table does not have."""

    line: int
    cells: dict[str, str]


class _Cells(NamedTuple):
    line: int  # the first of the row, counted from 1
    cells: list[str]
    rest: list[int]  # offset of each cell in a row without quotation marks; else empty
    text: str


def read_rows(text: str, where: str) -> Iterator[Row]:
    """Every non-empty row of the table `text`; `where` names the file in errors."""
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as the first Macintoshes ended lines
    mark = max(MARKS, key=text.partition("\n")[0].count)
    rows = _quoted_rows(text, mark, where) if mark in QUOTING else _plain_rows(text, mark)
    header = next(rows, _Cells(1, [], [], ""))
    names = [_unquoted(name).strip().lower() for name in header.cells]
    at = _columns(names, where)
    wrong: list[str] = []
    longer = False
    for row in rows:
        cells = _fitting(row, len(names), at["caption"] == len(names) - 1)
        if cells is None:
            wrong.append(f"line {row.line} has {len(row.cells)}")
            longer |= len(row.cells) > len(names)
            continue
        yield Row(row.line, {key: cells[n].strip() if n is not None else "" for key, n in at.items()})
    if wrong:
        some = ", ".join(wrong[:SHOWN_ROWS]) + (f" and {len(wrong) - SHOWN_ROWS} more" if wrong[SHOWN_ROWS:] else "")
        quoting = longer and mark in QUOTING
        advice = "put cells that hold the mark in quotation marks" if quoting else "every row needs all columns"
        raise UserError(f"{where}: the first line has {len(names)} cells, divided by {mark!r}; {some}; {advice}")


def _columns(names: Sequence[str], where: str) -> dict[str, int | None]:
    """Position of each used column; the others are logged."""
    for name in names:
        if name and names.count(name) > 1:
            raise UserError(f"{where}: line 1: two columns are called {shown(name)}")
    at = {key: next((names.index(n) for n in options if n in names), None) for key, options in COLUMNS.items()}
    if at["file"] is None or at["caption"] is None:
        raise UserError(
            f"{where}: line 1: the first line must name the columns, among them `image` and `caption`, not "
            f"{shown(list(names))}"
        )
    unread = [name for number, name in enumerate(names) if number not in at.values()]
    if unread:
        log(f"{where}: columns that are not read: {shown(unread)[1:-1]}")
    return at


def _fitting(row: _Cells, count: int, caption_last: bool) -> list[str] | None:
    """Exactly `count` cells, else None. Delimiters in an unquoted caption at the end of the row belong to it."""
    if len(row.cells) > count and not any(cell.strip() for cell in row.cells[count:]):
        return row.cells[:count]  # empty columns of a spreadsheet
    if len(row.cells) > count and caption_last and row.rest:
        return [*row.cells[: count - 1], row.text[row.rest[count - 1] :]]
    return row.cells if len(row.cells) == count else None


def _plain_rows(text: str, mark: str) -> Iterator[_Cells]:
    # Only \n ends a line: str.splitlines would also cut at U+2028 and others, which occur inside captions.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if line.strip():
            cells = line.split(mark)
            yield _Cells(number, [_unquoted(cell) for cell in cells], _starts(cells), line)


def _starts(cells: Sequence[str]) -> list[int]:
    starts, position = [], 0
    for cell in cells:
        starts.append(position)
        position += len(cell) + 1
    return starts


def _unquoted(cell: str) -> str:
    """The content of a cell that is quoted as a whole; any other cell unchanged."""
    inner = cell.strip()
    if len(inner) < 2 or inner[0] != '"' or inner[-1] != '"':
        return cell
    content = inner[1:-1].replace('""', "\0")
    return cell if '"' in content else content.replace("\0", '"')


def _quoted_rows(text: str, mark: str, where: str) -> Iterator[_Cells]:
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number].rstrip("\r")
        number += 1
        if '"' not in line:  # nearly all
            if line.strip():
                cells = line.split(mark)
                yield _Cells(number, cells, _starts(cells), line)
            continue
        reader = _Quoted(lines, number - 1, mark, where)
        cells = reader.row()
        if any(cell.strip() for cell in cells):
            yield _Cells(number, cells, [], "")
        number = reader.line + 1


class _Quoted:
    """Parses one row with quotation marks, from `line` on; afterwards `line` is the row's last line."""

    def __init__(self, lines: Sequence[str], line: int, mark: str, where: str):
        self.lines, self.line, self.mark, self.where = lines, line, mark, where
        self.rest = lines[line].rstrip("\r")  # the part of the line still to be read

    def row(self) -> list[str]:
        cells = []
        while True:
            begins = self.rest.lstrip(" ")
            cells.append(self._quoted_cell(begins[1:]) if begins.startswith('"') else self._bare_cell())
            if not self.rest:
                return cells
            self.rest = self.rest[1:]  # the delimiter
            if not self.rest:
                return [*cells, ""]

    def _bare_cell(self) -> str:
        cell, found, rest = self.rest.partition(self.mark)
        self.rest = found + rest
        return cell

    def _quoted_cell(self, rest: str) -> str:
        first, column = self.line + 1, len(self.lines[self.line].rstrip("\r")) - len(rest)
        begun = f"{self.where}: line {first}, column {column}: the cell that begins here with a quotation mark"
        content = ""
        while True:
            end = re.search(r'(?<!")(?:"")*"(?!")', rest)
            if end is not None:
                break
            content += rest + "\n"
            self.line += 1
            if self.line >= len(self.lines):
                raise UserError(f"{begun} never ends; {AS_CHARACTER}")
            rest = self.lines[self.line].rstrip("\r")
            self._refuse_row(rest, begun)
        content += rest[: end.end() - 1]
        self.rest = rest[end.end() :].lstrip(" ")
        if self.rest and not self.rest.startswith(self.mark):
            found = shown(self.rest[:40])
            raise UserError(f"{begun} ends before {found} in line {self.line + 1}; {AS_CHARACTER}")
        return content.replace('""', '"')

    def _refuse_row(self, line: str, begun: str) -> None:
        """Refuse a cell with a line break that contains what looks like a row: a stray quotation mark would hide
        rows."""
        cells = [cell.strip(' "').lower() for cell in line.split(self.mark)]
        if len(cells) > 1 and any(cell.endswith(PICTURE_SUFFIXES) for cell in cells):
            raise UserError(f"{begun} goes on in line {self.line + 1}, which looks like a row of its own")
