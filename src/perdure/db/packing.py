"""Packing a database: alone, or as a member of a collection whose others may refer to it."""

from collections.abc import Callable, Mapping
from typing import Any

from perdure.errors import MissingMemberError, ReadOnlyError, Unsupported
from perdure.storage._layers import decoder_of
from perdure.storage.packing import SearchedMember, is_plain_referencesf
from perdure.storage.view import EngineFace

__all__ = ["members_at_hand", "pack_database", "require_packable"]

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
    asked = _asked(database, gc=gc)
    if storage.collects_garbage if gc is None else gc:
        gc = asked is not None
    storage.pack(until, database.references, gc=gc, progress=progress, members=asked)


def require_packable(database: Any, *, gc: bool | None) -> None:
    """Raise what `pack_database` would refuse to pack *database* with, as far as that is known."""
    storage, members = database.storage, database.databases
    database._require_open()
    if storage.isReadOnly():
        raise ReadOnlyError(f"{storage.getName()} is read-only and can't be packed")
    if _is_searched_natively(database):
        _asked(database, gc=gc)
    elif len(members) > 1:
        _require_no_garbage(storage, gc=gc)
        if not _takes_gc(storage):
            raise _takes_no_advice(storage, members)


def _takes_gc(storage: Any) -> bool:
    """Tell whether a storage's `pack` may have an argument *gc*, and those of what it stands on."""
    # Only here: it takes long to load, and few need it.
    import inspect

    from perdure.blob import BlobStorage
    from perdure.storage._transforming import TransformingStorage

    while True:
        try:
            arguments = inspect.signature(storage.pack).parameters.values()
        except (TypeError, ValueError):
            # Not told, as by functions written in C.
            return True
        named = any(each.name == "gc" for each in arguments)
        if not named and all(each.kind is not each.VAR_KEYWORD for each in arguments):
            return False
        if not isinstance(storage, TransformingStorage | BlobStorage):
            return True
        storage = storage.base


def _asked(database: Any, *, gc: bool | None) -> dict[str, SearchedMember] | None:
    """Return the storages that say what is no garbage; None where none is to be dropped."""
    if not (database.storage.collects_garbage if gc is None else gc):
        return None
    asked = members_at_hand(database)
    if asked is None and gc:
        raise Unsupported(
            f"garbage of {database.database_name!r} can't be told: other members have storages "
            "that can't be asked what they refer to; pack without gc=True"
        )
    return asked


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
    if len(found) == 1:
        return found
    from perdure.storage.joint import lock_place  # late: a database that is alone needs none of it

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
    _require_no_garbage(storage, gc=gc)
    try:
        # IStorage's pack has no such argument, and no interface declares those that have.
        storage.pack(until, references, gc=False)
    except TypeError as error:
        if "keyword argument 'gc'" not in str(error):
            raise
        raise _takes_no_advice(storage, members) from error


def _require_no_garbage(storage: Any, *, gc: bool | None) -> None:
    if gc:
        raise Unsupported(f"what is garbage in {storage.getName()} can't be told in a collection")


def _takes_no_advice(storage: Any, members: Mapping[str, Any]) -> Unsupported:
    return Unsupported(
        f"{storage.getName()} can't be told to pack without dropping objects that only other "
        f"members of the collection ({', '.join(sorted(members))}) refer to. If it is set up "
        "to keep them anyhow, call the storage's own pack(time, referencesf)"
    )
