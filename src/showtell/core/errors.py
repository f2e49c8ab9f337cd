"""Errors that the user can fix, each as one line: `UserError`, and errors of the disk or the operating system.

Any other exception is a bug in this package and keeps its traceback, for a bug report.
"""

import errno
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress

from showtell.core.terminal import one_line, printable, replace_what_cannot_be_encoded


class UserError(Exception):
    """An error that the user can fix. The message is one line: what is wrong, where, what to do."""


def extra(name: str) -> str:
    """How to install an optional dependency of this package."""
    return f"in the clone of this repository: pip install -e '.[{name}]'"


_ROOM = "make room, then run the same command again to go on"
_RIGHTS = "check whose it is and its rights (ls -ld), or work in another folder"
_IN_THE_WAY = "something of another kind has that name, or that of a folder above it: move it away"
_BROKEN = "the disk, or the connection to it, may be broken: check it (dmesg)"
_LIMIT = "raise the limit (ulimit -a shows them)"

# Errors of system calls whose cause lies in the environment, and what to do about each.
ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "the file system or a limit (ulimit -f) takes no file of this size",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTEMPTY: "another program writes there: let it end",
    errno.EBUSY: "another program uses it: let it end",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle: mend them",
    errno.EIO: _BROKEN,
    errno.ESTALE: _BROKEN,
    errno.ENODEV: _BROKEN,
    errno.ENXIO: _BROKEN,
    errno.EMFILE: _LIMIT,
    errno.ENFILE: _LIMIT,
    errno.EAGAIN: _LIMIT,
    errno.ENOMEM: "free some memory, or use fewer processes (SHOWTELL_PROCESSES=1)",
}

LONGEST_NAME = 300  # characters of a path in a message
LESS_MEMORY = "use fewer or smaller pictures at once, end other programs, or set SHOWTELL_DEVICE=cpu"

# HDF5, safetensors and shutil wrap the system's error in messages of their own.
_NUMBER = re.compile(r"\(os error (\d+)\)|\berrno = (\d+)\b|\[Errno (\d+)\]")
_NAME = re.compile(r"\bname = '([^']*)'")


def explained(error: BaseException) -> str | None:
    """The one-line message for an error that the user can fix; None for any other."""
    if isinstance(error, UserError):
        return str(error)
    if lacks_memory(error):
        return f"out of memory ({one_line(error)}); {LESS_MEMORY}"
    number = system_number(error)
    if number not in ADVICE:
        return None
    names = [os.fsdecode(name) for name in _names(error) if name is not None] or _NAME.findall(str(error))[:1]
    named = " -> ".join(one_line(name, LONGEST_NAME) for name in names) or "the output"
    return f"{named}: {os.strerror(number).lower()}; {ADVICE[number]}"


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out in Python or in torch. torch is not imported here: its error class is compared by name."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return not kinds.isdisjoint({"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def system_number(error: BaseException) -> int | None:
    """The errno of a failed system call, also where a library has wrapped it in an error of its own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1] or found[2] or found[3]) if found else None


def _names(error: BaseException) -> list[str | bytes | None]:
    names = (getattr(error, "filename", None), getattr(error, "filename2", None))
    return [os.fspath(name) if not isinstance(name, int | None) else None for name in names]


def run(main: Callable[[], int | None]) -> None:
    """Run a command or a stage and exit with its status; an error that the user can fix gives one line and status 1."""
    replace_what_cannot_be_encoded()
    try:
        status = main()
        if sys.stdout is not None:  # None where the caller has closed it (`>&-`)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of the output ended (`showtell ... | head`)
        sys.stderr.close()
        status = 141
    except Exception as error:
        line = explained(error)
        if line is None:
            raise
        print(f"error: {printable(line)}", file=sys.stderr)
        _settle_output()
        status = 1
    sys.exit(status)


def _settle_output() -> None:
    """Flush stdout where possible; otherwise the interpreter would report the same error again when it exits."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
