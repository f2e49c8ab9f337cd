"""Files that appear whole or not at all, and the hashes that name their content."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from showtell.core.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the final name on success and is removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write JSON; the same content always gives the same bytes (keys stay in the caller's order)."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file; `UserError` when it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*parts: Any) -> str:
    """16 hex digits that name these parts (JSON-able, or parameter sections); equal parts have equal names anywhere."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=lambda section: section.model_dump())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def move(source: Path, target: Path) -> None:
    """Put a finished file or folder in its place, instead of what was there; also across file systems."""
    source, target = Path(source), Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        shutil.move(source, temporary)
        os.replace(temporary, target)


SPARE = 64 << 20  # bytes of disk left free: a full disk breaks more than the work that filled it


def check_space(folder: Path, needed: int) -> None:
    """`UserError` when `folder`'s disk has no room for `needed` more bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE > free:
        raise UserError(f"{folder.resolve()} needs {needed:,} bytes more and its disk has {free:,} free; make room")
