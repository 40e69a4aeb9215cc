"""Reading export files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from perdure import _native
from perdure.errors import ExportError
from perdure.exportimport.format import Entry, entries
from perdure.ids import NO_TID, Oid, oid_repr
from perdure.interfaces import IBlobStorage
from perdure.utils import cp, mktemp

__all__ = ["Import"]


class Import:
    """Stores the objects of one export file under new oids.

    *new_oid* gives the oids; *storage* takes records and, where it keeps blobs, files.
    """

    def __init__(self, storage: Any, new_oid: Callable[[], Oid]) -> None:
        self._storage = storage
        self._new_oid = new_oid
        self._oids: dict[Oid, Oid] = {}
        self.stored: list[Oid] = []
        """The new oids, the exported object's first."""

    def run(self, file: IO[bytes]) -> None:
        """Store all objects of the file, which is read from behind its magic.

        Raises ExportError for a file that is cut off, garbled or incomplete; what was stored so
        far is for the caller to take back.
        """
        for entry in entries(file):
            if self.stored and entry.oid not in self._oids:
                raise ExportError(
                    f"the export file is garbled: nothing in it refers to {oid_repr(entry.oid)}"
                )
            self._store(entry, file)

    def _replacement(self, oid: Oid) -> Oid:
        new = self._oids.get(oid)
        if new is None:
            new = self._oids[oid] = self._new_oid()
        return new

    def _store(self, entry: Entry, file: IO[bytes]) -> None:
        oid = self._replacement(entry.oid)
        try:
            data = _native.replace_references(entry.data, self._replacement)
        except ValueError as error:
            raise ExportError(
                f"the record of {oid_repr(entry.oid)} in the export file can't be read: {error}"
            ) from error
        if entry.blob_bytes is None:
            self._storage.store(oid, NO_TID, data, "", None)
        else:
            self._store_blob(oid, data, entry, file)
        self.stored.append(oid)

    def _store_blob(self, oid: Oid, data: bytes, entry: Entry, file: IO[bytes]) -> None:
        if not IBlobStorage.providedBy(self._storage):
            raise ExportError(
                f"the export file has a blob ({oid_repr(entry.oid)}), and this database keeps "
                "none: open it with a blob_dir"
            )
        path = mktemp(self._storage.temporaryDirectory())
        try:
            with Path(path).open("wb") as target:
                cp(file, target, entry.blob_bytes)
            if os.path.getsize(path) != entry.blob_bytes:  # noqa: PTH202 - paths of blobs are text
                raise ExportError(f"Truncated export file: the blob {oid_repr(entry.oid)} is cut")
            self._storage.storeBlob(oid, NO_TID, data, path, "", None)
        finally:
            Path(path).unlink(missing_ok=True)
