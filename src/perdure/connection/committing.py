"""The connection as a resource of transactions (ISavepointDataManager)."""

from collections.abc import Callable, Container, Iterable
from typing import Any

from transaction import Transaction
from transaction._transaction import Status

from perdure.blob import Blob
from perdure.connection.blobs import store_blob
from perdure.connection.commit import Commit, serialised, store_changes
from perdure.connection.integrity import forget_targets, require_targets
from perdure.connection.placing import Together
from perdure.connection.savepoint import Mark, Savepoint, SavepointStorage
from perdure.connection.snapshot import Snapshot
from perdure.errors import ConflictError
from perdure.ids import Oid
from perdure.serialize import ObjectWriter

__all__ = ["Committing"]


class Committing(Snapshot):
    """The part of a connection that takes part in transactions."""

    def sortKey(self) -> str:
        """Return the connection's place among the resources of a transaction."""
        if self._sort_key is None:
            self._sort_key = f"{self._normal_storage.sortKey()}:{id(self)}"
        return self._sort_key

    def tpc_begin(self, transaction: Any) -> None:
        """Get ready to commit.  The storage isn't involved yet."""
        if self.opened is None:
            self._require_open()
        # Databases of others' making may lack what is perdure's own.
        shared = getattr(self._db, "_shared", None)
        joint = None
        if shared is not None and len(shared.databases) > 1:
            joint = shared.joint_commit(transaction)
        self._commit_running = Commit(transaction, self._db, joint)
        self._creating.clear()

    def commit(self, transaction: Any) -> None:
        """Give the storage the records of what was changed.

        All objects are serialised before any storage takes its lock.
        """
        commit = self._commit_running or self._running_commit(transaction)
        try:
            self._commit(commit)
        except ConflictError as error:
            self._describe_conflict(error)
            raise

    def _commit(self, commit: Commit) -> None:
        choose = None if commit.together is not None else self._chooser()
        if choose is not None:
            Together(self, choose).serialise()
        if commit.together is not None:
            commit.together.store(self)
            return
        if choose is None:
            self._serialise(commit)
        if self._savepoint_storage is not None:
            self._store_savepoint(commit, self._savepoint_storage)
        if self._readCurrent:
            self._check_read_current(commit)

    def _serialise(self, commit: Commit) -> None:
        if self._unflagged is not None:
            self._unflagged.check(self)
        if self._savepoint_storage is None:
            store_changes(self, commit)
        else:
            self._write_savepoint(self._savepoint_storage)

    def _chooser(self) -> "Callable[[type], str | None] | None":
        """Return what says where new objects go; None: where they are reached from."""
        # Databases of others' making may lack what is perdure's own.
        shared = getattr(self._db, "_shared", None)
        return None if shared is None or len(shared.databases) < 2 else shared.chooser()

    @property
    def _written_database(self) -> Any:
        """The database, once it is told of a running commit; else None."""
        commit = self._commit_running
        return self._db if commit is not None and commit.begun else None

    def _running_commit(self, transaction: Any) -> Commit:
        if self._commit_running is None:
            self.tpc_begin(transaction)
        assert self._commit_running is not None
        return self._commit_running

    def _check_read_current(self, commit: Commit) -> None:
        commit.begin(self._normal_storage)
        check = self._normal_storage.checkCurrentSerialInTransaction
        for oid, serial in self._readCurrent.items():
            check(oid, serial, commit.meta)

    def tpc_vote(self, transaction: Any) -> None:
        """Have the storage check for conflicts and get ready to finish."""
        commit = self._commit_running
        if commit is None:
            self._require_open()
            return
        if commit.together is not None:
            for guest in commit.together.carried_by(self):
                guest.tpc_vote(transaction)
        if not commit.begun:
            return
        alone = commit.together is None and self._is_alone(transaction)
        try:
            resolved = commit.vote(self._normal_storage, alone=alone)
        except ConflictError as error:
            self._describe_conflict(error)
            raise
        # What is stored isn't what these objects hold now.
        for oid in resolved or ():
            obj = self._cache.get(oid)
            if obj is not None:
                obj._p_invalidate()

    def _is_alone(self, transaction: Any) -> bool:
        """Tell whether a transaction that commits has no other resource."""
        if type(transaction) is not Transaction or transaction.status != Status.COMMITTING:
            return False
        # None can join any more.
        resources: list[Any] = transaction._resources
        return len(resources) == 1 and resources[0] is self

    def tpc_finish(self, transaction: Any) -> None:
        """Make the commit permanent."""
        commit = self._commit_running
        if commit is None:
            # Another thread may have closed the database since the vote.
            self._require_open()
        if commit is None or not commit.begun:
            pass
        elif not commit.stored and commit.only_checks(self._normal_storage):
            # Others would take a transaction without records for a change.
            commit.abort(self._normal_storage)
        else:
            tid = commit.finish(self)
            if self.explicit_transactions:
                self._own_commit = commit.stored, tid
        self._end_of_transaction()
        # Last: an interrupt before has `tpc_abort` do all this again where it is permanent.
        self._commit_running = None
        if commit is not None and commit.together is not None:
            for guest in commit.together.carried_by(self):
                guest.tpc_finish(transaction)

    def tpc_abort(self, transaction: Any) -> None:
        """Drop what the storage was given, and forget all changes.

        Where an interrupt came after a vote that finished as well, that stays.
        """
        commit = self._commit_running
        if commit is not None and commit.permanent_tid(self._normal_storage):
            self.tpc_finish(transaction)
            return
        self._commit_running = None
        forget_targets(self)
        self._drop_savepoints()
        self._disown_created(self._creating)
        while self._added:
            self._disown(self._added.popitem()[1])
        if commit is not None:
            self._cache.invalidate(commit.stored)
            commit.abort(self._normal_storage)
        self._end_of_transaction()
        if commit is not None and commit.together is not None:
            commit.together.abort(transaction)

    def abort(self, transaction: Any) -> None:
        """Forget all changes."""
        commit = self._commit_running
        if commit is not None and commit.permanent_tid(self._normal_storage):
            return  # An interrupt came; `tpc_abort` follows.
        storage = self._savepoint_storage
        forget_targets(self)
        self._forget_registered({} if storage is None else storage.created)
        self._drop_savepoints()
        self._disown_created(self._creating)
        self._end_of_transaction()

    def _end_of_transaction(self) -> None:
        self._needs_to_join = True
        self._registered_objects = []
        self._creating = {}
        self._arrived.clear()
        if self._foreign_targets:
            self._foreign_targets = {}

    def _forget_registered(self, created: Container[Oid]) -> None:
        """Forget changes, but let objects that are to be disowned keep their state."""
        for obj in self._registered_objects:
            oid = obj._p_oid
            if oid in self._added:
                del self._added[oid]
                self._disown(obj)
            elif oid not in self._creating and oid not in created:
                self._cache.invalidate(oid)
        self._registered_objects = []

    def _disown_created(self, oids: Iterable[Oid]) -> None:
        """Let go objects that were created in a transaction that isn't committed."""
        for oid in list(oids):
            obj = self._cache.get(oid)
            if obj is not None:
                del self._cache[oid]
                self._disown(obj)

    # Savepoints

    def savepoint(self) -> Savepoint:
        """Write all changes to a temporary place; return what brings this state back.

        Objects may leave memory afterwards, changed ones too.
        """
        choose = self._chooser()
        joined: list[Any] = []
        if choose is None:
            self._write_savepoint(self._savepoint())
        else:
            joined = Together(self, choose).write_savepoints()
        members: list[Any] = [self, *joined]
        result = Savepoint([(member, member._savepoint().mark()) for member in members])
        # Savepoints also serve to get through a large transaction with little memory.
        self.cacheGC()
        return result

    def _savepoint(self) -> SavepointStorage:
        storage = self._savepoint_storage
        if storage is None:
            storage = SavepointStorage(self._normal_storage)
            self._storage = self._savepoint_storage = storage
        return storage

    def _write_savepoint(self, storage: SavepointStorage) -> None:
        for oid, serial, data, obj in serialised(self):
            if type(obj) is Blob:
                store_blob(storage, (oid, serial, data, obj), None)
                continue
            storage.store(oid, serial, data, "", None)
            obj._p_changed = False
            obj._p_serial = serial
        storage.created.update(self._creating)
        self._creating.clear()
        self._registered_objects = []

    def _rollback_savepoint(self, mark: Mark) -> None:
        storage = self._savepoint_storage
        if storage is None:
            return
        created = list(storage.created)[mark.created :]
        self._forget_registered(set(created))
        changed = list(storage)
        storage.reset(mark)
        self._disown_created([*created, *self._creating])
        self._creating.clear()
        self._cache.invalidate(changed)

    def _store_savepoint(self, commit: Commit, storage: SavepointStorage) -> None:
        """Give the storage all that was written in savepoints."""
        self._storage = self._normal_storage
        self._savepoint_storage = None
        self._creating.update(storage.created)
        commit.stored = sorted(storage)
        try:
            commit.store(self._normal_storage, map(storage.record, commit.stored))
            require_targets(self, ObjectWriter(self))
            # Their files have moved: the next use finds out where to.
            self._cache.invalidate(storage.oids_of_blobs())
        finally:
            storage.close()

    def _drop_savepoints(self) -> None:
        storage = self._savepoint_storage
        if storage is None:
            return
        self._storage = self._normal_storage
        self._savepoint_storage = None
        self._disown_created(storage.created)
        # Only now: a class that loads at once has to load the committed state.
        self._cache.invalidate(list(storage))
        storage.close()
