"""Zip and tar archives read in place, by offset, and distrusted: a hostile entry is refused by its name."""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from showtell.errors import UserError
from showtell.files import atomic, fingerprint
from showtell.progress import log

COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARCHIVES = (".zip", ".tar", *COMPRESSED_TARS)

# No picture that the transform accepts is larger (120 megapixels of 16-bit RGB are 720 MB, and nobody stores them so).
MAX_ENTRY_BYTES = 512 << 20
# Deflate reaches 1032:1 on zeros; drawings saved as plain bitmaps reach about 100:1. Small entries may be anything.
MAX_RATIO, RATIO_FREE_BYTES = 200, 16 << 20


class Entry(NamedTuple):
    offset: int  # of the local header (zip) or of the content (tar)
    stored: int  # bytes in the archive
    size: int  # bytes of the content, as declared
    method: int  # zipfile.ZIP_STORED or zipfile.ZIP_DEFLATED
    crc: int


def open_archive(path: Path, scratch: Path) -> "ZipArchive | TarArchive":
    """Index of the archive at `path`; `UserError` when it is broken or an entry is hostile."""
    path = Path(path)
    try:
        if path.name.lower().endswith(".zip"):
            return ZipArchive(path)
        return TarArchive(_plain(path, scratch), path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path} is not a whole archive: {error}") from None
    except OSError as error:
        if error.errno is None:  # how gzip and bz2 complain about content
            raise UserError(f"{path} is not a whole archive: {error}") from None
        raise UserError(f"cannot read the archive {path}: {error.strerror or error}") from None


def _refuse(path: Path, name: str, reason: str) -> None:
    raise UserError(f"{path}: entry {name!r} is refused: {reason}")


def check_name(path: Path, name: str) -> None:
    """Refuse a name that would leave the archive's own folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or name[1:2] == ":" or "\0" in name:
        _refuse(path, name, "its path leaves the archive")


def _check_size(path: Path, name: str, size: int, stored: int) -> None:
    if size > MAX_ENTRY_BYTES:
        _refuse(path, name, f"it claims {size:,} bytes, more than {MAX_ENTRY_BYTES:,}")
    if size > RATIO_FREE_BYTES and size > MAX_RATIO * max(1, stored):
        _refuse(path, name, f"it claims to grow from {stored:,} to {size:,} bytes")


def _is_litter(name: str) -> bool:
    """Files that archivers of some systems add beside the pictures, under the pictures' own names."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


class ZipArchive:
    """A zip archive; `read` is safe from any thread and process, since every read opens the file anew."""

    def __init__(self, path: Path):
        self.path = path
        self.entries: dict[str, Entry] = {}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                self._add(info)
        self.names = list(self.entries)

    def stamp(self) -> str:
        return fingerprint(list(self.entries.items()))

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        check_name(self.path, name)
        if stat.S_ISLNK(info.external_attr >> 16):
            _refuse(self.path, name, "it is a link")
        if info.is_dir() or _is_litter(name):
            return
        if info.flag_bits & 1:
            _refuse(self.path, name, "it is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            _refuse(self.path, name, "its compression is neither stored nor deflate")
        _check_size(self.path, name, info.file_size, info.compress_size)
        if name in self.entries:
            _refuse(self.path, name, "it occurs twice")
        self.entries[name] = Entry(info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)

    def read(self, name: str) -> bytes:
        """Content of an entry; `UserError` when it is not exactly what the archive's directory says."""
        entry = self.entries[name]
        with open(self.path, "rb") as file:
            header = os.pread(file.fileno(), 30, entry.offset)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                _refuse(self.path, name, "its header is broken")
            # The local header repeats the name and may carry another extra field than the directory does.
            name_bytes, extra_bytes = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
            start = entry.offset + 30 + name_bytes + extra_bytes
            data = os.pread(file.fileno(), entry.stored, start)
        if len(data) != entry.stored:
            _refuse(self.path, name, "the archive is cut short")
        if entry.method == zipfile.ZIP_DEFLATED:
            data = self._inflate(name, data, entry.size)
        if len(data) != entry.size:
            _refuse(self.path, name, f"it holds {len(data):,} bytes and declares {entry.size:,}")
        if zlib.crc32(data) != entry.crc:
            _refuse(self.path, name, "its checksum (CRC-32) does not match")
        return data

    def _inflate(self, name: str, data: bytes, size: int) -> bytes:
        inflater = zlib.decompressobj(-15)
        try:
            content = inflater.decompress(data, size + 1)  # never more than one byte beyond what is declared
        except zlib.error as error:
            _refuse(self.path, name, f"it cannot be expanded ({error})")
        if len(content) > size:
            _refuse(self.path, name, f"it expands to more than the {size:,} bytes that it declares")
        return content


class TarArchive:
    """A plain tar archive (`source` is its name for people: the compressed archive that it came from)."""

    def __init__(self, path: Path, source: Path | None = None):
        self.path, self.source = path, source or path
        self.entries: dict[str, Entry] = {}
        total = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isdir():
                    continue
                check_name(self.source, name)
                if not member.isreg():
                    _refuse(self.source, name, "it is a link or a device, not a file")
                if _is_litter(name):
                    continue
                if member.issparse():
                    _refuse(self.source, name, "it is a sparse file")
                _check_size(self.source, name, member.size, member.size)
                if member.offset_data + member.size > total:
                    _refuse(self.source, name, "the archive is cut short")
                self.entries[name] = Entry(member.offset_data, member.size, member.size, zipfile.ZIP_STORED, 0)
        self.names = list(self.entries)

    def stamp(self) -> str:
        return fingerprint(list(self.entries.items()))

    def read(self, name: str) -> bytes:
        entry = self.entries[name]
        with open(self.path, "rb") as file:
            data = os.pread(file.fileno(), entry.size, entry.offset)
        if len(data) != entry.size:
            _refuse(self.source, name, "the archive is cut short")
        return data


def _plain(path: Path, scratch: Path) -> Path:
    """The archive itself when it is a plain tar, else its expanded content in `scratch`, made once."""
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
    """Copy the expanded stream; stop before a bomb or a full disk."""
    written = 0
    while block := source.read(1 << 20):
        written += len(block)
        if written > RATIO_FREE_BYTES and written > MAX_RATIO * compressed:
            raise UserError(f"{path} is refused: it expands to more than {MAX_RATIO} times its size")
        if shutil.disk_usage(os.path.dirname(os.path.abspath(target.name))).free < (64 << 20):
            raise UserError(f"no space left to expand {path}; free some and run the same command again")
        target.write(block)
