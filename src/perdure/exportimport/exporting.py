"""Writing export files."""

import logging
from collections import deque
from pathlib import Path
from typing import IO, Any

from perdure.exportimport.format import BLOB_MARKER, END_MARKER, MAGIC, is_blob
from perdure.ids import Oid, oid_repr, p64
from perdure.interfaces import IBlobStorage
from perdure.serialize.references import all_own_references
from perdure.utils import cp

__all__ = ["export"]

_log = logging.getLogger("perdure.exportimport")


def export(storage: Any, oid: Oid, file: IO[bytes], buffer_bytes: int = 1 << 16) -> int:
    """Write an object and all that it refers to, weakly too; return how many objects it was.

    *storage* gives records by `load(oid)`. References to objects that don't exist are left as
    they are; the exported object itself has to exist (POSKeyError).
    """
    has_blobs = IBlobStorage.providedBy(storage)
    storage.load(oid)
    file.write(MAGIC)
    waiting, met, count = deque([oid]), {oid}, 0
    while waiting:
        oid = waiting.popleft()
        try:
            data, serial = storage.load(oid)
        except KeyError:
            # Any storage's POSKeyError is one.
            _log.debug("%s is referred to and doesn't exist", oid_repr(oid))
            continue
        for reference in all_own_references(data):
            if reference not in met:
                met.add(reference)
                waiting.append(reference)
        file.writelines((oid, p64(len(data)), data))
        count += 1
        if has_blobs and is_blob(data):
            _write_blob(Path(storage.loadBlob(oid, serial)), file, buffer_bytes)
    file.write(END_MARKER)
    return count


def _write_blob(path: Path, file: IO[bytes], buffer_bytes: int) -> None:
    file.writelines((BLOB_MARKER, p64(path.stat().st_size)))
    with path.open("rb") as data:
        cp(data, file, bufsize=buffer_bytes)
