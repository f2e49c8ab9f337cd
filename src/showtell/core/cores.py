"""A machine's cores, and processes that share its work: how many, how they start, and that none is left behind."""

import os
import sys
import threading
from multiprocessing import parent_process

# A fork shares what its parent has imported already; torch alone would take each new process more than a second.
START = "fork" if sys.platform == "linux" else "spawn"

# Numbers of float32 that a core's own cache holds: 2 MiB. What is computed in pieces of about so many stays in it.
CACHED = 2**19


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """A parent that is killed outright cannot stop this process, which would go on or wait for work for ever."""
    parent = parent_process()
    assert parent is not None  # only a process that another started has a reason to ask for this

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
