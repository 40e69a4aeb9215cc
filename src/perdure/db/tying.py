"""Tying databases together: what can be a member of a collection, and how it becomes one."""

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from perdure.db.database import DB
from perdure.errors import ConnectionStateError

__all__ = ["common_mapping", "made", "require_members", "tie"]


def require_members(members: Any) -> None:
    """Raise TypeError or ValueError for what no collection can be made from."""
    if not isinstance(members, Mapping):
        raise TypeError(
            f"the members of a collection are given by name, as in {{'orders': 'orders.fs'}}, "
            f"not as {members!r}"
        )
    if not members:
        raise ValueError("a collection needs at least one member")
    names: dict[int, str] = {}
    for name, member in members.items():
        if not isinstance(name, str):
            raise TypeError(f"{name!r} can't be the name of a member: give a string")
        _require_member(name, member)
        # Paths that are equal are found when the file is locked.
        if _is_database_or_storage(member):
            first = names.setdefault(id(member), name)
            if first != name:
                raise ValueError(f"{member!r} is given as {first!r} and as {name!r}")


def _require_member(name: str, member: Any) -> None:
    described = member is None or isinstance(member, (str, os.PathLike, Mapping))
    if not (described or _is_database_or_storage(member)):
        raise TypeError(
            f"{member!r}, given as {name!r}, is no member: give a database, a storage, the path "
            "of a file, a URI, a dict that describes a database, or None (in memory)"
        )


def _is_database_or_storage(member: Any) -> bool:
    # Not by interface: many storages of others declare none.
    return isinstance(member, DB) or callable(getattr(member, "tpc_begin", None))


def made(
    name: str, member: Any, databases: MutableMapping[str, Any], options: dict[str, Any]
) -> DB:
    """Make the database *name* of a storage, a path or a description, tied into *databases*."""
    if not isinstance(member, (str, Mapping)):
        return DB(member, database_name=name, databases=databases, **options)
    # Not at the top: it brings all layers along, and needs time to load.
    from perdure.sources import description_of, is_described, open_storage

    if not is_described(member):
        return DB(member, database_name=name, databases=databases, **options)
    described = options | description_of(member, name)
    storage = open_storage(described.pop("storage"))
    try:
        return DB(storage, database_name=name, databases=databases, **described)
    except BaseException:
        storage.close()
        raise


def common_mapping(members: Mapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the mapping that ties given databases together already, or a new one."""
    tied: list[MutableMapping[str, Any]] = [
        member.databases
        for member in members.values()
        if isinstance(member, DB) and len(member.databases) > 1
    ]
    return tied[0] if tied else {}


def tie(name: str, database: DB, databases: MutableMapping[str, Any]) -> None:
    """Have *database* be the member *name* of the collection that *databases* stands for.

    Raises ConnectionStateError for one that is closed, ValueError for one that belongs to
    another collection or has open connections.
    """
    if database.closed:
        raise ConnectionStateError(f"The database for {name!r} is closed")
    if databases.get(name) is database:
        return
    if len(database.databases) > 1:
        raise ValueError(
            f"the database {database.database_name!r}, given as {name!r}, belongs to a collection "
            f"of {', '.join(sorted(database.databases))} already"
        )
    if any(connection.opened for connection in database._all_connections()):
        raise ValueError(f"{database!r}, given as {name!r}, has open connections: close them first")
    database._join(name, databases)
