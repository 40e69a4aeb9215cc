"""The bytes of an export file.

`ZEXP`, then one entry for each object, the exported one first: oid 8, length of the record 8,
the record. The record of a blob is followed by a marker, the length of the blob's data 8, and the
data. 16 bytes 0xff end the file. Numbers are big-endian; the oids are those of the database that
the objects come from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from perdure import _native
from perdure.errors import ExportError
from perdure.ids import Oid, oid_repr, u64

__all__ = ["BLOB_MARKER", "END_MARKER", "MAGIC", "Entry", "entries", "is_blob"]

MAGIC: Final = b"ZEXP"
END_MARKER: Final = b"\xff" * 16
BLOB_MARKER: Final = b"\0BLOBSTART"

_BLOB: Final = ("ZODB.blob", "Blob")


@dataclass(frozen=True)
class Entry:
    """One object of an export file; a blob's data are next in the file."""

    oid: Oid
    data: bytes
    blob_bytes: int | None
    """The length of the blob's data; None: it is no blob."""


def is_blob(data: bytes) -> bool:
    """Tell whether a record is a blob's, without loading anything."""
    if b"ZODB.blob" not in data:
        return False
    try:
        return _native.class_name(data) == _BLOB
    except ValueError:
        return False


def entries(file: IO[bytes]) -> Iterator[Entry]:
    """Read the entries behind the magic.

    The consumer reads a blob's data from *file* before it asks for the next entry. Raises
    ExportError where the file is cut off or garbled.
    """
    while True:
        header = file.read(16)
        if header == END_MARKER:
            return
        oid = Oid(header[:8])
        if len(header) != 16:
            raise ExportError("Truncated export file: it has no end marker")
        length = u64(header[8:])
        data = file.read(length) if length < 1 << 40 else b""
        if len(data) != length:
            raise ExportError(f"Truncated export file: the record of {oid_repr(oid)} is cut off")
        yield Entry(oid, data, _blob_bytes(file, oid) if is_blob(data) else None)


def _blob_bytes(file: IO[bytes], oid: Oid) -> int:
    marker = file.read(len(BLOB_MARKER))
    length = file.read(8)
    if marker != BLOB_MARKER or len(length) != 8:
        raise ExportError(f"the export file has no data for the blob {oid_repr(oid)}")
    return u64(length)
