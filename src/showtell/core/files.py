"""Writing files atomically (whole or not at all), reading JSON, and hashes of content."""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from showtell.core.errors import UserError, explained, system_number

LONGEST_NAME = 200  # bytes of a name that are part of a temporary one
LONGEST_INT = 4300  # digits that Python converts (sys.int_info.default_max_str_digits)
FICLONE = 0x40049409  # Linux: ioctl_ficlone(2)

# Names of `_beside`: the process that writes, and random digits.
_TEMPORARY = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.part")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a write, which do not name the file


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield an unused name beside `path`; a file or folder that still has it at the end is removed."""
    with _possible(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    shortened = os.fsencode(path.name)[:LONGEST_NAME].decode(errors="ignore")  # file systems allow 255 bytes
    temporary = path.with_name(f".{shortened}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with naming(path, temporary):
            yield temporary
    finally:
        _remove(temporary)


@contextmanager
def _possible(path: Path) -> Iterator[None]:
    """Name `path` where it cannot be created: in a folder that was deleted while in use, or in /proc."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: nothing can be created in {path.parent}; choose another folder") from error


def _remove(path: Path) -> None:
    """Delete a file or folder as far as its permissions allow."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary file beside `path`; it is renamed to `path` on success and removed on failure.

    It is flushed to the disk before it is renamed, so that a power cut leaves the old file or the new one. Its mode
    follows the umask, whatever library writes it. A `shared` file is also of people and other programs: it keeps its
    mode, and where `path` is a link, what it leads to is replaced.
    """
    path = Path(os.path.realpath(path)) if shared else Path(path)
    with _beside(path) as temporary:
        with _possible(path):
            temporary.touch()
        if shared and path.exists():
            shutil.copymode(path, temporary)
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_nlink == 1:  # a hard link shares its mode with the file that it links to
            temporary.chmod(mode)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it replaces what `path` was, on failure it is removed."""
    path = Path(path)
    with _beside(path) as temporary:
        with _possible(path):
            temporary.mkdir()
        yield temporary
        move(temporary, path)


def check_new(folder: Path) -> None:
    """`UserError` unless a folder can be written as a whole: it does not exist, or is empty and not the current one."""
    if folder.absolute() == Path.cwd():
        raise UserError(f"{folder}: name a folder that does not exist yet; this one is in use")
    empty = folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
    if (folder.exists() or folder.is_symlink()) and not empty:
        raise UserError(f"{folder} exists already; name one that does not")


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Make errors of writing `path` name it: a full disk gives no name, and `temporary` means nothing to users."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            unnamed = error.filename is None and error.errno in _FULL
            if unnamed or (temporary is not None and str(error.filename) == str(temporary)):
                error.filename = str(path)
                error.filename2 = None
            raise
        number = system_number(error)  # of an error that a library has wrapped
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders below `folder` of processes that were killed."""
    for path in sorted(folder.rglob(".*.part")):
        owner = _TEMPORARY.fullmatch(path.name)
        if owner and not alive(int(owner[1])):
            _remove(path)


def alive(process: int) -> bool:
    """Whether the process with this id is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk: until then a power cut may lose them."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # folders cannot be flushed on this system
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by some file systems
            error.filename = str(path)
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes | memoryview, shared: bool = False) -> None:
    with atomic(path, shared) as temporary:
        temporary.write_bytes(content)


def without_waiting(path: str, flags: int) -> int:
    """An `opener` for `open` that does not wait: opening a FIFO would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def check_readable(path: Path) -> None:
    """Raise the system's error for a file that cannot be read: libraries call such a file damaged, or absent."""
    path.open("rb").close()


def write_text(path: Path, text: str, shared: bool = False) -> None:
    """`shared` as in `atomic`."""
    write_bytes(path, text.encode("utf-8"), shared)


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON; the same content always gives the same bytes (keys stay in the caller's order)."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def json_line(content: Any, encoding: str = "utf-8") -> str:
    """JSON on one line; characters that the encoding lacks, as bytes of a file name that is not UTF-8, are escaped."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(content)
    return text


def write_json_list(path: Path, items: Iterable[Any]) -> None:
    """The same bytes as `write_json` of a list, written item by item."""
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        before = "[\n "
        for item in items:
            file.write(before + json.dumps(item, ensure_ascii=False, indent=1).replace("\n", "\n "))
            before = ",\n "
        file.write("[]\n" if before.startswith("[") else "\n]\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file; `UserError` when it is missing or is not JSON."""
    try:
        return parse_json(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(explained(error) or f"cannot read {path}: {error.strerror}") from None


def parse_json(content: bytes, where: str) -> Any:
    """Parse JSON in UTF-8, or in UTF-16 or UTF-32 as Windows programs may write it, with or without byte order mark."""
    try:
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not valid JSON: byte {error.start} is not {error.encoding}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not valid JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{where} is not JSON that can be read: it is nested too deeply") from None
    except ValueError:  # more digits than Python converts: inf, which the reader of the field refuses by name
        return json.loads(content, parse_int=lambda digits: int(digits) if len(digits) < LONGEST_INT else math.inf)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """16 hex digits of a hash of these parts (JSON-able, or parameter sections), the same on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=lambda section: section.model_dump())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def move(source: Path, target: Path) -> None:
    """Move a finished file or folder to `target`, replacing what is there; also across file systems."""
    source, target = Path(source), Path(target)
    for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
        flush(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with naming(target), _beside(target) as temporary:
            shutil.move(source, temporary)
            os.replace(temporary, target)
    flush(target.parent)


def link(source: Path, target: Path) -> None:
    """Give `target` the content of the file `source` by a copy on write (reflink), else a hard link, else a copy.

    Neither file may be changed in place afterwards, only replaced.
    """
    real = Path(source).resolve()  # the file itself, where DVC has put a symbolic link
    with _beside(target) as temporary:
        _linked(real, temporary)
        os.replace(temporary, target)
        flush(target.parent)


def _linked(source: Path, target: Path) -> None:
    for way in (_reflink, os.link):
        try:
            return way(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # not supported by this file system
            target.unlink(missing_ok=True)
    shutil.copy(source, target)
    flush(target)


def _reflink(source: Path, target: Path) -> None:
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(str(error)) from None
    with open(source, "rb") as old, open(target, "wb") as new:
        fcntl.ioctl(new.fileno(), FICLONE, old.fileno())


SPARE = 64 << 20  # bytes that stay free: other programs fail on a full disk as well


def check_space(folder: Path, needed: int) -> None:
    """Raise `UserError` if the disk of `folder` has no room for `needed` more bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE > free:
        raise UserError(
            f"{folder.resolve()} needs {needed:,} bytes more, with {SPARE:,} to spare, and its disk has {free:,} free; "
            "make room"
        )
