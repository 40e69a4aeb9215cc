"""Export and import as methods of connections."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import IO, Any

from perdure.errors import ExportError
from perdure.ids import Oid

__all__ = ["ExportImport"]

CustomImporter = Callable[[Any, IO[bytes], str], Any]


class ExportImport:
    """The part of a connection that reads and writes export files."""

    def exportFile(
        self,
        oid: Oid,
        f: str | os.PathLike[str] | IO[bytes] | None = None,
        bufsize: int = 1 << 16,
        *,
        follow: bool | Collection[str] = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> IO[bytes]:
        """Write the object at *oid* and all that it refers to into a file.

        What is written is the state that the connection sees. *f* is a path, an open file, or
        None for a temporary file, which is returned, positioned at its end. *bufsize* (bytes) is how
        much of a blob is copied at a time.

        References to other members of the collection are kept, by the members' names: the file is
        one that ZODB reads, too. With *follow* (True: to all members, or the names of some, or of one) they
        are followed, and the objects come along; only perdure reads such a file.

        *progress* is called now and then with how many objects were written, of how many that
        were met until then; what it raises ends the export.

        Raises POSKeyError if there is no such object, ExportError for one whose record can't be
        read and for a path where a file is that is no export file, KeyError for an unknown member;
        there is no file at the path then, or the one of before.
        """
        # Late: every connection can do this, and few ever do.
        import tempfile

        from perdure.exportimport.working import Manner, export_into, export_to, followed_members

        connection: Any = self
        manner = Manner(bufsize, followed_members(connection, follow), progress)
        if isinstance(f, (str, os.PathLike)):
            return export_to(f, connection, oid, manner)
        if f is not None:
            export_into(f, connection, oid, manner)
            return f
        file = tempfile.TemporaryFile(prefix="EXP")  # noqa: SIM115 - the caller closes it
        try:
            export_into(file, connection, oid, manner)
        except BaseException:
            file.close()
            raise
        return file

    def importFile(
        self,
        f: str | os.PathLike[str] | IO[bytes],
        clue: str = "",
        customImporters: Mapping[bytes, CustomImporter] | None = None,
        *,
        members: Mapping[str, str] | None = None,
    ) -> Any:
        """Add the objects of an export file, under new oids; return the exported one.

        They are stored when the transaction is committed, which *clue* is noted in. No class is
        imported for it. *customImporters* take files that begin with other four bytes: each is
        called with the connection, the file (from its beginning) and *clue*. None is returned for
        a file without objects.

        The exported object goes to this connection's database, those that came along from other
        members to the members of the same names; *members* maps names in the file to others. It
        also maps those of members that are only referred to.

        Raises ExportError for anything that isn't a whole export file, and for a reference to a
        member that isn't there, DanglingReferenceError for one to an object that a member doesn't
        have (unless the database has `check_references=False`); nothing is stored then.
        """
        from perdure.exportimport.format import MAGIC, MAGIC_OF_MEMBERS, read_members
        from perdure.exportimport.working import import_into

        if isinstance(f, (str, os.PathLike)):
            with open(f, "rb") as file:  # noqa: PTH123 - pathlib takes memory
                return self.importFile(file, clue, customImporters, members=members)
        magic = f.read(len(MAGIC))
        if magic == MAGIC:
            return import_into(self, f, clue, None, members or {})
        if magic == MAGIC_OF_MEMBERS:
            return import_into(self, f, clue, read_members(f), members or {})
        if customImporters and magic in customImporters:
            f.seek(0)
            return customImporters[magic](self, f, clue)
        raise ExportError(
            f"Invalid export header: an export file begins with {MAGIC!r}, not with {magic!r}"
        )
