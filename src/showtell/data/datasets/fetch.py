"""Downloads that survive cut connections and kills; a file gets its final name when it is complete and verified.

A file with its final name was verified before it was renamed.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from showtell.core.errors import UserError
from showtell.core.files import check_space, sweep
from showtell.core.progress import log, transfer_bar
from showtell.data.datasets import transfer as transferring
from showtell.data.datasets.transfer import (
    CutError,
    RemoteFile,
    SlowError,
    SourceError,
    forget,
    size_of,
    text_of,
    transfer,
)

ATTEMPTS = 6  # per source without a new byte; about half a minute with the waits below
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds, doubled from one attempt to the next
# Seconds for one file from one source: COCO's larger archive takes 30 hours over a line of 1 Mbit/s.
LONGEST_DOWNLOAD = 48 * 3600.0
TIMEOUT = httpx.Timeout(30.0, read=60.0)  # seconds without an answer of the server


def fetch_all(files: Sequence[RemoteFile], folder: Path, mirror: str | None = None) -> list[Path]:
    """`fetch` for several files, after checking that the disk has room for all of them."""
    missing = [file for file in files if not (folder / file.name).exists()]
    check_space(folder, sum(max(0, (file.size or 0) - size_of(folder / f"{file.name}.part")) for file in missing))
    return [fetch(file, folder, mirror) for file in files]


def fetch(
    file: RemoteFile, folder: Path, mirror: str | None = None, sleep: Callable[[float], None] = time.sleep
) -> Path:
    """`folder/name`, complete and verified, from the first source that has it; the `UserError` lists every answer.

    `mirror` is the URL of a folder that is tried before the file's own sources.
    """
    path = Path(folder) / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    urls = ([f"{mirror.rstrip('/')}/{file.name}"] if mirror else []) + list(file.urls)
    with _alone(path):
        sweep(path.parent)  # a process killed while it noted how far it was leaves that note half-written
        if path.exists():
            return path
        answers = []
        for url in urls:
            try:
                _from_source(file, url, path, sleep)
                return path
            except SourceError as error:
                answers.append(f"{url}: {error}")
                log(f"{file.name}: {answers[-1]}")
            except OSError as error:
                raise UserError(f"cannot write {path}: {error.strerror}; run the same command again then") from None
    raise UserError(f"cannot download {file.name}; " + "; ".join(answers or ["it has no source"]))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file's lock; a second run waits for the first and then finds the file."""
    lock = FileLock(path.resolve().with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"{path.name}: another run is downloading it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_source(file: RemoteFile, url: str, path: Path, sleep: Callable[[float], None]) -> None:
    """Download from one source, with retries; `SourceError` when it cannot provide the file."""
    part = path.with_name(f"{path.name}.part")
    attempt, mismatches, deadline = 0, 0, transferring.clock() + LONGEST_DOWNLOAD
    while True:
        before = size_of(part)
        try:
            with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
                transfer(client, file, url, part, deadline)
            _verify(file, part)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise SourceError(text_of(error)) from None
        except (CutError, httpx.HTTPError) as error:
            brought = size_of(part) > before and not isinstance(error, SlowError)
            attempt = 1 if brought else attempt + 1
            if attempt >= ATTEMPTS:
                raise SourceError(f"gave up after {attempt} attempts: {text_of(error)}") from None
            wait = max(min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT), getattr(error, "wait", 0.0))
            log(f"{file.name}: {text_of(error)}; {size_of(part):,} bytes so far, again in {wait:.0f} s")
            sleep(wait)
        except _WrongContent as error:
            # Content from another version, or damaged in transfer, gets one retry from scratch; a wrong file does not.
            forget(part)
            mismatches += 1
            if mismatches > 1 or before == 0:
                raise SourceError(str(error)) from None
            log(f"{file.name}: {error}; starting over")
        else:
            break
    os.replace(part, path)
    forget(part)


class _WrongContent(Exception):
    """The content is complete but has another size or checksum than the file."""


def _verify(file: RemoteFile, part: Path) -> None:
    """Raise `_WrongContent` unless `part` has the size and checksum of `file`."""
    problem = mismatch(part, file)
    if problem:
        raise _WrongContent(problem)


def mismatch(path: Path, file: RemoteFile) -> str | None:
    """How `path` differs from the expected `file` (size, SHA-256, else MD5); None when it does not."""
    size = size_of(path)
    if file.size is not None and size != file.size:
        return f"{size:,} bytes, {file.size:,} are expected"
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if expected is None:
        return None
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as content, transfer_bar(f"verifying {file.name}", size) as advance:
        while block := content.read(1 << 20):
            digest.update(block)
            advance(len(block))
    return None if digest.hexdigest() == expected else f"wrong checksum ({kind} {digest.hexdigest()}, not {expected})"
