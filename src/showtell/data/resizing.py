"""Image stores: every picture of a split transformed once, on all cores, in caption order.

Workers read, decode, resize and write each row directly to its offset in the unfinished store, and return a line of
facts for each picture, which is appended to a journal beside the store. After a kill, the next run continues after the
last picture in both journal and store.
"""

import array
import hashlib
import json
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from showtell.core.errors import UserError
from showtell.core.files import check_space, naming
from showtell.core.machine import START, cores, end_with_parent
from showtell.core.progress import log, track
from showtell.core.texts import Texts
from showtell.data import audit
from showtell.data.audit import Facts
from showtell.data.datasets.archive_entries import Address, read
from showtell.data.datasets.karpathy import check_sizes
from showtell.data.datasets.picture_files import Pictures
from showtell.data.near_duplicates import picture_hash
from showtell.data.store import RowWriter
from showtell.data.transform import ImageError, ResizeParams, Transform, open_image, to_rgb

PICTURES_PER_JOB = 16  # pictures per job: enough to make the overhead negligible
LOOK_AHEAD = 3  # jobs per worker in progress: enough to keep them busy; bounds memory
INLINE = 64  # fewer pictures than this are resized in this process: starting workers takes longer


class Listed(NamedTuple):
    """The images of a split in order, as `resize` needs them. `captions` is a hash of the list."""

    ids: Sequence[str]
    files: Sequence[str]
    captions: str


def listed(ids: Sequence[str], files: Sequence[str]) -> Listed:
    """A `Listed` from the ids and files of a split's images."""
    name = hashlib.sha256()
    for image_id, file in zip(ids, files, strict=True):
        name.update(json.dumps([image_id, file]).encode())
    return Listed(ids, files, name.hexdigest())


def one(file: str, place: Address | str, transform: Transform) -> tuple[Facts, np.ndarray | None]:
    """Facts of one picture and its row, uint8 (3, size, size); the row is None when the picture cannot be used.

    `place` is the address of its bytes, or the reason why there is none.
    """
    if isinstance(place, str):
        return Facts(file, "", "missing", place, [], 0), None
    content = b""
    try:
        content = read(place)
        image = open_image(content)
        kinds = audit.traits(image)
        row = transform(to_rgb(image))
    except ImageError as error:
        return Facts(file, audit.content_hash(content), error.kind, str(error), [], 0), None
    except UserError as error:  # an archive's entry that differs from its header
        return Facts(file, "", "broken", str(error), [], 0), None
    return Facts(file, audit.content_hash(content), "", "", kinds, zlib.crc32(row.data), picture_hash(row)), row


Work = tuple[int, list[tuple[str, Address | str]]]  # number of the first picture; file and place of each


def resize_chunk(writer: RowWriter, transform: Transform, work: Work) -> list[Facts]:
    """Write the rows of some pictures at their offsets; unusable ones leave a gap."""
    start, chunk = work
    found = []
    for number, (file, place) in enumerate(chunk, start):
        facts, row = one(file, place, transform)
        if row is not None:
            writer.write(number, row[None])
        found.append(facts)
    return found


def _start_worker() -> None:
    torch.set_num_threads(1)  # each core has a worker
    end_with_parent()


@contextmanager
def workers(total: int, count: int | None = None) -> Iterator[Executor | None]:
    """A pool of `count` processes (default: one for each core that this process may use); None for little work."""
    count = cores() if count is None else count
    if count < 2 or total < INLINE:
        yield None
        return
    pool = _start_pool(count)
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError("a worker process died (for want of memory?); run the same command again to go on") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_pool(count: int) -> ProcessPoolExecutor:
    """Start all workers now: they must be forked before any thread (of a progress bar, say) exists, or they could
    hang."""
    pool = ProcessPoolExecutor(count, get_context(START), _start_worker)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # idle threads of numeric libraries are counted, too
        pool.submit(int).result()
    return pool


def _in_order(pool: Executor | None, work: Callable[..., list[Facts]], jobs: Iterator[tuple]) -> Iterator[list[Facts]]:
    """Results in the order of `jobs`, with a limited number of jobs in progress."""
    if pool is None:
        yield from (work(*job) for job in jobs)
        return
    ahead = LOOK_AHEAD * cores()
    pending: deque[Future] = deque(pool.submit(work, *job) for job in islice(jobs, ahead))
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(work, *job) for job in islice(jobs, 1))


class Journal:
    """One JSON line of facts for each finished picture, in order; an incomplete last line is ignored."""

    def __init__(self, path: Path):
        self.path = path

    def __iter__(self) -> Iterator[Facts]:
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", newline="\n") as file:
            for line in file:
                if not line.endswith("\n"):
                    return
                yield Facts(*json.loads(line))

    def cut(self, count: int) -> int:
        """Keep the first `count` lines, or all if there are fewer; returns how many."""
        end = kept = 0
        with open(self.path, "ab+") as file:
            file.seek(0)
            for line in islice(file, count):
                if line.endswith(b"\n"):
                    end, kept = end + len(line), kept + 1
            file.truncate(end)
        return kept

    def add(self, facts: Sequence[Facts]) -> None:
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(f) + "\n" for f in facts))


def _writer(split: str, count: int, transform: Transform, place: Path) -> RowWriter:
    return RowWriter(place / f"{split}.h5.part", "images", count, (3, transform.size, transform.size), np.uint8)


def resize_split(
    split: str,
    files: Sequence[str],
    pictures: Pictures,
    transform: Transform,
    place: Path,
    pool: Executor | None = None,
) -> Journal:
    """Fill `place/<split>.h5.part`, one row for each of `files`; the journal has the facts of each, in order."""
    writer = _writer(split, len(files), transform, place)
    journal = Journal(place / f"{split}.facts")
    done = journal.cut(writer.done)
    check_space(place, (len(files) - done) * writer.row_bytes)

    def jobs() -> Iterator[tuple[RowWriter, Transform, Work]]:
        for start in range(done, len(files), PICTURES_PER_JOB):
            part = files[start : start + PICTURES_PER_JOB]
            yield writer, transform, (start, [(f, _place(pictures, f)) for f in part])

    chunks = -(-(len(files) - done) // PICTURES_PER_JOB)
    for facts in track(_in_order(pool, resize_chunk, jobs()), f"resize {split}", chunks):
        journal.add(facts)
        done += len(facts)
        writer.mark(done, journal.path)
    return journal


def _place(pictures: Pictures, file: str) -> Address | str:
    try:
        return pictures.locate(file)
    except UserError as error:
        return str(error)


def finish_split(split: str, path: Path, images: Listed, journal: Journal, transform: Transform, place: Path) -> None:
    """Close the gaps of unusable pictures, add ids and fingerprint, and move the store to `path`."""
    writer = _writer(split, len(images.ids), transform, place)
    content, kept = hashlib.sha256(), array.array("q")
    for number, facts in enumerate(journal):
        if not facts.problem:
            kept.append(number)
            content.update(facts.row.to_bytes(4, "big"))
    if len(kept) < len(images.ids):
        writer.keep(kept)
    attrs = {
        "transform": json.dumps(transform.to_dict()),
        "content": content.hexdigest(),
        "captions": images.captions,
    }
    writer.finish(path, images.ids if len(kept) == len(images.ids) else Texts.of(images.ids[n] for n in kept), attrs)


def refuse_broken(journals: dict[str, Journal], params: ResizeParams) -> None:
    """`UserError` that lists the unusable pictures, unless they are to be skipped; or when a split has too few left."""
    bad = [facts for journal in journals.values() for facts in journal if facts.problem]
    if bad and params.broken == "error":
        for facts in bad:
            log(f"{facts.file}: {facts.problem}: {facts.reason}")
        names = ", ".join(facts.file for facts in bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(f"{len(bad)} pictures cannot be used ({names}); mend them or set resize.broken: skip")
    for split, journal in journals.items():
        if all(facts.problem for facts in journal):
            first = next(iter(journal))
            raise UserError(f"no picture of split {split} can be used; the first: {first.file}: {first.reason}")
    if bad:
        left = {split: sum(not facts.problem for facts in journal) for split, journal in journals.items()}
        where = f"without the {len(bad)} pictures that cannot be used (the first: {bad[0].file}: {bad[0].reason})"
        check_sizes(left, where, "mend them")
