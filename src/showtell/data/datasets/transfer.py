"""One HTTP transfer: what a server sends, appended to what came before, and nothing that does not belong there.

Beside an unfinished file `name` lie `name.part` (what has come so far) and `name.part.json` (from where, and which
version of it).
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

LONGEST_REST = 600.0  # seconds; a server that asks for more is asked again after these
# A source that sends less than this over this span is as good as cut. A telephone line brings 5,000 bytes a second.
LEAST_RATE, RATE_SPAN = 4_000, 60.0  # bytes a second, seconds
HEADERS_SPAN = 120.0  # seconds for the answer to begin: connection, redirects and headers
clock = time.monotonic
GONE = (400, 401, 402, 403, 404, 405, 406, 410, 451)  # asking again gives the same answer


@dataclass(frozen=True)
class RemoteFile:
    """A file, the URLs that have it in the order to try them, and what it must be like."""

    name: str
    urls: tuple[str, ...]
    size: int | None = None  # bytes
    sha256: str | None = None
    md5: str | None = None
    most: int = 16 << 30  # bytes that are accepted where the publisher gives no size

    @property
    def verifiable(self) -> bool:
        return self.sha256 is not None or self.md5 is not None


class SourceError(Exception):
    """This source cannot give the file: go on with the next."""


class CutError(Exception):
    """The source gave up on the way: ask it again. `wait` is how long it wants to be left alone, in seconds."""

    def __init__(self, message: str, wait: float = 0.0):
        super().__init__(message)
        self.wait = wait


class SlowError(CutError):
    """The source sends, but so little that it would take days."""


class Pace:
    """Watches what comes in: `SlowError` below `LEAST_RATE`, `SourceError` when the time for the whole file is over."""

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
    """Append to `part` until the server has no more; what `part` holds already is not asked for again.

    `deadline` is the time of `clock` by which the whole file must be there.
    """
    start = _resumable(file, url, part)
    if start and start == file.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        validator = _validator(part)
        if validator:  # another version of the file is sent whole instead of a piece that does not fit
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
    """`SlowError` when what is done within takes longer. A timeout of httpx ends with each byte that comes: a server
    that sends one byte of its headers a minute would hold it for days.

    What is yielded is the `trace` of httpx that tells which sockets are open; they are shut when the time is over.
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
    """Where the bytes of this response belong; None when `part` is complete. Raises on what is no answer."""
    status = response.status_code
    if status == 206:
        if _content_range(response)[0] != start:
            forget(part)
            raise CutError("the server sent another range than was asked for")
        return start
    if status == 200:  # no ranges here, or another version of the file
        return 0
    if status == 416:  # nothing behind `start`: complete, or longer than the file is
        if start and _content_range(response)[1] == start and (file.size in (None, start)):
            return None
        forget(part)
        raise CutError("the server refused the range")
    if status in GONE:
        raise SourceError(f"HTTP {status} {response.reason_phrase}".strip())
    raise CutError(f"HTTP {status} {response.reason_phrase}".strip(), _retry_after(response))


def _receive(response: httpx.Response, file: RemoteFile, part: Path, start: int, limit: int | None, pace: Pace) -> None:
    """Write the body behind the first `start` bytes; never more than one block beyond `limit` or what is accepted."""
    # iter_raw without a chunk size hands over every byte that came before a cut; with one, the tail is lost. Servers
    # that name a .gz file `Content-Encoding: gzip` mean the file itself, so those are taken raw as well.
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
    """How many bytes of `part` can be kept: none when they may belong to something else."""
    have = size_of(part)
    if have and not file.verifiable and (_noted(part).get("url") != url or not _validator(part)):
        have = 0  # nothing would notice if the two halves did not belong together
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
    """What names the version that `part` is of: a strong entity tag, else the date of last change."""
    validator = _noted(part).get("validator")
    return validator if isinstance(validator, str) and _sendable(validator) else None


def _sendable(header: str) -> bool:
    """Whether a value can be sent back as a header: servers send bytes of any kind."""
    return header.isascii() and header.isprintable() and 0 < len(header) <= 1024


def _remember(part: Path, url: str, response: httpx.Response) -> None:
    tag = response.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    write_json(_note(part), {"url": url, "validator": validator})


def forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _announced(response: httpx.Response, start: int) -> int | None:
    """Size of the whole file as the server tells it; None when it does not, or tells that of an encoded form."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None
    length = response.headers.get("Content-Length", "")
    size = _count(length)
    return start + size if size is not None else _content_range(response)[1]


def _count(text: str) -> int | None:
    """A number of bytes as headers spell it; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _content_range(response: httpx.Response) -> tuple[int | None, int | None]:
    """First byte and total of `Content-Range: bytes 5-9/10` or `bytes */10`; None for what is not told."""
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
