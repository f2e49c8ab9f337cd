"""One stage in several processes, on one machine or many: who does what, and how they agree.

Every process runs the whole stage. Work that costs time is shared out, its results are exchanged, and the first process
alone writes. The stage itself is that first process: it starts the others on its machine, and they end with it.
`torchrun` starts all of them, also across machines that share the repository's folder. In a single process everything
here does nothing.
"""

import ctypes
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from showtell import errors
from showtell.errors import UserError
from showtell.workplace import Workplace

T = TypeVar("T")

END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def launch(main: Callable[[], None], usually: int = 2) -> None:
    """Run a stage and exit with its status, in as many processes as torchrun has started or `wanted` says."""
    errors.run(lambda: _under_torchrun(main) if "LOCAL_RANK" in os.environ else _launch(main, wanted(usually)))


def wanted(usually: int) -> int:
    """SHOWTELL_PROCESSES; without it `usually` on a processor of as many cores, else one.

    Two processes get through more images than one with all threads: the maps of small images are soon done, and threads
    wait for one another after each. More than two would have few images each to normalise over.
    """
    asked = os.environ.get("SHOWTELL_PROCESSES")
    if asked is None:
        return 1 if torch.cuda.is_available() or _cores() < usually else usually
    if not asked.isdigit() or int(asked) < 1:
        raise UserError(f"SHOWTELL_PROCESSES = {asked!r}: it must be a number of processes, 1 or more")
    return int(asked)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _launch(main: Callable[[], None], count: int) -> int | None:
    """Run `main` here, as the first of `count` processes."""
    if count == 1:
        return main()
    # A fork has all modules loaded already; with a GPU's driver at work it would not survive.
    context = get_context("spawn" if torch.cuda.is_available() else "fork")
    with tempfile.TemporaryDirectory() as folder:
        meeting, reasons = f"file://{folder}/meeting", context.SimpleQueue()
        helpers = [context.Process(target=_help, args=(main, k, count, meeting, reasons)) for k in range(1, count)]
        for helper in helpers:
            helper.start()
        try:
            _join(0, count, meeting)
            status = main()
            for helper in helpers:
                helper.join()
            if not any(helper.exitcode for helper in helpers):
                return status
            failure = None
        except (RuntimeError, OSError) as error:  # what an exchange says when its other side is gone
            failure = error
            if not any(_has_failed(helper) for helper in helpers):
                raise
        finally:
            for helper in helpers:
                helper.kill()
            _leave()
        raise UserError(_reason(helpers, reasons)) from failure


def _has_failed(helper: Any) -> bool:
    helper.join(timeout=1)  # its end may be on its way
    return bool(helper.exitcode)


def _reason(helpers: Sequence[Any], reasons: Any) -> str:
    if not reasons.empty():
        return reasons.get()
    number, status = next((k, helper.exitcode) for k, helper in enumerate(helpers, start=1) if helper.exitcode)
    return f"process {number} ended with status {status} (out of memory?); SHOWTELL_PROCESSES=1 needs less"


def _help(main: Callable[[], None], number: int, count: int, meeting: str, reasons: Any) -> None:
    """Run `main` as one of the others, in silence: what they would say, the first one says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first, which ends the others
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)  # also when the first is killed
    status = 1
    with open(os.devnull, "w") as sys.stderr:
        try:
            _join(number, count, meeting)
            main()
            status = 0
        except UserError as error:
            reasons.put(f"process {number}: {error}")
        except Exception:
            reasons.put(f"process {number}: {traceback.format_exc()}")
    os._exit(status)  # at once: what the first process had open is not this one's to tidy


def _join(number: int, count: int, meeting: str) -> None:
    """Become one of `count` processes on this machine, with a fair share of its cores."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(number)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _cores() // count))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name may lead nowhere
    backend = "nccl" if cuda else "gloo"
    distributed.init_process_group(backend, init_method=meeting, rank=number, world_size=count)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _under_torchrun(main: Callable[[], None]) -> int | None:
    """Run `main` as one of those that torchrun has started, all but the first in silence."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    stderr = sys.stderr
    try:
        if first():
            return main()
        with open(os.devnull, "w") as sys.stderr:
            return main()
    except UserError as error:
        if first():
            raise
        print(f"process {rank()}: {error}", file=stderr)
        return 1
    except Exception:
        traceback.print_exc(file=stderr)
        return 1
    finally:
        sys.stderr = stderr
        _leave()


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """Every `world`-th of `items`, each one process's."""
    return items[rank() :: world()]


def fair(count: int, most: int) -> int:
    """Size of batches of `count` items, `most` at most, of which every process gets one."""
    return max(1, min(most, -(-count // world())))


def gathered(results: Sequence[T]) -> list[T]:
    """What all made of their `share`, in the order of the whole."""
    if world() == 1:
        return list(results)
    everybody: list[Any] = [None] * world()
    distributed.all_gather_object(everybody, list(results))
    nothing = object()
    return [result for result in chain(*zip_longest(*everybody, fillvalue=nothing)) if result is not nothing]


def for_first(result: T) -> list[T]:
    """On the first process what all of them hand in, by their number; on the others nothing."""
    if world() == 1:
        return [result]
    everybody: list[Any] = [None] * world()
    distributed.gather_object(result, everybody if first() else None)
    return everybody if first() else []


def agreed(compute: Callable[[], T]) -> T:
    """What `compute` gives on the first process, for all; the others do not call it."""
    if world() == 1:
        return compute()
    box = [compute() if first() else None]
    distributed.broadcast_object_list(box)
    return box[0]


@contextmanager
def together(place: AbstractContextManager[Workplace]) -> Iterator[Workplace]:
    """The first process's workplace, for all; it alone holds the lock."""
    if first():
        with place as held:
            agreed(lambda: str(held.folder))
            yield held
    else:
        yield Workplace(Path(agreed(str)))
