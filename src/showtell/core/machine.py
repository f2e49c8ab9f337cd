"""The cores of this machine, and how worker processes are started and ended."""

import os
import sys
import threading
from multiprocessing import parent_process

# A fork inherits its parent's imports; importing torch alone would take each new process more than a second.
START = "fork" if sys.platform == "linux" else "spawn"

# float32 numbers that fit a core's own cache (2 MiB). Work done in chunks of about this size stays in the cache.
CACHED = 2**19


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """End this process when its parent is killed; otherwise it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None  # called in worker processes only

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
