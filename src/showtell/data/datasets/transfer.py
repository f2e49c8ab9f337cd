"""One HTTP transfer: the server's response is appended to the part already received, after checks that it belongs to
it.

Beside an unfinished file `name` are `name.part` (the bytes received) and `name.part.json` (their URL and version).
"""

import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event, Timer
from typing import Any

import httpx

from showtell.core.errors import UserError
from showtell.core.files import check_space, read_json, write_json
from showtell.core.progress import transfer_bar

LONGEST_REST = 600.0  # seconds; the longest Retry-After that is respected
# A source slower than this over this span counts as cut. A modem gives 5,000 bytes a second.
LEAST_RATE, RATE_SPAN = 4_000, 60.0  # bytes a second, seconds
HEADERS_SPAN = 120.0  # seconds for the answer to begin: connection, redirects and headers
clock = time.monotonic
GONE = (400, 401, 402, 403, 404, 405, 406, 410, 451)  # asking again gives the same answer


@dataclass(frozen=True)
class RemoteFile:
    """A file, its URLs in the order to try them, and its size and checksums."""

    name: str
    urls: tuple[str, ...]
    size: int | None = None  # bytes
    sha256: str | None = None
    md5: str | None = None
    most: int = 16 << 30  # greatest accepted size where the publisher gives none

    @property
    def verifiable(self) -> bool:
        return self.sha256 is not None or self.md5 is not None


class SourceError(Exception):
    """This source cannot provide the file: try the next one."""


class CutError(Exception):
    """The connection was cut: retry this source. `wait` is its Retry-After, in seconds."""

    def __init__(self, message: str, wait: float = 0.0):
        super().__init__(message)
        self.wait = wait


class SlowError(CutError):
    """The source is too slow."""


class Pace:
    """Measures the rate: `SlowError` below `LEAST_RATE`, `SourceError` after the deadline of the whole file."""

    def __init__(self, deadline: float):
        self.deadline, self.since, self.received = deadline, clock(), 0

    def add(self, received: int) -> None:
        now = clock()
        self.received += received
        if now > self.deadline:
            raise SourceError("too slow: the file did not come in the longest time that a download may take")
        if now - self.since >= RATE_SPAN:
            rate = self.received / (now - self.since)
            if rate < LEAST_RATE:
                raise SlowError(f"{rate:,.0f} bytes a second, less than {LEAST_RATE:,}")
            self.since, self.received = now, 0


def transfer(client: httpx.Client, file: RemoteFile, url: str, part: Path, deadline: float = math.inf) -> None:
    """Append to `part` until the file is complete; bytes that `part` has are not requested again.

    `deadline` is the time of `clock` at which the whole file must be complete.
    """
    start = _resumable(file, url, part)
    if start and start == file.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        validator = _validator(part)
        if validator:  # with If-Range, another version of the file is sent completely
            headers["If-Range"] = validator
    with ExitStack() as open_response:
        with _in_time(HEADERS_SPAN) as trace:
            response = open_response.enter_context(
                client.stream("GET", url, headers=headers, extensions={"trace": trace})
            )
        accepted = _accept(response, file, part, start)
        if accepted is None:
            return
        start = accepted
        total = _announced(response, start)
        if file.size is not None and total is not None and total != file.size:
            raise SourceError(f"offers {total:,} bytes, {file.size:,} are expected")
        if file.size is None and total is not None and total > file.most:
            raise SourceError(f"offers {total:,} bytes, at most {file.most:,} are accepted")
        limit = file.size if file.size is not None else total
        check_space(part.parent, max(0, (limit or 0) - start))
        _remember(part, url, response)
        _receive(response, file, part, start, limit, Pace(deadline))


@contextmanager
def _in_time(seconds: float) -> Iterator[Callable[[str, Any], None]]:
    """`SlowError` when the code within takes longer. httpx restarts its timeout with every byte: a server that sends
    one byte of its headers a minute would block for days.

    Yields a `trace` function for httpx that records open sockets; they are closed at the timeout.
    """
    streams: list[Any] = []
    over = Event()

    def trace(event: str, info: Any) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            streams.append(info["return_value"])

    def shut() -> None:
        over.set()
        for stream in list(streams):
            with suppress(OSError, AttributeError):  # closed already, or no socket
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    timer = Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield trace
    except httpx.HTTPError as error:
        if over.is_set():
            raise SlowError(f"no whole answer in {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


def _accept(response: httpx.Response, file: RemoteFile, part: Path, start: int) -> int | None:
    """The offset of this response's bytes; None when `part` is complete. Raises for errors."""
    status = response.status_code
    if status == 206:
        if _content_range(response)[0] != start:
            forget(part)
            raise CutError("the server sent another range than was asked for")
        return start
    if status == 200:  # no ranges here, or another version of the file
        return 0
    if status == 416:  # nothing after `start`: complete, or longer than the file
        if start and _content_range(response)[1] == start and (file.size in (None, start)):
            return None
        forget(part)
        raise CutError("the server refused the range")
    if status in GONE:
        raise SourceError(f"HTTP {status} {response.reason_phrase}".strip())
    raise CutError(f"HTTP {status} {response.reason_phrase}".strip(), _retry_after(response))


def _receive(response: httpx.Response, file: RemoteFile, part: Path, start: int, limit: int | None, pace: Pace) -> None:
    """Write the body after the first `start` bytes; at most one block beyond `limit` or the greatest accepted size."""
    # iter_raw without a chunk size yields every byte that came before a cut; with one, the tail is lost. Servers that
    # send a .gz file with `Content-Encoding: gzip` mean the file itself, so these are read raw as well.
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    encoded = encoding != "identity" and not file.name.endswith(("gz", "bz2", "xz"))
    if encoded and start:
        forget(part)
        raise CutError(f"the server sends a piece in {encoding} encoding")
    with open(part, "r+b" if start else "wb") as target, transfer_bar(file.name, limit, start) as advance:
        target.seek(start)
        target.truncate()
        for block in response.iter_bytes() if encoded else response.iter_raw():
            target.write(block)
            start += len(block)
            advance(len(block))
            pace.add(len(block))
            if start > (file.size or file.most):
                break
            if limit is not None and start > limit and not encoded:
                break
        target.flush()
        os.fsync(target.fileno())
    if file.size is None and start > file.most:
        forget(part)
        raise SourceError(f"sends more than the {file.most:,} bytes that are accepted")
    if limit is not None and start < limit and not encoded:
        raise CutError(f"the connection ended after {start:,} of {limit:,} bytes")


def _resumable(file: RemoteFile, url: str, part: Path) -> int:
    """The number of bytes of `part` that can be kept: 0 when they may belong to another version."""
    have = size_of(part)
    if have and not file.verifiable and (_noted(part).get("url") != url or not _validator(part)):
        have = 0  # without a checksum a mixture of two versions would not be detected
    if file.size is not None and have > file.size:
        have = 0
    return have


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _noted(part: Path) -> dict:
    try:
        noted = read_json(_note(part))
    except UserError:
        return {}
    return noted if isinstance(noted, dict) else {}


def _validator(part: Path) -> str | None:
    """The version of `part`: a strong entity tag, else the date of last change."""
    validator = _noted(part).get("validator")
    return validator if isinstance(validator, str) and _sendable(validator) else None


def _sendable(header: str) -> bool:
    """Whether a value can be sent back as a header: servers send arbitrary bytes."""
    return header.isascii() and header.isprintable() and 0 < len(header) <= 1024


def _remember(part: Path, url: str, response: httpx.Response) -> None:
    tag = response.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    write_json(_note(part), {"url": url, "validator": validator})


def forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _announced(response: httpx.Response, start: int) -> int | None:
    """Size of the whole file according to the server; None without it, or when it is that of an encoded form."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None
    length = response.headers.get("Content-Length", "")
    size = _count(length)
    return start + size if size is not None else _content_range(response)[1]


def _count(text: str) -> int | None:
    """A number of bytes from a header; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """First byte and total of `Content-Range: bytes 5-9/10` or `bytes */10`; None for missing values."""
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return _count(span.partition("-")[0].strip()), _count(total.strip())


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return min(float(value[:18]), LONGEST_REST)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()), LONGEST_REST)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def text_of(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
