"""Export and import as methods of connections."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from perdure.errors import ExportError, StateLoadError
from perdure.exportimport.exporting import export
from perdure.exportimport.format import MAGIC
from perdure.exportimport.importing import Import
from perdure.ids import Oid

__all__ = ["ExportImport"]

CustomImporter = Callable[[Any, IO[bytes], str], Any]


class ExportImport:
    """The part of a connection that reads and writes export files."""

    def exportFile(
        self, oid: Oid, f: str | os.PathLike[str] | IO[bytes] | None = None, bufsize: int = 1 << 16
    ) -> IO[bytes]:
        """Write the object at *oid* and all that it refers to into a file.

        What is written is the state that the connection sees. *f* is a path, an open file, or
        None for a temporary file, which is returned, positioned at its end. *bufsize* (bytes) is how
        much of a blob is copied at a time. Raises POSKeyError if there is no such object.
        """
        storage: Any = self._storage  # type: ignore[attr-defined]
        if isinstance(f, (str, os.PathLike)):
            file: IO[bytes] = Path(f).open("w+b")  # noqa: SIM115 - the caller closes it
        elif f is None:
            file = tempfile.TemporaryFile(prefix="EXP")  # noqa: SIM115 - the caller closes it
        else:
            file = f
        try:
            export(storage, oid, file, bufsize)
        except BaseException:
            if file is not f:
                file.close()
            raise
        file.flush()
        return file

    def importFile(
        self,
        f: str | os.PathLike[str] | IO[bytes],
        clue: str = "",
        customImporters: Mapping[bytes, CustomImporter] | None = None,
    ) -> Any:
        """Add the objects of an export file, under new oids; return the exported one.

        They are stored when the transaction is committed, which *clue* is noted in. No class is
        imported for it. *customImporters* take files that begin with other four bytes: each is
        called with the connection, the file (from its beginning) and *clue*. None is returned for
        a file without objects.

        Raises ExportError for anything that isn't a whole export file; nothing is stored then.
        """
        if isinstance(f, (str, os.PathLike)):
            with Path(f).open("rb") as file:
                return self.importFile(file, clue, customImporters)
        magic = f.read(len(MAGIC))
        if magic != MAGIC:
            if customImporters and magic in customImporters:
                f.seek(0)
                return customImporters[magic](self, f, clue)
            raise ExportError(
                f"Invalid export header: an export file begins with {MAGIC!r}, not with {magic!r}"
            )
        return _import_into(self, f, clue)


def _import_into(connection: Any, file: IO[bytes], clue: str) -> Any:
    transaction = connection.transaction_manager.get()
    # So that the import lies on top of what the transaction did before, and can be taken back.
    connection._register()
    transaction.savepoint(optimistic=True)
    storage = connection._storage
    before = storage.mark()
    importing = Import(storage, connection.new_oid)
    try:
        importing.run(file)
        imported = connection.get(importing.stored[0]) if importing.stored else None
    except BaseException as error:
        connection._rollback_savepoint(before)
        if isinstance(error, StateLoadError):
            raise ExportError(f"the exported object can't be read: {error}") from error
        raise
    if clue:
        transaction.note(clue)
    storage.created.update(dict.fromkeys(importing.stored, True))
    return imported
