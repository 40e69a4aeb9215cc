"""The bytes of an export file.

`ZEXP`, then one entry for each object, the exported one first: oid 8, length of the record 8,
the record. The record of a blob is followed by a marker, the length of the blob's data 8, and the
data. 16 bytes 0xff end the file. Numbers are big-endian; the oids are those of the database that
the objects come from.

A file with objects of several members of a collection, which only perdure knows, is `PEXC`, the
length of a header 4, the header in JSON (`{"format": 1, "members": [name, ...]}`), then such
entries, each behind the number of its member 4. 20 bytes 0xff end it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final

from perdure import _native
from perdure.errors import ExportError
from perdure.ids import Oid, oid_repr, u64

__all__ = [
    "BLOB_MARKER",
    "END_MARKER",
    "END_OF_MEMBERS",
    "MAGIC",
    "MAGIC_OF_MEMBERS",
    "Entry",
    "entries",
    "entries_of_members",
    "header_of_members",
    "is_blob",
    "read_members",
]

MAGIC: Final = b"ZEXP"
END_MARKER: Final = b"\xff" * 16
BLOB_MARKER: Final = b"\0BLOBSTART"
MAGIC_OF_MEMBERS: Final = b"PEXC"
END_OF_MEMBERS: Final = b"\xff" * 20

_HEADER_BYTES_MAX: Final = 1 << 24
_PIECE_BYTES: Final = 1 << 24

_BLOB: Final = ("ZODB.blob", "Blob")


@dataclass(frozen=True)
class Entry:
    """One object of an export file; a blob's data are next in the file."""

    oid: Oid
    data: bytes
    blob_bytes: int | None
    """The length of the blob's data; None: it is no blob."""
    member: str | None = None
    """The member that it comes from, where the file tells."""


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
        yield _entry(file, header, None)


def entries_of_members(file: IO[bytes], members: Sequence[str]) -> Iterator[Entry]:
    """Read the entries of a file with objects of several members, as `entries` does."""
    while True:
        header = file.read(20)
        if header == END_OF_MEMBERS:
            return
        number = int.from_bytes(header[:4], "big")
        if len(header) == 20 and number >= len(members):
            raise ExportError(f"the export file is garbled: it has no member number {number}")
        yield _entry(file, header[4:], members[number] if len(header) == 20 else None)


def _entry(file: IO[bytes], header: bytes, member: str | None) -> Entry:
    oid = Oid(header[:8])
    if len(header) != 16:
        raise ExportError("Truncated export file: it has no end marker")
    length = u64(header[8:])
    data = _read(file, length)
    if len(data) != length:
        raise ExportError(f"Truncated export file: the record of {oid_repr(oid)} is cut off")
    return Entry(oid, data, _blob_bytes(file, oid) if is_blob(data) else None, member)


def _read(file: IO[bytes], length: int) -> bytes:
    """Return that many bytes, or all that are left; a length takes no memory by itself."""
    if length <= _PIECE_BYTES:
        return file.read(length)
    pieces = []
    while length > 0 and (piece := file.read(min(length, _PIECE_BYTES))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def header_of_members(members: Sequence[str]) -> bytes:
    """Return how a file with objects of several members begins, magic included."""
    header = json.dumps({"format": 1, "members": list(members)}).encode()
    return MAGIC_OF_MEMBERS + len(header).to_bytes(4, "big") + header


def read_members(file: IO[bytes]) -> list[str]:
    """Return the members' names from a file that is read from behind its magic.

    Raises ExportError where they can't be read.
    """
    length = int.from_bytes(file.read(4), "big")
    try:
        content = json.loads(file.read(min(length, _HEADER_BYTES_MAX)))
        if content["format"] != 1:
            raise ExportError(
                f"the export file has format {content['format']}: a later perdure wrote it"
            )
        return [str(name) for name in content["members"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(f"the header of the export file can't be read: {error!r}") from error


def _blob_bytes(file: IO[bytes], oid: Oid) -> int:
    marker = file.read(len(BLOB_MARKER))
    length = file.read(8)
    if marker != BLOB_MARKER or len(length) != 8:
        raise ExportError(f"the export file has no data for the blob {oid_repr(oid)}")
    return u64(length)
