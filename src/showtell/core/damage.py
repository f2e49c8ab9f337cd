"""What to do about an output whose bytes on the disk have changed.

DVC does not notice such a change: it compares size and modification time. An output is by default a link to DVC's
cache, so the cached file is damaged too, and `dvc checkout` and `dvc repro` restore the damaged bytes until both files
are deleted.
"""

import os
from pathlib import Path

CACHE = Path(".dvc/cache")  # the default place of DVC's cache


def remedy(path: Path) -> str:
    """Text that says which files to delete and what to run when the output `path` is damaged."""
    twin = _twin(path)
    if twin is None:
        return "delete it and run `dvc repro`"
    return f"delete it and {twin}, the same file in DVC's cache, and run `dvc repro`"


def _twin(path: Path) -> Path | None:
    """The file in DVC's cache that `path` is a symbolic or a hard link to, if any."""
    try:
        if path.is_symlink():
            return _short(path.resolve())
        own = path.stat()
        if own.st_nlink < 2:
            return None
        same = (file for file in CACHE.rglob("*") if file.is_file() and os.path.samestat(file.stat(), own))
        return next(same, None)
    except OSError:  # the folder of the cache cannot be read
        return None


def _short(path: Path) -> Path:
    """`path` relative to the working directory, if it is below it."""
    here = Path.cwd().resolve()
    return path.relative_to(here) if path.is_relative_to(here) else path
