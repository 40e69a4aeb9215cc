"""A commit on its way: from changed objects to records in the storage."""

import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from perdure import _native
from perdure.blob import Blob
from perdure.connection.blobs import SavedBlob, is_unchanged_blob, store_blob
from perdure.connection.integrity import Target, refuse_dangling, require_targets
from perdure.connection.metadata import TransactionMetaData
from perdure.connection.once import require_once
from perdure.connection.state import ConnectionState
from perdure.errors import InvalidObjectReference, ReadOnlyHistoryError
from perdure.ids import NO_TID, Oid, Tid, oid_repr
from perdure.serialize import ObjectWriter
from perdure.storage.view import EngineView

if TYPE_CHECKING:
    from perdure.connection.placing import Together

__all__ = ["Commit", "Record", "into_cache", "serialised", "store_changes"]

Record = tuple[Oid, Tid, bytes, Any]
"""An object ready to be stored: oid, the revision it was made from, data, the object itself."""

_LARGE = (
    "The {cls} object you're saving is large. ({size} bytes; {oid} in database {database!r}.) "
    "Every change of it writes all of this again. Store media in blobs, large collections in "
    "BTrees, and parts that change on their own in persistent objects; or allow such records "
    "by the large_record_size option of the database."
)


class Commit:
    """What one connection does in one commit."""

    def __init__(self, transaction: Any, database: Any, joint: Any = None) -> None:
        self.meta = TransactionMetaData(
            transaction.user, transaction.description, transaction.extension
        )
        self.transaction = transaction
        self._database = database
        self._joint = joint
        self.begun = False
        """Whether the storage knows of it."""
        self.stored: list[Oid] = []
        """The objects that the storage is given, new ones included."""
        self.objects: list[Any] | None = None
        """The same, where they are at hand."""
        self.together: Together | None = None
        """The members' common work, where new objects have places of their own."""

    def begin(self, storage: Any) -> None:
        """Tell the storage; from now on it has to be finished or aborted there."""
        if not self.begun:
            if len(getattr(self.transaction, "_resources", ())) > 1:
                require_once(self._database, self.transaction)
            storage.tpc_begin(self.meta)
            self.begun = True
            if self._joint is not None:
                self._joint.join(storage)

    def store_objects(self, storage: Any, records: Iterable[Record]) -> None:
        """Give records to the storage, and remember their objects."""
        if not isinstance(storage, EngineView):
            # Others may take their lock as soon as they are told of the commit, so
            # everything is serialised first.  perdure's own take none before the vote;
            # so only their copy of a large commit needs to be in memory.
            records = list(records)
        if self.objects is None:
            self.objects = []
        self.store(storage, self._remembered(records, self.objects))

    def _remembered(self, records: Iterable[Record], objects: list[Any]) -> Iterator[Record]:
        oids = self.stored
        for record in records:
            oids.append(record[0])
            objects.append(record[3])
            yield record

    def store(self, storage: Any, records: Iterable[Record]) -> None:
        """Give records to the storage, which is told of the commit with the first."""
        store, meta = storage.store, self.meta
        for oid, serial, data, obj in records:
            if not self.begun:
                self.begin(storage)
            if type(obj) is Blob or type(obj) is SavedBlob:
                store_blob(storage, (oid, serial, data, obj), meta)
            else:
                store(oid, serial, data, "", meta)

    def intake(self, connection: ConnectionState, done: _native.OidSet) -> _native.Intake | None:
        """Return what takes new objects in natively; None where that isn't possible.

        The commit has to have begun.
        """
        storage = connection._normal_storage
        is_direct = (
            isinstance(storage, EngineView)
            and ObjectWriter is _native.ObjectWriter
            and type(storage).store is _native.StorageView.store
            and "store" not in vars(storage)
        )
        if not is_direct or storage.draft is None:
            return None
        if self.objects is None:
            self.objects = []
        return _native.Intake(connection, storage.draft, done, self.stored, self.objects)

    def first_intake(
        self, connection: ConnectionState, done: _native.OidSet
    ) -> _native.Intake | None:
        """Return the same, begun for it, where the first changed object is to be stored."""
        storage = connection._normal_storage
        registered = connection._registered_objects
        if not registered or not isinstance(storage, EngineView):
            return None
        obj = registered[0]
        if not obj._p_changed or obj._p_jar is not connection:
            return None
        if type(obj) is Blob and is_unchanged_blob(obj):
            return None
        self.begin(storage)
        return self.intake(connection, done)

    def finish(self, connection: ConnectionState) -> Tid:
        """Make it permanent, and the stored objects up to date; return the tid."""
        storage = connection._normal_storage
        tid: Tid = self.permanent_tid(storage) or storage.tpc_finish(self.meta)
        objects = self.objects
        if objects is None:
            objects = [connection._cache.get(oid) for oid in self.stored]
        connection._mark_stored(objects, tid)
        return tid

    def vote(self, storage: Any, *, alone: bool) -> Iterable[Oid] | None:
        """Have the storage vote; return the oids whose conflicts were resolved.

        *alone*: no other resource takes part.  perdure's own storages then finish as well,
        in one step, so that others neither wait for this thread's next turn nor for its return.
        """
        resolved: Iterable[Oid] | None
        if alone and isinstance(storage, EngineView) and storage.finishes_with_vote():
            resolved = storage.tpc_vote(self.meta, alone=True)
        else:
            resolved = storage.tpc_vote(self.meta)
        return resolved

    def permanent_tid(self, storage: Any) -> Tid | None:
        """Return its tid where the vote has finished it as well."""
        return storage.committed if self.begun and isinstance(storage, EngineView) else None

    def only_checks(self, storage: Any) -> bool:
        """Tell whether nothing is stored, only something read had to stay as it is.

        perdure's own storages know by themselves that there is nothing to write.
        """
        return not self.stored and not isinstance(storage, EngineView)

    def abort(self, storage: Any) -> None:
        """Drop what the storage was given, if it was given anything."""
        if self.begun:
            storage.tpc_abort(self.meta)


def serialised(connection: ConnectionState, first: int = 0) -> Iterator[Record]:
    """Serialise what was changed or added, and all new objects reached from there.

    *first* is how many changed objects have been seen to before.  While it runs, new
    objects enter the connection's cache and `_creating`.
    """
    work = _Serialisation(connection, first)
    try:
        yield from work.records()
        work.require_targets()
    finally:
        work.end()


def store_changes(connection: ConnectionState, commit: Commit) -> None:
    """Store what `serialised` would yield, natively where the objects are of the usual kind."""
    work = _Serialisation(connection)
    try:
        if not work.takes_all(commit):
            commit.store_objects(connection._normal_storage, work.records(commit))
        work.require_targets()
    finally:
        work.end()


class _Serialisation:
    """The changed objects of a connection on their way to records."""

    def __init__(self, connection: ConnectionState, first: int = 0) -> None:
        if connection.before is not None:
            raise _past(connection.before)
        self._connection = connection
        self._writer = ObjectWriter(connection)
        self._done = _native.OidSet()
        self._seen = first
        """How many of the objects that were changed have been seen to."""
        self._intake: _native.Intake | None = None
        """What takes objects in natively, once that is possible."""
        self._waiting: list[Any] = []
        """Objects that were reached and are not serialised yet, the next one last."""
        self._odd: Record | None = None
        """A record that came before all others, and needs a look."""
        self._late: list[Any] = []
        connection._added_during_commit = self._late

    def takes_all(self, commit: Commit) -> bool:
        """Have changed objects stored natively; tell whether that was all that there is to do."""
        connection = self._connection
        self._intake = intake = commit.first_intake(connection, self._done)
        if intake is None:
            return False
        registered = connection._registered_objects
        self._seen, self._odd = self._writer.take_over(registered, 0, self._waiting, intake)
        left = self._odd or self._waiting or self._late or connection._arrived
        return not left and self._seen >= len(registered)

    def records(self, commit: Commit | None = None) -> Iterator[Record]:
        """Yield what is to be stored.

        With *commit*, which stores the records as they come, objects may be stored without
        appearing here.
        """
        reached_first, self._waiting = self._waiting, []
        if self._intake is not None:
            yield from self._taken(self._intake, reached_first)
        for changed in chain(reversed(reached_first), self._to_be_stored()):
            waiting = [changed]
            while waiting:
                record = _record_of(self._connection, self._writer, waiting.pop())
                self._done.add(record[0])
                reached = self._writer.take_new()
                if reached:
                    _created(self._connection, reached)
                    waiting += reached
                yield record
                if commit is not None:
                    self._intake = self._intake or commit.intake(self._connection, self._done)
                    if self._intake is not None:
                        yield from self._taken(self._intake, waiting)

    def _taken(self, intake: _native.Intake, waiting: list[Any]) -> Iterator[Record]:
        """Have objects stored natively, new ones and changed ones; yield those that are unusual."""
        odd, self._odd = self._odd, None
        if odd is not None:
            _look_at(self._connection, odd[3], odd[2])
            yield odd
        registered = self._connection._registered_objects
        while True:
            while (odd := self._writer.take_in(waiting, intake)) is not None:
                _look_at(self._connection, odd[3], odd[2])
                yield odd
            if waiting:
                return
            self._seen, odd = self._writer.take_over(registered, self._seen, waiting, intake)
            if odd is not None:
                _look_at(self._connection, odd[3], odd[2])
                yield odd
            elif not waiting:
                return

    def _to_be_stored(self) -> Iterator[Any]:
        """Go through what was changed, and what is added while that is being serialised.

        Objects of a class with a mind of its own may add others in their `__getstate__`.
        """
        connection = self._connection
        registered = connection._registered_objects
        while self._seen < len(registered):
            obj = registered[self._seen]
            self._seen += 1
            if self._is_to_be_stored(obj):
                yield obj
        for obj in self._late:
            if obj._p_oid not in self._done:
                yield obj
        arrived = connection._arrived
        while arrived:
            yield arrived.pop()

    def _is_to_be_stored(self, obj: Any) -> bool:
        oid = obj._p_oid
        if obj._p_jar is not self._connection:
            raise InvalidObjectReference(
                f"object {oid_repr(oid)} has come to belong to {obj._p_jar!r} since it was changed",
                object=obj,
            )
        # It is legal to set _p_changed to False after a change, to have it not stored.
        if oid in self._done or not (obj._p_changed or oid in self._connection._added):
            return False
        if is_unchanged_blob(obj):
            obj._p_changed = False
            return False
        return True

    def require_targets(self) -> None:
        """Have the vote look for what the records refer to, unless it is for a savepoint."""
        if self._connection._savepoint_storage is None:
            require_targets(self._connection, self._writer)

    def end(self) -> None:
        """Put everything back as it is outside of a serialisation."""
        connection = self._connection
        connection._added_during_commit = None
        connection._missing.clear()
        connection._store_count += len(self._done)
        if connection._readCurrent:
            # An object that is written needs no check of having been read.
            for oid in [oid for oid in connection._readCurrent if oid in self._done]:
                del connection._readCurrent[oid]
        left = self._writer.take_new()
        if left:
            # After an error: these have got oids, and have to lose them again.
            _created(connection, left)


def _record_of(connection: ConnectionState, writer: Any, obj: Any) -> Record:
    oid = obj._p_oid
    serial = getattr(obj, "_p_serial", NO_TID)
    if serial == NO_TID and oid not in connection._creating:
        _note_creation(connection, oid, obj)
    data = writer.serialize(obj)
    _look_at(connection, obj, data)
    size = len(data)
    connection._cache.update_object_size_estimation(oid, size)
    obj._p_estimated_size = size
    return oid, serial, data, obj


def _look_at(connection: ConnectionState, obj: Any, data: bytes) -> None:
    if connection._missing:
        refuse_dangling(connection, obj, _emptied(connection._missing))
    if len(data) >= connection.large_record_size:
        _warn_large(connection, obj, len(data))


def _emptied(targets: list[Target]) -> list[Target]:
    taken = targets.copy()
    targets.clear()
    return taken


def _past(before: Tid) -> ReadOnlyHistoryError:
    return ReadOnlyHistoryError(
        f"a past state (before {oid_repr(before)}) can't be changed: "
        "open the database without at= or before="
    )


def _warn_large(connection: ConnectionState, obj: Any, size: int) -> None:
    cls = f"{type(obj).__module__}.{type(obj).__qualname__}"
    name = connection._db.database_name
    warnings.warn(
        _LARGE.format(cls=cls, oid=oid_repr(obj._p_oid), database=name, size=size), stacklevel=2
    )


def _note_creation(connection: ConnectionState, oid: Oid, obj: Any) -> None:
    savepoint = connection._savepoint_storage
    if connection._added.pop(oid, None) is not None:
        connection._creating[oid] = False
        into_cache(connection, oid, obj)
    elif savepoint is None or oid not in savepoint.created:
        connection._creating.setdefault(oid, True)


def _created(connection: ConnectionState, objects: list[Any]) -> None:
    for obj in objects:
        oid = obj._p_oid
        # One that has a route has got its place by more than being reached.
        connection._creating.setdefault(oid, True)
        into_cache(connection, oid, obj)


def into_cache(connection: ConnectionState, oid: Oid, obj: Any) -> None:
    """Have the connection's cache know a new object."""
    try:
        connection._cache[oid] = obj
    except TypeError:
        # An object wrapped for acquisition: it is the inner one that is persistent.
        connection._cache[oid] = obj.aq_base
