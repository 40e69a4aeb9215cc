"""The work of `Connection.exportFile` and `importFile`, which is loaded when it is to be done."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from perdure._folders import sync_folder
from perdure.errors import ExportError, StateLoadError
from perdure.exportimport.exporting import Progress, export, export_members
from perdure.exportimport.format import MAGIC, MAGIC_OF_MEMBERS
from perdure.exportimport.importing import Import, Target
from perdure.ids import Oid

__all__ = ["Manner", "export_into", "export_to", "followed_members", "import_into"]


class Manner(NamedTuple):
    """How to export."""

    buffer_bytes: int
    """How much of a blob is copied at a time."""
    followed: Collection[str]
    """The other members whose objects come along."""
    progress: Progress | None


def export_to(
    place: str | os.PathLike[str], connection: Any, oid: Oid, manner: Manner
) -> IO[bytes]:
    """Write an export file, in place of an older one only when it is whole.

    Raises ExportError where another kind of file is there: it stays as it is. A device or pipe is
    written to.
    """
    path = Path(place)
    if path.exists() and not path.is_file():
        return _export_through(path, connection, oid, manner)
    path = path.resolve()
    _require_no_other_file(path)
    partial = path.with_name(f"{path.name}.exporting")
    _require_no_other_file(partial)
    try:
        file = partial.open("w+b")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        export_into(file, connection, oid, manner)
        os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException:
        file.close()
        partial.unlink(missing_ok=True)
        raise
    return file


def _export_through(path: Path, connection: Any, oid: Oid, manner: Manner) -> IO[bytes]:
    file = path.open("wb")
    try:
        export_into(file, connection, oid, manner)
    except BaseException:
        file.close()
        raise
    return file


def _require_no_other_file(path: Path) -> None:
    """Refuse to replace what is no export file: two arguments mixed up would cost a database."""
    if not path.exists():
        return
    with path.open("rb") as file:
        beginning = file.read(len(MAGIC))
    if beginning not in (b"", MAGIC, MAGIC_OF_MEMBERS):
        raise ExportError(
            f"{path} is there and is no export file: it was left as it is; give another path, or "
            "remove it first"
        )


def export_into(file: IO[bytes], connection: Any, oid: Oid, manner: Manner) -> None:
    """Write an object, with those of the members that are followed, into an open file."""
    if manner.followed:
        home = connection._db.database_name
        export_members(
            lambda name: connection.get_connection(name)._storage,
            home,
            oid,
            manner.followed,
            file,
            manner.buffer_bytes,
            manner.progress,
        )
    else:
        export(connection._storage, oid, file, manner.buffer_bytes, manner.progress)
    file.flush()


def followed_members(connection: Any, follow: bool | Collection[str]) -> set[str]:
    """Return the other members whose objects come along."""
    database = connection._db
    wanted = [follow] if isinstance(follow, str) else follow
    names = set(database.databases if wanted is True else wanted or ())
    for name in sorted(names - set(database.databases)):
        raise KeyError(
            f"no member {name!r} to follow references to, among {', '.join(database.databases)}"
        )
    return names - {database.database_name}


def import_into(
    connection: Any,
    file: IO[bytes],
    clue: str,
    members: Sequence[str] | None,
    names: Mapping[str, str],
) -> Any:
    """Add the objects of an export file, whose *members* were read; return the exported one."""
    _require_targets(connection, names)
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
    found = {name: names.get(name, name) for name in others}
    return {
        home: _member(connection, names.get(home, own)),
        # One that isn't there is missed where something refers to it: perhaps nothing does.
        **{
            name: _member(connection, target)
            for name, target in found.items()
            if target in connection._db.databases
        },
    }


def _require_targets(connection: Any, names: Mapping[str, str]) -> None:
    """Raise ExportError where a member that others are to be mapped to isn't there."""
    databases = connection._db.databases
    for name, target in names.items():
        if target not in databases:
            error = ExportError(
                f"members={{{name!r}: {target!r}}} names no member: {target!r} isn't among "
                f"{', '.join(map(repr, sorted(databases)))}"
            )
            error.member = target
            raise error


def _member(connection: Any, name: str) -> Any:
    databases = connection._db.databases
    if name not in databases:
        error = ExportError(
            f"the export file has objects of, or references to, member {name!r}, which isn't among "
            f"{', '.join(map(repr, sorted(databases)))}: say which one is meant, as in "
            f"importFile(..., members={{{name!r}: {min(databases)!r}}})"
        )
        error.member = name
        raise error
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
