"""The pictures that a command line names: files, folders, globs, standard input and, when asked for, URLs."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from showtell.core.errors import UserError

# Folders are searched for these; a file that is named itself may end in anything.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif")
LARGEST_STREAM = 200 << 20  # bytes from standard input or a URL; the largest camera files are about half of that
TIMEOUT = 30  # seconds without an answer from a server


class Source(NamedTuple):
    """One picture to be. `name` is what people call it; `problem`, if any, is why it cannot be read."""

    name: str
    problem: str | None = None

    @property
    def shown(self) -> str:
        """The name as text that can be printed: file names are bytes, and need not be any text."""
        return os.fsencode(self.name).decode("utf-8", "replace")

    @property
    def stem(self) -> str:
        """A file name for what is made of it."""
        stem = "stdin" if self.name == "-" else PurePosixPath(urlsplit(self.name).path).stem
        return stem or "image"

    def load(self) -> bytes:
        """What the file, standard input or the server holds; `UserError` when it cannot be had."""
        if self.problem is not None:
            raise UserError(self.problem)
        if self.name == "-":
            return bytes(_bounded("standard input", sys.stdin.buffer.read(LARGEST_STREAM + 1)))
        if _is_url(self.name):
            return _fetch(self.name)
        try:
            return Path(self.name).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {self.name}: {error.strerror}") from None


def picture_sources(arguments: Sequence[str], allow_urls: bool) -> Iterator[Source]:
    """Every picture that `arguments` name, in their order, those of a folder or a glob by name.

    An argument that names nothing yields one `Source` whose `load` raises, so that the others go on.
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
    shown = (path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    pictures = [Source(str(path)) for path in shown if path.is_file()]
    yield from pictures or [Source(argument, f"{argument}: {otherwise}")]


def _is_url(argument: str) -> bool:
    return "://" in argument


def _fetch(url: str) -> bytes:
    import httpx  # slow to import, and needed only here

    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: only http and https URLs can be fetched")
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            content = bytearray()
            for block in answer.iter_bytes():
                content += block
                _bounded(url, content)
            return bytes(content)
    except httpx.HTTPStatusError as error:
        raise UserError(f"{url}: the server answers {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(f"{url}: cannot be fetched: {error or type(error).__name__}") from None


def _bounded(name: str, content: bytes | bytearray) -> bytes | bytearray:
    if len(content) > LARGEST_STREAM:
        raise UserError(f"{name}: more than {LARGEST_STREAM >> 20} MB")
    return content
