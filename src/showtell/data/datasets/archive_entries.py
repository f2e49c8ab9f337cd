"""A picture in a file or an archive: where its bytes are, and reading and checking them."""

import errno
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from showtell.core.errors import UserError
from showtell.core.fields import shown
from showtell.core.files import without_waiting

# No picture that the transform accepts is larger (120 megapixels of 16-bit RGB are 720 MB, and nobody stores them so).
MAX_ENTRY_BYTES = 512 << 20
FILE, TAR, STORED, DEFLATED = -2, -1, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # how a picture's bytes are stored

# Errors of opening that are of this one file, and stay.
OF_THE_FILE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO)


class Address(NamedTuple):
    """The location of a picture's bytes. Small and independent of any index, so that it can be passed to workers."""

    path: str  # the file with the bytes: the picture itself, or an archive
    name: str  # for messages
    method: int = FILE
    offset: int = 0  # of the local header (zip) or of the content (tar)
    stored: int = 0  # bytes in the archive
    size: int = 0  # bytes of the content, as declared
    crc: int = 0


def refuse_entry(path: Path | str, name: str, reason: str) -> NoReturn:
    """`UserError` for the entry `name` of the archive `path`."""
    raise UserError(f"{path}: entry {shown(name)} is refused: {reason}")


def read(address: Address) -> bytes:
    """The picture's bytes; `UserError` when there are none, or size or checksum differ from the archive's directory.

    An error of the disk or the system, which may pass, stays an `OSError`: the picture may well be sound.
    """
    try:
        with open(address.path, "rb", opener=without_waiting) as file:
            if address.method == FILE:
                return _whole_file(address, file)
            data = os.pread(file.fileno(), address.stored, _start(file.fileno(), address))
    except OSError as error:
        if error.errno not in OF_THE_FILE:
            raise
        raise UserError(f"cannot read {address.path}: {error.strerror}") from None
    if len(data) != address.stored:
        refuse_entry(address.path, address.name, "the archive is cut short")
    if address.method == TAR:
        return data
    if address.method == DEFLATED:
        data = _inflate(address, data)
    if len(data) != address.size:
        refuse_entry(address.path, address.name, f"it holds {len(data):,} bytes and declares {address.size:,}")
    if zlib.crc32(data) != address.crc:
        refuse_entry(address.path, address.name, "its checksum (CRC-32) does not match")
    return data


def _whole_file(address: Address, file: BinaryIO) -> bytes:
    state = os.fstat(file.fileno())
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{address.path} is not a regular file")
    if state.st_size > MAX_ENTRY_BYTES:
        raise UserError(f"{address.path} has {state.st_size:,} bytes, more than {MAX_ENTRY_BYTES:,}")
    return file.read()


def _start(descriptor: int, address: Address) -> int:
    """Offset of the content. A zip's local header repeats the name, and its extra field may differ in length."""
    if address.method == TAR:
        return address.offset
    header = os.pread(descriptor, 30, address.offset)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        refuse_entry(address.path, address.name, "its header is broken")
    return address.offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _inflate(address: Address, data: bytes) -> bytes:
    try:
        # At most one byte more than is declared, whatever it would expand to.
        content = zlib.decompressobj(-15).decompress(data, address.size + 1)
    except zlib.error as error:
        refuse_entry(address.path, address.name, f"it cannot be expanded ({error})")
    if len(content) > address.size:
        refuse_entry(address.path, address.name, f"it expands to more than the {address.size:,} bytes that it declares")
    return content
