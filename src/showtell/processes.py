"""One stage in several processes, on one machine or many: who does what, and how they agree.

Every process runs the whole stage. Work that costs time is shared out, its results are exchanged, and the first process
alone writes. `SHOWTELL_PROCESSES=2 python stages/train.py` starts two under PyTorch's torchrun; `torchrun` itself does
the same across machines that share the repository's folder. In a single process everything here does nothing.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from showtell import errors
from showtell.errors import UserError
from showtell.workplace import Workplace

T = TypeVar("T")


def launch(main: Callable[[], None]) -> None:
    """Run a stage and exit with its status: here, or in as many processes as SHOWTELL_PROCESSES says."""
    errors.run(lambda: _launch(main))


def _launch(main: Callable[[], None]) -> int | None:
    if "LOCAL_RANK" in os.environ:
        return _take_part(main)
    wanted = os.environ.get("SHOWTELL_PROCESSES", "1")
    if not wanted.isdigit() or int(wanted) < 1:
        raise UserError(f"SHOWTELL_PROCESSES = {wanted!r}: it must be a number of processes, 1 or more")
    if int(wanted) == 1:
        return main()
    # Left alone, torchrun gives each process one thread and says so; they share the processor instead.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // int(wanted))))
    own = [sys.executable, "-m", "showtell.processes"]
    # This process becomes torchrun: a signal for the stage then reaches those who work.
    os.execv(sys.executable, [*own, "--standalone", f"--nproc-per-node={wanted}", *sys.argv])


def _take_part(main: Callable[[], None]) -> int | None:
    """Run `main` as one of several. All but the first are silent: what they would say, it says."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if first():
        try:
            return main()
        finally:
            distributed.destroy_process_group()
    with open(os.devnull, "w") as silence:
        stderr, sys.stderr = sys.stderr, silence
        try:
            return main()
        except UserError as error:
            print(f"process {rank()}: {error}", file=stderr)
            return 1
        except Exception:
            traceback.print_exc(file=stderr)
            return 1
        finally:
            sys.stderr = stderr
            distributed.destroy_process_group()


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


def main() -> int:
    """torchrun, without its report on a process that failed: that one has said why itself."""
    import logging

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        return max(1, error.get_first_failure()[1].exitcode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
