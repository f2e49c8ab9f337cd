"""Indexes of zip and tar archives. Hostile or damaged entries are refused by name."""

import array
import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import numpy as np

from showtell.core.errors import UserError
from showtell.core.fields import shown
from showtell.core.files import atomic, fingerprint
from showtell.core.progress import log
from showtell.core.texts import Texts
from showtell.data.datasets.archive_entries import DEFLATED, MAX_ENTRY_BYTES, STORED, TAR, Address, read, refuse_entry

COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARCHIVES = (".zip", ".tar", *COMPRESSED_TARS)
# Deflate reaches 1032:1 on zeros; drawings saved as plain bitmaps reach about 100:1. Small entries may be anything.
MAX_RATIO, RATIO_FREE_BYTES = 200, 16 << 20


class Archive:
    """Names of an archive's files and their addresses."""

    def __init__(self, path: Path, source: Path, addresses: Iterable[Address]):
        """`source` is the user's archive; `path` is the same, or the expanded copy of a compressed archive."""
        self.path, self.source = path, source
        numbers = array.array("q")

        def named() -> Iterator[str]:
            for address in addresses:
                numbers.extend(address[2:])
                yield address.name

        self.names = Texts.of(named())
        if len(set(self.names)) < len(self.names):  # such as an older and a newer version of a picture
            twice = next(name for name, count in Counter(self.names).items() if count > 1)
            refuse_entry(source, twice, "it occurs twice")
        # An array instead of a tuple for each: 123,000 tuples would take more memory than everything else in `resize`.
        self._numbers = np.frombuffer(numbers, np.int64).reshape(-1, 5) if numbers else np.zeros((0, 5), np.int64)

    def address(self, position: int) -> Address:
        return Address(str(self.path), self.names[position], *map(int, self._numbers[position]))

    def stamp(self) -> str:
        """A value that changes when the content does."""
        names = hashlib.sha256(b"\0".join(name.encode("utf-8", "surrogateescape") for name in self.names))
        return fingerprint(names.hexdigest(), hashlib.sha256(self._numbers.data).hexdigest())

    def read(self, name: str) -> bytes:
        return read(self.address(self.names.index(name)))


def open_archive(path: Path, scratch: Path) -> Archive:
    """The index of the archive at `path`; `UserError` when it is broken or an entry is hostile."""
    path = Path(path)
    with _readable_errors(path):
        if path.name.lower().endswith(".zip"):
            return Archive(path, path, _zip_addresses(path))
        plain = _plain(path, scratch)
        return Archive(plain, path, _tar_addresses(plain, path))


def tar_members(path: Path) -> Iterator[Address]:
    """The files of a plain tar, one by one; `UserError` when it is broken or an entry is hostile."""
    with _readable_errors(path):
        for address in _tar_addresses(path, path):
            yield address._replace(path=str(path))


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn the errors of reading an archive into one line."""
    try:
        yield
    except HEADER_ERRORS as error:
        raise UserError(f"{path} is not a whole archive: {_plainly(error)}") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 raise it for damaged content
            raise UserError(f"{path} is not a whole archive: {_plainly(error)}") from None
        raise UserError(f"cannot read the archive {path}: {error.strerror or error}") from None


# Exceptions for damaged headers. zipfile and tarfile raise their own only for files that are not archives; other damage
# surfaces as exceptions of many types.
HEADER_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, struct.error, NotImplementedError,
    ValueError, LookupError, OverflowError, TypeError, AttributeError, RecursionError, MemoryError,
)  # fmt: skip


def _plainly(error: Exception) -> str:
    """The problem of a header in plain words."""
    if isinstance(error, UnicodeDecodeError):
        return "a name in it is not in the UTF-8 that its header promises"
    if isinstance(error, NotImplementedError):
        return f"it needs what no reader has yet ({shown(str(error))[1:-1]})"
    if isinstance(error, zipfile.BadZipFile | tarfile.TarError | EOFError | OSError | zlib.error | lzma.LZMAError):
        return shown(str(error))[1:-1] or "it is empty"
    return "a header in it is damaged"


def _check_name(path: Path, name: str) -> None:
    """Refuse a name that points outside the archive's folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or name[1:2] == ":" or "\0" in name:
        refuse_entry(path, name, "its path leaves the archive")


def _check_size(path: Path, name: str, size: int, stored: int) -> None:
    if size > MAX_ENTRY_BYTES:
        refuse_entry(path, name, f"it claims {size:,} bytes, more than {MAX_ENTRY_BYTES:,}")
    if size > RATIO_FREE_BYTES and size > MAX_RATIO * max(1, stored):
        refuse_entry(path, name, f"it claims to grow from {stored:,} to {size:,} bytes")


def _is_litter(name: str) -> bool:
    """Whether this is a metadata file that archivers of some systems add beside the pictures, with similar names."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _zip_addresses(path: Path) -> Iterable[Address]:
    others: list[str] = []
    with zipfile.ZipFile(path) as archive:
        archive.NameToInfo.clear()  # zipfile's own index is large and not needed
        for info in archive.filelist:
            if "\0" in info.orig_filename:
                refuse_entry(path, info.orig_filename, "its name holds a NUL")
            name = _zip_name(info)
            _check_name(path, name)
            if name.endswith("/") or _is_litter(name):
                continue
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                others.append(name)
                continue
            if info.flag_bits & 1:
                refuse_entry(path, name, "it is encrypted")
            if info.compress_type not in (STORED, DEFLATED):
                refuse_entry(path, name, "its compression is neither stored nor deflate")
            _check_size(path, name, info.file_size, info.compress_size)
            stored, size = info.compress_size, info.file_size
            yield Address("", name, info.compress_type, info.header_offset, stored, size, info.CRC)
    _tell_passed_over(path, others)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The entry's name. Without the UTF-8 flag it should be code page 437, but macOS and others write UTF-8 anyway.

    Folders should be separated by `/`; some archivers of Windows write a backslash.
    """
    name = info.filename
    if not (info.flag_bits & 0x800 or name.isascii()):
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _tell_passed_over(path: Path, others: Sequence[str]) -> None:
    if others:
        first = shown(others[0])
        log(f"{path}: {len(others)} links or devices are passed over, such as {first}; only files can hold pictures")


def _tar_addresses(path: Path, source: Path) -> Iterable[Address]:
    total, others = path.stat().st_size, []
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all; its stubs lack them
            name = member.name.removeprefix("./")
            if member.isdir():
                continue
            _check_name(source, name)
            if member.issparse():
                refuse_entry(source, name, "it is a sparse file")
            if _is_litter(name):
                continue
            if not member.isreg():
                others.append(name)
                continue
            _check_size(source, name, member.size, member.size)
            if member.offset_data + member.size > total:
                refuse_entry(source, name, "the archive is cut short")
            yield Address("", name, TAR, member.offset_data, member.size, member.size)
        _check_end(archive)
    _tell_passed_over(source, others)


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse a tar whose reader stopped before the end-of-archive blocks: tarfile does not report that."""
    assert archive.fileobj is not None  # it was opened from a path
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut short")
    if any(block):
        raise tarfile.ReadError("a header in it is damaged")


def _plain(path: Path, scratch: Path) -> Path:
    """The archive itself when it is a plain tar, else its expanded content in `scratch`, written once."""
    if not path.name.lower().endswith(COMPRESSED_TARS):
        return path
    state = path.stat()
    plain = Path(scratch) / f"inflated-{fingerprint(path.name, state.st_size, state.st_mtime_ns)}.tar"
    if not plain.exists():
        log(f"expanding {path} once, to read pictures from its middle")
        with _decompressed(path) as source, atomic(plain) as temporary, open(temporary, "wb") as target:
            _copy_bounded(path, source, target, state.st_size)
    return plain


def _decompressed(path: Path):
    name = path.name.lower()
    return (bz2 if name.endswith("bz2") else lzma if name.endswith("xz") else gzip).open(path, "rb")


def _copy_bounded(path: Path, source, target, compressed: int) -> None:
    """Copy the expanded stream; stops at a decompression bomb or a full disk."""
    written = 0
    while block := source.read(1 << 20):
        written += len(block)
        if written > RATIO_FREE_BYTES and written > MAX_RATIO * compressed:
            raise UserError(f"{path} is refused: it expands to more than {MAX_RATIO} times its size")
        if shutil.disk_usage(os.path.dirname(os.path.abspath(target.name))).free < (64 << 20):
            raise UserError(f"no space left to expand {path}; free some and run the same command again")
        target.write(block)
