"""What a person sees while work goes on: a bar on a terminal, one plain line per milestone everywhere."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from showtell.core.terminal import printable

T = TypeVar("T")


def log(line: str) -> None:
    """One line, or a few, on stderr."""
    print(printable(line), file=sys.stderr, flush=True)


JOINERS = "\u200c\u200d"  # invisible, and part of how Persian, Hindi and others are spelt
SHOWN = 80  # characters of a value, or of another library's words, that a message repeats


def printable(text: str) -> str:
    """`text` with its control characters shown, not sent: file names and captions can hold commands to a terminal."""
    kept = "\n\t" + JOINERS
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def one_line(text: object, limit: int = SHOWN) -> str:
    """`text`, or an error's, as part of a message: printable, in one line of at most `limit` characters."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` under a progress bar; plain iteration when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def transfer_bar(description: str, total: int | None, done: int = 0) -> Iterator:
    """A bar for bytes (size, rate, time left). Yields `advance(count)`."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
