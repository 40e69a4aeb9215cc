"""Packing a database: alone, or as a member of a collection whose others may refer to it."""

from collections.abc import Callable, Mapping
from typing import Any

from perdure.errors import MissingMemberError, Unsupported
from perdure.storage._layers import decoder_of
from perdure.storage.joint import lock_place
from perdure.storage.packing import SearchedMember, is_plain_referencesf
from perdure.storage.view import EngineFace

__all__ = ["members_at_hand", "pack_database"]

Progress = Callable[[str, int, int], object]


def pack_database(
    database: Any, until: float, *, gc: bool | None, progress: Progress | None
) -> None:
    """Pack the storage of *database*; see `DB.pack`."""
    storage, members = database.storage, database.databases
    if not _is_searched_natively(database):
        if len(members) > 1:
            _pack_keeping_garbage(storage, members, until, database.references, gc=gc)
        else:
            _pack_alone(database, until, gc=gc, progress=progress)
        return
    asked = None
    if storage.collects_garbage if gc is None else gc:
        asked = members_at_hand(database)
        if asked is None and gc:
            raise Unsupported(
                f"garbage of {database.database_name!r} can't be told: other members have storages "
                "that can't be asked what they refer to; pack without gc=True"
            )
        gc = asked is not None
    storage.pack(until, database.references, gc=gc, progress=progress, members=asked)


def _is_searched_natively(database: Any) -> bool:
    return (
        isinstance(database._mvcc_storage, EngineFace)
        and is_plain_referencesf(database.references)
        and database._mvcc_storage.engine.packs_itself()
    )


def members_at_hand(database: Any) -> dict[str, SearchedMember] | None:
    """Return the storages that may refer to *database*, and its own, in the order of locks.

    None where one of them is not perdure's own, so that it can't be asked.  Raises
    MissingMemberError where one is closed, or can be changed by another process.
    """
    found: dict[str, SearchedMember] = {}
    for name, member in database.databases.items():
        if member.closed:
            raise _missing(database, name, "is closed")
        if not isinstance(member._mvcc_storage, EngineFace):
            return None
        if member is not database and member.storage.isReadOnly():
            raise _missing(database, name, "is read-only here: another process may be changing it")
        found[name] = SearchedMember(member._mvcc_storage.engine, decoder_of(member.storage))
    return dict(sorted(found.items(), key=lambda item: lock_place(item[1].storage)))


def _missing(database: Any, name: str, reason: str) -> MissingMemberError:
    error = MissingMemberError(
        f"garbage of {database.database_name!r} can't be told: the member {name!r}, which may "
        f"refer to it, {reason}; make it available, or pack with gc=False"
    )
    error.database = name
    return error


def _pack_alone(database: Any, until: float, *, gc: bool | None, progress: Progress | None) -> None:
    options = {"gc": gc, "progress": progress}
    options = {name: value for name, value in options.items() if value is not None}
    if not options:
        database._mvcc_storage.pack(until, database.references)
        return
    try:
        database.storage.pack(until, database.references, **options)
    except TypeError as error:
        # A storage of others that has no such argument, and has done nothing yet.
        if progress is None or "keyword argument 'progress'" not in str(error):
            raise
        _pack_alone(database, until, gc=gc, progress=None)


def _pack_keeping_garbage(
    storage: Any,
    members: Mapping[str, Any],
    until: float,
    references: Callable[..., Any],
    *,
    gc: bool | None,
) -> None:
    """Drop revisions that were no longer current at *until* (seconds since the epoch).

    No object is dropped: the other *members* of the collection may refer to it, which
    this storage alone can't know.  Raises Unsupported for one that can't be told.
    """
    if gc:
        raise Unsupported(f"what is garbage in {storage.getName()} can't be told in a collection")
    try:
        # IStorage's pack has no such argument, and no interface declares those that have.
        storage.pack(until, references, gc=False)
    except TypeError as error:
        if "keyword argument 'gc'" not in str(error):
            raise
        raise Unsupported(
            f"{storage.getName()} can't be told to pack without dropping objects that only other "
            f"members of the collection ({', '.join(sorted(members))}) refer to. If it is set up "
            "to keep them anyhow, call the storage's own pack(time, referencesf)"
        ) from error
