"""Writing export files."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

from perdure import _native
from perdure._blobtail import length_in
from perdure.blob import require_length
from perdure.errors import ExportError
from perdure.exportimport.format import (
    BLOB_MARKER,
    END_MARKER,
    END_OF_MEMBERS,
    MAGIC,
    header_of_members,
    is_blob,
)
from perdure.ids import Oid, oid_repr, p64
from perdure.interfaces import IBlobStorage
from perdure.serialize.references import all_own_references
from perdure.utils import cp

__all__ = ["Progress", "export", "export_members"]

Progress = Callable[[int, int], object]

_OBJECTS_PER_CALL = 1000
"""How many objects are written between two reports."""
_log = logging.getLogger("perdure.exportimport")


def export(
    storage: Any,
    oid: Oid,
    file: IO[bytes],
    buffer_bytes: int = 1 << 16,
    progress: Progress | None = None,
) -> int:
    """Write an object and all that it refers to, weakly too; return how many objects it was.

    *storage* gives records by `load(oid)`. References to objects that don't exist are left as
    they are, and so are those to other members of a collection; the exported object itself has
    to exist (POSKeyError). *progress* is called with how many objects were written, of how many
    that were met until then.
    """
    storage.load(oid)
    file.write(MAGIC)
    waiting, met, count = deque([oid]), {oid}, 0
    while waiting:
        oid = waiting.popleft()
        data = _write(storage, oid, file, b"", buffer_bytes)
        if data is None:
            continue
        count += 1
        if progress is not None and count % _OBJECTS_PER_CALL == 1:
            progress(count, len(met))
        for member, reference in _places(data, "", oid):
            if not member and reference not in met:
                met.add(reference)
                waiting.append(reference)
    file.write(END_MARKER)
    return count


def export_members(
    storage_of: Callable[[str], Any],
    home: str,
    oid: Oid,
    followed: Collection[str],
    file: IO[bytes],
    buffer_bytes: int = 1 << 16,
    progress: Progress | None = None,
) -> Mapping[str, int]:
    """Write an object of the member *home* and all that it refers to, in the members *followed*.

    References to other members are left as they are. *storage_of* gives a member's storage;
    *progress* is told as by `export`. Returns how many objects of each member it was. Raises
    POSKeyError where there is no such object.
    """
    names = [home, *sorted(set(followed) - {home})]
    numbers = {name: number.to_bytes(4, "big") for number, name in enumerate(names)}
    storage_of(home).load(oid)
    file.write(header_of_members(names))
    waiting, met = deque([(home, oid)]), {(home, oid)}
    counts = dict.fromkeys(names, 0)
    count = 0
    while waiting:
        member, oid = waiting.popleft()
        data = _write(storage_of(member), oid, file, numbers[member], buffer_bytes)
        if data is None:
            continue
        counts[member] += 1
        count += 1
        if progress is not None and count % _OBJECTS_PER_CALL == 1:
            progress(count, len(met))
        for place in _places(data, member, oid):
            if place[0] in numbers and place not in met:
                met.add(place)
                waiting.append(place)
    file.write(END_OF_MEMBERS)
    return counts


def _places(data: bytes, member: str, oid: Oid) -> list[tuple[str, Oid]]:
    """Return the objects that a record refers to; those of its own database are *member*'s."""
    try:
        found = _native.all_references(data)
    except ValueError:
        return [(member, each) for each in _unusual(data, oid)]
    return [(database or member, each) for _kind, each, database in found]


def _unusual(data: bytes, oid: Oid) -> list[Oid]:
    # What `pickle` can read of it has no references to other members.
    try:
        return all_own_references(data)
    except Exception as error:
        raise ExportError(
            f"the record of {oid_repr(oid)} can't be read, so what it refers to is unknown: {error}; "
            "check the database"
        ) from error


def _write(
    storage: Any, oid: Oid, file: IO[bytes], before: bytes, buffer_bytes: int
) -> bytes | None:
    """Write an object's entry behind *before*; return its record, None where it doesn't exist."""
    try:
        data, serial = storage.load(oid)
    except KeyError:
        # Any storage's POSKeyError is one.
        _log.debug("%s is referred to and doesn't exist", oid_repr(oid))
        return None
    file.writelines((before, oid, p64(len(data)), data))
    if is_blob(data):
        if not IBlobStorage.providedBy(storage):
            raise ExportError(
                f"{oid_repr(oid)} is a blob, and {storage.getName()} was opened without the folder "
                "of its blobs: open it with a blob_dir (file:///path/Data.fs?blob_dir=/path/blobs)"
            )
        path = Path(storage.loadBlob(oid, serial))
        require_length(length_in(data), path.stat().st_size, oid, serial, str(path))
        _write_blob(path, file, buffer_bytes)
    record: bytes = data
    return record


def _write_blob(path: Path, file: IO[bytes], buffer_bytes: int) -> None:
    file.writelines((BLOB_MARKER, p64(path.stat().st_size)))
    with path.open("rb") as data:
        cp(data, file, bufsize=buffer_bytes)
