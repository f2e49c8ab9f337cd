"""Image stores: every picture of a split through the transform once, on all cores, in caption order.

What is done is on the disk at once: rows in the unfinished store, and beside it a journal with one line for each
picture. A run that was killed goes on behind the last picture of both.
"""

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np

from showtell import audit
from showtell.audit import Facts
from showtell.datasets.pictures import Pictures
from showtell.errors import UserError
from showtell.files import fingerprint
from showtell.images import ImageError, ResizeParams, Transform, open_image, to_rgb
from showtell.progress import log, track
from showtell.store import RowWriter

CHUNK = 16  # pictures handed to a worker at once: a few MB of rows, so that the hand-over costs little
LOOK_AHEAD = 3  # chunks per worker under way: enough that none waits, and all that is ever held in memory
INLINE = 64  # fewer pictures than this are done sooner than workers are started

Chunk = tuple[list[Facts], np.ndarray]


def one(pictures: Pictures, transform: Transform, file: str) -> tuple[Facts, np.ndarray | None]:
    """Facts of one picture and its row, uint8 (3, size, size); None for the row when the picture cannot be used."""
    content = b""
    try:
        content = pictures.read(file)
        image = open_image(content)
        kinds = audit.traits(image)
        row = transform(to_rgb(image))
    except ImageError as error:
        return Facts(file, audit.content_hash(content), error.kind, str(error), [], ""), None
    except UserError as error:
        kind = "broken" if file in pictures else "missing"
        return Facts(file, "", kind, str(error), [], ""), None
    return Facts(file, audit.content_hash(content), "", "", kinds, hashlib.sha256(row).hexdigest()[:32]), row


def resize_chunk(pictures: Pictures, transform: Transform, files: Sequence[str]) -> Chunk:
    """`one` for several pictures; the rows of those that can be used, in order."""
    results = [one(pictures, transform, file) for file in files]
    rows = [row for _, row in results if row is not None]
    shape = (0, 3, transform.size, transform.size)
    return [facts for facts, _ in results], np.stack(rows) if rows else np.empty(shape, np.uint8)


_worker: tuple[Pictures, Transform]


def _start_worker(pictures: Pictures, transform: Transform) -> None:
    global _worker
    _worker = (pictures, transform)
    # A parent that is killed outright cannot stop its workers, which would wait for work for ever.
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _in_worker(files: Sequence[str]) -> Chunk:
    return resize_chunk(*_worker, files)


@contextmanager
def workers(
    pictures: Pictures, transform: Transform, total: int, count: int | None = None
) -> Iterator[Executor | None]:
    """A pool of `count` processes (default: one for each core that this process may use); None for little work."""
    count = len(os.sched_getaffinity(0)) if count is None else count
    if count < 2 or total < INLINE:
        yield None
        return
    # Spawned, not forked: a fork of a process with threads (a progress bar is one) can hang.
    pool = ProcessPoolExecutor(count, get_context("spawn"), _start_worker, (pictures, transform))
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError("a worker process died (for want of memory?); run the same command again to go on") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: Executor | None, work: Callable[..., Chunk], files: Sequence[str], ahead: int) -> Iterator[Chunk]:
    """Results in the order of `files`, never more than `ahead` chunks under way."""
    chunks = (files[start : start + CHUNK] for start in range(0, len(files), CHUNK))
    if pool is None:
        yield from map(work, chunks)
        return
    pending: deque[Future] = deque()
    for chunk in chunks:
        pending.append(pool.submit(work, chunk))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


class Journal:
    """One JSON line for each picture that is done; the last line of a killed run may be torn and is dropped."""

    def __init__(self, path: Path):
        self.path = path
        self.facts: list[Facts] = []
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:
                self.facts.append(Facts(*json.loads(line)))

    def good(self) -> int:
        return sum(1 for f in self.facts if not f.problem)

    def cut(self, rows: int) -> None:
        """Keep the pictures whose rows are within the first `rows`."""
        while self.good() > rows:
            self.facts.pop()
        self.path.write_text("".join(map(_line, self.facts)))

    def add(self, facts: Sequence[Facts]) -> None:
        with open(self.path, "a") as file:
            file.write("".join(map(_line, facts)))
        self.facts += facts


def _line(facts: Facts) -> str:
    return json.dumps(facts) + "\n"


def resize_split(
    split: str,
    files: Sequence[str],
    pictures: Pictures,
    transform: Transform,
    place: Path,
    pool: Executor | None = None,
) -> list[Facts]:
    """Fill `place/<split>.h5.part` with the rows of `files` that can be used; facts of all, in order."""
    writer = RowWriter(place / f"{split}.h5.part", "images", len(files), (3, transform.size, transform.size), np.uint8)
    journal = Journal(place / f"{split}.facts")
    if journal.good() < writer.done:
        raise UserError(f"{place} is damaged; delete it and run the same command again")
    journal.cut(writer.done)
    work = _in_worker if pool else lambda chunk: resize_chunk(pictures, transform, chunk)
    ahead = LOOK_AHEAD * getattr(pool, "_max_workers", 1)
    rest = files[len(journal.facts) :]
    for facts, rows in track(_in_order(pool, work, rest, ahead), f"resize {split}", -(-len(rest) // CHUNK)):
        journal.add(facts)  # before the rows: what the store counts, the journal knows
        writer.append(rows)
    return journal.facts


def finish_split(
    split: str, path: Path, entries: Sequence[dict[str, Any]], facts: Sequence[Facts], transform: Transform, place: Path
) -> None:
    """Put the filled store in its place, its rows named and its content fingerprinted."""
    writer = RowWriter(place / f"{split}.h5.part", "images", len(facts), (3, transform.size, transform.size), np.uint8)
    ids = [entry["image_id"] for entry, f in zip(entries, facts, strict=True) if not f.problem]
    attrs = {
        "transform": json.dumps(transform.to_dict()),
        "content": hashlib.sha256("".join(f.row for f in facts).encode()).hexdigest(),
        "captions": captions_fingerprint(entries),
    }
    writer.finish(path, ids, attrs)


def captions_fingerprint(entries: Sequence[dict[str, Any]]) -> str:
    """Names which images a split consists of, in which order."""
    return fingerprint([[str(entry["image_id"]), entry["file"]] for entry in entries])


def refuse_broken(facts: dict[str, list[Facts]], params: ResizeParams) -> None:
    """`UserError` that lists every unusable picture, unless they are to be skipped; or when a split has none left."""
    bad = [f for found in facts.values() for f in found if f.problem]
    if bad and params.broken == "error":
        for f in bad:
            log(f"{f.file}: {f.problem}: {f.reason}")
        names = ", ".join(f.file for f in bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(f"{len(bad)} pictures cannot be used ({names}); mend them or set resize.broken: skip")
    for split, found in facts.items():
        if all(f.problem for f in found):
            raise UserError(f"no picture of split {split} can be used; the first: {found[0].file}: {found[0].reason}")
