"""One stage in several processes, on one machine or many: who does what, and how results are exchanged.

Every process runs the whole stage. Expensive work is divided, its results are gathered, and only the main process
(rank 0) writes. The stage that was started is the main process: it starts the workers on its machine, and they end with
it. `torchrun` starts all processes itself, also on several machines that share the repository's folder. In a single
process these functions do nothing.
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
from showtell.core.errors import UserError
from showtell.core.files import alive
from showtell.core.machine import START, cores, end_with_parent
from showtell.core.precision import accelerated, device
from showtell.core.stage import as_stage, naming_memory
from showtell.core.workplace import ROOT, Workplace

T = TypeVar("T")


def launch(main: Callable[[], str | None], usually: int = 2, memory: str = "") -> None:
    """`run_stage` in as many processes as torchrun has started, or else in `wanted(usually)`.

    `memory`: which setting to lower when memory runs out, for the error message.
    """
    work = partial(_within_memory, main, memory)
    torchrun = "LOCAL_RANK" in os.environ
    errors.run(lambda: _under_torchrun(main, work) if torchrun else _launch(main, work, wanted(usually)))


def _within_memory(main: Callable[[], str | None], remedy: str) -> str | None:
    with naming_memory(Path(inspect.getfile(main)).stem, remedy):
        return main()


def wanted(usually: int) -> int:
    """SHOWTELL_PROCESSES; if it is not set, `usually` on a processor with at least as many cores, else one.

    Two processes get through more images than one with all threads: layers on small images are short, and threads wait
    for one another after each. More than two would leave each process few images to compute batch statistics over.
    """
    asked = os.environ.get("SHOWTELL_PROCESSES")
    if asked is None:
        return 1 if accelerated() or cores() < usually else usually
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(f"SHOWTELL_PROCESSES = {asked!r}: it must be a number of processes, 1 or more")
    return int(asked)


def _launch(main: Callable[[], str | None], work: Callable[[], str | None], count: int) -> None:
    as_stage(main, work if count == 1 else lambda: _as_first(work, count))


def _as_first(main: Callable[[], str | None], count: int) -> str | None:
    """Run `main` here as the main process, rank 0 of `count`."""
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
        except (RuntimeError, OSError):  # raised by a collective when another process has ended
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
    """Path of the file by which processes find each other. Files left by killed processes are removed."""
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
    """Why the first failed worker failed, after waiting up to `patience` seconds for each (None: until it ends)."""
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
    """Run `main` as a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C and ends the workers
    end_with_parent()

    def run() -> None:
        _meet(number, count, meeting)
        main()

    status = _in_silence(run, number, reasons.put)
    os._exit(status)  # at once: files inherited from the main process are not to be closed here


def _in_silence(run: Callable[[], Any], number: int, tell: Callable[[str], Any]) -> int:
    """Exit status of a worker. Its output is discarded, as the main process prints the same; `tell` gets its error."""
    with open(os.devnull, "w") as silence, redirect_stderr(silence):
        try:
            run()
            return 0
        except Exception as error:
            tell(f"process {number}: {errors.explained(error) or traceback.format_exc()}")
    return 1


def _meet(number: int, count: int, meeting: Path) -> None:
    """Initialise `torch.distributed` as rank `number` of `count` on this machine, with an equal share of its cores."""
    if not accelerated() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // count))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host name may not resolve
    store = distributed.FileStore(str(meeting), count)  # by path: in a URL some characters have a meaning
    _join(number, store=store, rank=number, world_size=count)
    distributed.barrier()  # if one failed before all are connected, gloo would print errors of its own


def _join(local: int, **meeting: Any) -> None:
    """Initialise the process group, with GPU number `local` of this machine if it has any."""
    where = device().type
    if where != "cpu":
        torch.accelerator.set_device_index(local)
    distributed.init_process_group(distributed.get_default_backend_for_device(where), **meeting)


def _under_torchrun(main: Callable[[], str | None], work: Callable[[], str | None]) -> int | None:
    """Run `main` as one of the processes that torchrun has started."""
    _join(int(os.environ["LOCAL_RANK"]))
    try:
        if not is_main():
            return _in_silence(work, rank(), partial(print, file=sys.stderr))
        as_stage(main, work)
        return None
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """This process's rank, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """The number of processes (world size)."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the main process (rank 0), the only one that writes."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's share of `items`: every `world()`-th, from its rank on."""
    return items[rank() :: world()]


def fair(count: int, most: int) -> int:
    """Batch size, at most `most`, at which every process gets a batch of `count` items."""
    return max(1, min(most, -(-count // world())))


def all_gather(results: Sequence[T]) -> list[T]:
    """The results of all processes for their `share`, in the order of the whole sequence."""
    if world() == 1:
        return list(results)
    everybody: list[Any] = [None] * world()
    distributed.all_gather_object(everybody, list(results))
    nothing = object()
    return [result for result in chain(*zip_longest(*everybody, fillvalue=nothing)) if result is not nothing]


def gather_to_main(result: T) -> list[T]:
    """On the main process the results of all, by rank; on the workers an empty list."""
    if world() == 1:
        return [result]
    everybody: list[Any] = [None] * world()
    distributed.gather_object(result, everybody if is_main() else None)
    return everybody if is_main() else []


def broadcast(compute: Callable[[], T]) -> T:
    """The result of `compute`, called on the main process alone, on all processes."""
    if world() == 1:
        return compute()
    box: list[Any] = [compute() if is_main() else None]
    distributed.broadcast_object_list(box)
    return box[0]


@contextmanager
def shared_workplace(place: AbstractContextManager[Workplace]) -> Iterator[Workplace]:
    """The main process's workplace, for all processes; only the main process holds the lock."""
    if is_main():
        with place as held:
            broadcast(lambda: str(held.folder))
            yield held
    else:
        yield Workplace(Path(broadcast(str)))
