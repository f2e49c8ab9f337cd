"""One stage in several processes, on one machine or many: who does what, and how they agree.

Every process runs the whole stage. Work that costs time is shared out, its results are exchanged, and the first process
alone writes. The stage itself is that first process: it starts the others on its machine, and they end with it.
`torchrun` starts all of them, also across machines that share the repository's folder. In a single process everything
here does nothing.
"""

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from functools import partial
from itertools import chain, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from showtell.core import errors
from showtell.core.cores import START, cores, end_with_parent
from showtell.core.errors import UserError
from showtell.core.files import alive
from showtell.core.precision import accelerated, device
from showtell.core.stage import as_stage, naming_memory
from showtell.core.workplace import ROOT, Workplace

T = TypeVar("T")


def launch(main: Callable[[], str | None], usually: int = 2, memory: str = "") -> None:
    """`run_stage` in as many processes as torchrun has started or `wanted` says.

    `memory`: what to lower when there is too little of it, for the error.
    """
    work = partial(_within_memory, main, memory)
    torchrun = "LOCAL_RANK" in os.environ
    errors.run(lambda: _under_torchrun(main, work) if torchrun else _launch(main, work, wanted(usually)))


def _within_memory(main: Callable[[], str | None], remedy: str) -> str | None:
    with naming_memory(Path(inspect.getfile(main)).stem, remedy):
        return main()


def wanted(usually: int) -> int:
    """SHOWTELL_PROCESSES; without it `usually` on a processor of as many cores, else one.

    Two processes get through more images than one with all threads: the maps of small images are soon done, and threads
    wait for one another after each. More than two would have few images each to normalise over.
    """
    asked = os.environ.get("SHOWTELL_PROCESSES")
    if asked is None:
        return 1 if accelerated() or cores() < usually else usually
    if not asked.isdigit() or int(asked) < 1:
        raise UserError(f"SHOWTELL_PROCESSES = {asked!r}: it must be a number of processes, 1 or more")
    return int(asked)


def _launch(main: Callable[[], str | None], work: Callable[[], str | None], count: int) -> None:
    as_stage(main, work if count == 1 else lambda: _as_first(work, count))


def _as_first(main: Callable[[], str | None], count: int) -> str | None:
    """Run `main` here, as the first of `count` processes."""
    context: Any = get_context("spawn" if accelerated() else START)  # a GPU's driver does not survive a fork
    with meeting_point() as meeting:
        reasons = context.SimpleQueue()
        workers = [context.Process(target=_work, args=(main, k, count, meeting, reasons)) for k in range(1, count)]
        for worker in workers:
            worker.start()
        try:
            _meet(0, count, meeting)
            made = main()
            trouble = _trouble(workers, reasons)
        except (RuntimeError, OSError):  # what an exchange says when its other side is gone
            trouble = _trouble(workers, reasons, patience=1)
            if trouble is None:
                raise
        finally:
            for worker in workers:
                worker.kill()
            if distributed.is_initialized():
                distributed.destroy_process_group()
    if trouble is not None:
        raise UserError(trouble)
    return made


@contextmanager
def meeting_point() -> Iterator[Path]:
    """Path of a file by which processes find each other. Those of processes that were killed are removed."""
    for old in ROOT.glob("meeting-[1-9]*[0-9]"):
        if not alive(int(old.name.rpartition("-")[2])):
            old.unlink(missing_ok=True)
    path = ROOT.resolve() / f"meeting-{os.getpid()}"
    path.unlink(missing_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _trouble(workers: Sequence[Any], reasons: Any, patience: float | None = None) -> str | None:
    """Why the first of the others that failed did so, once they have ended or `patience` (seconds for each) is over."""
    for worker in workers:
        worker.join(patience)
    failed = [(number, worker.exitcode) for number, worker in enumerate(workers, start=1) if worker.exitcode]
    if not failed:
        return None
    if not reasons.empty():
        return reasons.get()
    number, status = failed[0]
    return f"process {number} ended with status {status} (out of memory?); SHOWTELL_PROCESSES=1 needs less"


def _work(main: Callable[[], str | None], number: int, count: int, meeting: Path, reasons: Any) -> None:
    """Run `main` as one of the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first, which ends the others
    end_with_parent()

    def run() -> None:
        _meet(number, count, meeting)
        main()

    status = _in_silence(run, number, reasons.put)
    os._exit(status)  # at once: what the first process had open is not this one's to tidy


def _in_silence(run: Callable[[], Any], number: int, tell: Callable[[str], Any]) -> int:
    """Status of a process that is not the first: what it would say, that one says, but `tell` hears why it failed."""
    with open(os.devnull, "w") as silence, redirect_stderr(silence):
        try:
            run()
            return 0
        except Exception as error:
            tell(f"process {number}: {errors.explained(error) or traceback.format_exc()}")
    return 1


def _meet(number: int, count: int, meeting: Path) -> None:
    """Become one of `count` processes of this machine, with a fair share of its cores."""
    if not accelerated() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // count))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name may lead nowhere
    store = distributed.FileStore(str(meeting), count)  # by path: as a URL, some folders' names mean something else
    _join(number, store=store, rank=number, world_size=count)
    distributed.barrier()  # one that failed before all are connected would make gloo complain on its own


def _join(local: int, **meeting: Any) -> None:
    """Join the others, with GPU number `local` of this machine where it has some."""
    where = device().type
    if where != "cpu":
        torch.accelerator.set_device_index(local)
    distributed.init_process_group(distributed.get_default_backend_for_device(where), **meeting)


def _under_torchrun(main: Callable[[], str | None], work: Callable[[], str | None]) -> int | None:
    """Run `main` as one of those that torchrun has started."""
    _join(int(os.environ["LOCAL_RANK"]))
    try:
        if not is_main():
            return _in_silence(work, rank(), partial(print, file=sys.stderr))
        as_stage(main, work)
        return None
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """Every `world`-th of `items`, each one process's."""
    return items[rank() :: world()]


def fair(count: int, most: int) -> int:
    """Size of batches of `count` items, `most` at most, of which every process gets one."""
    return max(1, min(most, -(-count // world())))


def all_gather(results: Sequence[T]) -> list[T]:
    """What all made of their `share`, in the order of the whole."""
    if world() == 1:
        return list(results)
    everybody: list[Any] = [None] * world()
    distributed.all_gather_object(everybody, list(results))
    nothing = object()
    return [result for result in chain(*zip_longest(*everybody, fillvalue=nothing)) if result is not nothing]


def gather_to_main(result: T) -> list[T]:
    """On the first process what all of them hand in, by their number; on the others nothing."""
    if world() == 1:
        return [result]
    everybody: list[Any] = [None] * world()
    distributed.gather_object(result, everybody if is_main() else None)
    return everybody if is_main() else []


def broadcast(compute: Callable[[], T]) -> T:
    """What `compute` gives on the first process, for all; the others do not call it."""
    if world() == 1:
        return compute()
    box: list[Any] = [compute() if is_main() else None]
    distributed.broadcast_object_list(box)
    return box[0]


@contextmanager
def shared_workplace(place: AbstractContextManager[Workplace]) -> Iterator[Workplace]:
    """The first process's workplace, for all; it alone holds the lock."""
    if is_main():
        with place as held:
            broadcast(lambda: str(held.folder))
            yield held
    else:
        yield Workplace(Path(broadcast(str)))
