"""Export and import as methods of connections."""

import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from perdure.errors import ExportError, StateLoadError
from perdure.exportimport.exporting import export, export_members
from perdure.exportimport.format import MAGIC, MAGIC_OF_MEMBERS, read_members
from perdure.exportimport.importing import Import, Target
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
    ) -> IO[bytes]:
        """Write the object at *oid* and all that it refers to into a file.

        What is written is the state that the connection sees. *f* is a path, an open file, or
        None for a temporary file, which is returned, positioned at its end. *bufsize* (bytes) is how
        much of a blob is copied at a time.

        References to other members of the collection are kept, by the members' names: the file is
        one that ZODB reads, too. With *follow* (True: to all members, or the names of some) they
        are followed, and the objects come along; only perdure reads such a file.

        Raises POSKeyError if there is no such object, ExportError for one whose record can't be
        read, KeyError for an unknown member; there is no file at the path then, or the one of
        before.
        """
        connection: Any = self
        followed = _followed(connection, follow)
        if isinstance(f, (str, os.PathLike)):
            return _export_to(Path(f), connection, oid, bufsize, followed)
        if f is not None:
            _export_into(f, connection, oid, bufsize, followed)
            return f
        file = tempfile.TemporaryFile(prefix="EXP")  # noqa: SIM115 - the caller closes it
        try:
            _export_into(file, connection, oid, bufsize, followed)
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
        if isinstance(f, (str, os.PathLike)):
            with Path(f).open("rb") as file:
                return self.importFile(file, clue, customImporters, members=members)
        magic = f.read(len(MAGIC))
        if magic == MAGIC:
            return _import_into(self, f, clue, None, members or {})
        if magic == MAGIC_OF_MEMBERS:
            return _import_into(self, f, clue, read_members(f), members or {})
        if customImporters and magic in customImporters:
            f.seek(0)
            return customImporters[magic](self, f, clue)
        raise ExportError(
            f"Invalid export header: an export file begins with {MAGIC!r}, not with {magic!r}"
        )


def _export_to(
    path: Path, connection: Any, oid: Oid, bufsize: int, followed: Collection[str]
) -> IO[bytes]:
    """Write an export file, in place of an older one only when it is whole."""
    partial = path.with_name(f"{path.name}.exporting")
    file = partial.open("w+b")
    try:
        _export_into(file, connection, oid, bufsize, followed)
        partial.replace(path)
    except BaseException:
        file.close()
        partial.unlink(missing_ok=True)
        raise
    return file


def _export_into(
    file: IO[bytes], connection: Any, oid: Oid, bufsize: int, followed: Collection[str]
) -> None:
    if followed:
        home = connection._db.database_name
        export_members(
            lambda name: connection.get_connection(name)._storage,
            home,
            oid,
            followed,
            file,
            bufsize,
        )
    else:
        export(connection._storage, oid, file, bufsize)
    file.flush()


def _followed(connection: Any, follow: bool | Collection[str]) -> set[str]:
    """Return the other members whose objects come along."""
    database = connection._db
    names = set(database.databases if follow is True else follow or ())
    for name in sorted(names - set(database.databases)):
        raise KeyError(
            f"no member {name!r} to follow references to, among {', '.join(database.databases)}"
        )
    return names - {database.database_name}


def _import_into(
    connection: Any,
    file: IO[bytes],
    clue: str,
    members: Sequence[str] | None,
    names: Mapping[str, str],
) -> Any:
    connections = _connections(connection, members, names)
    transaction = connection.transaction_manager.get()
    # So that the import lies on top of what the transaction did before, and can be taken back.
    for each in connections.values():
        each._register()
    transaction.savepoint(optimistic=True)
    before = {each: each._storage.mark() for each in connections.values()}
    by_connection = {each: _target(each) for each in before}
    targets = {name: by_connection[each] for name, each in connections.items()}
    home = by_connection[connections[members[0]] if members else connection]
    targets = targets if members else {}
    importing = Import(home, targets, names, _existence(connection))
    try:
        importing.run(file, members)
        owner = connection.get_connection(home.name)
        imported = None if importing.first is None else owner.get(importing.first)
    except BaseException as error:
        for each, mark in before.items():
            each._rollback_savepoint(mark)
        if isinstance(error, StateLoadError):
            raise ExportError(f"the exported object can't be read: {error}") from error
        raise
    if clue:
        transaction.note(clue)
    for each, target in by_connection.items():
        # Where they belong is settled, whoever refers to them.
        each._storage.created.update(dict.fromkeys(target.stored, False))
    return imported


def _connections(
    connection: Any, members: Sequence[str] | None, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return the connections that objects are imported into, by the members' names in the file."""
    if not members:
        return {connection._db.database_name: connection}
    own = connection._db.database_name
    home, *others = members
    return {
        home: _member(connection, names.get(home, own)),
        **{name: _member(connection, names.get(name, name)) for name in others},
    }


def _member(connection: Any, name: str) -> Any:
    databases = connection._db.databases
    if name not in databases:
        raise ExportError(
            f"the export file has objects of, or references to, member {name!r}, which isn't among "
            f"{', '.join(map(repr, sorted(databases)))}: say which one is meant, as in "
            f"importFile(..., members={{{name!r}: {min(databases)!r}}})"
        )
    return connection.get_connection(name)


def _target(connection: Any) -> Target:
    database = connection._db
    return Target(
        database.database_name, connection._storage, connection.new_oid, xrefs=database.xrefs
    )


def _existence(connection: Any) -> Callable[[str, Oid], bool]:
    """Return what tells whether a member has an object; it raises ExportError for no member."""

    def exists(name: str, oid: Oid) -> bool:
        member = _member(connection, name)
        if not connection._db.check_references or oid in member._added:
            return True
        try:
            member._storage.load(oid)
        except KeyError:
            return False
        return True

    return exists
