"""The images that a command line names: files, folders, globs, standard input and, if allowed, URLs."""

import glob
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from showtell.commands.folder_walk import Unreadable, image_files, images_among, log_passed_over, matching
from showtell.core.errors import UserError
from showtell.core.files import without_waiting

LARGEST_STREAM = 200 << 20  # bytes of one picture; the largest camera files are about half of that
TIMEOUT = 30  # seconds without an answer from a server
LONGEST_FETCH = 300.0  # seconds for all of a picture
NO_NAME = "an empty name: it would be all of this folder, which is named by ."
clock = time.monotonic


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
        if self.name == "-":
            return "stdin"
        path = _path_of_url(self.name) if _is_url(self.name) else self.name
        return PurePosixPath(path).stem or "image"

    def load(self) -> bytes:
        """The bytes of the file, of standard input or from the server; `UserError` when they cannot be read."""
        if self.problem is not None:
            raise UserError(self.problem)
        if self.name == "-":
            return bytes(_bounded("standard input", standard_input().read(LARGEST_STREAM + 1)))
        if _is_url(self.name):
            return _fetch(self.name)
        return _read(self.name)


def standard_input() -> BinaryIO:
    """Standard input, for bytes; `UserError` where a service or `<&-` has closed it."""
    if sys.stdin is None:
        raise UserError("standard input is closed")
    return sys.stdin.buffer


def picture_sources(arguments: Sequence[str], allow_urls: bool) -> Iterator[Source]:
    """Every image that `arguments` name, in their order; those of a folder or a glob by name.

    An argument without images yields one `Source` whose `load` raises, and so does a folder that cannot be read, so
    that the others are still processed.
    """
    for argument in arguments:
        if argument == "-":
            yield Source(argument)
        elif not argument:
            yield Source(argument, NO_NAME)
        elif _is_url(argument):
            yield Source(argument, None if allow_urls else f"{argument}: URLs are fetched only with --allow-urls")
        elif os.path.isdir(argument):  # unlike pathlib, False for names that cannot be looked up: `load` tells why
            yield from _in_folder(argument)
        elif not os.path.exists(argument) and glob.has_magic(argument):
            other = Counter[str]()
            found = images_among(sorted(matching(argument, other)), other)
            yield from _told(argument, found, other, "no picture has such a name")
        else:
            yield Source(argument)


def _in_folder(folder: str) -> Iterator[Source]:
    """The images of a folder and of those below it, then those of them that cannot be read."""
    refusals: list[Unreadable] = []
    other = Counter[str]()
    found = sorted(image_files(Path(folder), refusals.append, other))
    if found or not refusals:
        yield from _told(folder, found, other, "no pictures in this folder")
    for refusal in refusals:
        yield Source(refusal.folder, refusal.problem)


def _told(argument: str, paths: Iterable[Path], other: Counter[str], otherwise: str) -> Iterator[Source]:
    """The images `paths` of an argument; the number of other files is logged, with reasons."""
    found = [Source(str(path)) for path in paths]
    log_passed_over(argument, other)
    yield from found or [Source(argument, f"{argument}: {otherwise}")]


def _read(name: str) -> bytes:
    """The bytes of a file; of pipes only those that the shell made (`<(command)`) are read."""
    try:
        with open(name, "rb", opener=without_waiting) as file:
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


def _is_url(argument: str) -> bool:
    return "://" in argument


def _path_of_url(url: str) -> str:
    """What follows the server's name, without query and fragment."""
    return url.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]


def _fetch(url: str) -> bytes:
    import httpx  # imported late: slow, and needed only here

    if url.partition("://")[0].lower() not in ("http", "https"):
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
