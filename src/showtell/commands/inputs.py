"""The images that a command line names: files, folders, globs, standard input and, if allowed, URLs."""

import glob
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from showtell.core.errors import UserError
from showtell.core.progress import log
from showtell.data.formats import passed_over

LARGEST_STREAM = 200 << 20  # bytes of one picture; the largest camera files are about half of that
TIMEOUT = 30  # seconds without an answer from a server
LONGEST_FETCH = 300.0  # seconds for all of a picture
clock = time.monotonic
MOST_REASONS = 5  # reasons for skipping files, in one line


class Source(NamedTuple):
    """One image to be read. `name` is for output; `problem`, if any, is why it cannot be read."""

    name: str
    problem: str | None = None

    @property
    def shown(self) -> str:
        """The name as printable text: file names are bytes that may not be valid text."""
        return os.fsencode(self.name).decode("utf-8", "replace")

    @property
    def stem(self) -> str:
        """A file name for outputs of this image."""
        stem = "stdin" if self.name == "-" else PurePosixPath(urlsplit(self.name).path).stem
        return stem or "image"

    def load(self) -> bytes:
        """The bytes of the file, of standard input or from the server; `UserError` when they cannot be read."""
        if self.problem is not None:
            raise UserError(self.problem)
        if self.name == "-":
            return bytes(_bounded("standard input", sys.stdin.buffer.read(LARGEST_STREAM + 1)))
        if _is_url(self.name):
            return _fetch(self.name)
        return _read(self.name)


def picture_sources(arguments: Sequence[str], allow_urls: bool) -> Iterator[Source]:
    """Every image that `arguments` name, in their order; those of a folder or a glob by name.

    An argument without images yields one `Source` whose `load` raises, so that the others are still processed.
    """
    for argument in arguments:
        if argument == "-":
            yield Source(argument)
        elif _is_url(argument):
            yield Source(argument, None if allow_urls else f"{argument}: URLs are fetched only with --allow-urls")
        elif Path(argument).is_dir():
            yield from _files(argument, sorted(Path(argument).rglob("*")), "no pictures in this folder")
        elif not Path(argument).exists() and glob.has_magic(argument):
            found = sorted(map(Path, glob.glob(argument, recursive=True)))
            yield from _files(argument, found, "no picture has such a name")
        else:
            yield Source(argument)


def _files(argument: str, paths: Sequence[Path], otherwise: str) -> Iterator[Source]:
    """The images among `paths`, by name; the number of other files is logged, with reasons."""
    found: list[Source] = []
    other: Counter[str] = Counter()
    for path in paths:
        if path.is_dir():
            continue
        reason = passed_over(path)
        if reason is None:
            found.append(Source(str(path)))
        else:
            other[reason] += 1
    if other:
        why = ", ".join(f"{count} {reason}" for reason, count in other.most_common(MOST_REASONS))
        log(f"{argument}: {other.total()} passed over: {why}")
    yield from found or [Source(argument, f"{argument}: {otherwise}")]


def _read(name: str) -> bytes:
    """The bytes of a file; of pipes only those that the shell made (`<(command)`) are read."""
    try:
        with open(name, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISFIFO(mode) and name.startswith(("/dev/fd/", "/proc/self/fd/")):
                os.set_blocking(file.fileno(), True)
            elif stat.S_ISDIR(mode):
                raise UserError(f"cannot read {name}: it is a folder")
            elif not stat.S_ISREG(mode):
                raise UserError(f"cannot read {name}: it is not a file; send it to standard input and name it -")
            return bytes(_bounded(name, file.read(LARGEST_STREAM + 1)))
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a FIFO would wait for a writer


def _is_url(argument: str) -> bool:
    return "://" in argument


def _fetch(url: str) -> bytes:
    import httpx  # imported late: slow, and needed only here

    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: only http and https URLs can be fetched")
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            content, end = bytearray(), clock() + LONGEST_FETCH
            for block in answer.iter_bytes():
                content += block
                _bounded(url, content)
                if clock() > end:
                    raise UserError(f"{url}: not all of it came in {LONGEST_FETCH:.0f} seconds")
            return bytes(content)
    except httpx.HTTPStatusError as error:
        raise UserError(f"{url}: the server answers {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(f"{url}: cannot be fetched: {error or type(error).__name__}") from None


def _bounded(name: str, content: bytes | bytearray) -> bytes | bytearray:
    if len(content) > LARGEST_STREAM:
        raise UserError(f"{name}: more than {LARGEST_STREAM >> 20} MB")
    return content
