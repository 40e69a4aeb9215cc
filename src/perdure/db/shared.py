"""What the databases of a collection share."""

import threading
from collections.abc import MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from perdure import _native
from perdure.db.routes import Choose, Routes, chooser
from perdure.ids import Tid
from perdure.storage.view import EngineFace
from perdure.utils import before2at

if TYPE_CHECKING:
    from perdure.connection.connection import Connection
    from perdure.connection.group import ConnectionSet
    from perdure.db.database import DB
    from perdure.db.pool import ConnectionPool
    from perdure.storage.joint import JointCommit

__all__ = ["Shared", "shared_by"]


class _Own(NamedTuple):
    """The members of a collection whose storages are perdure's own."""

    databases: dict[str, Any]
    """All members, as they were looked at."""
    storages: dict[str, _native.Storage]
    """The native storages of those that are perdure's own."""


@cache
def _joint_class() -> "type[JointCommit]":
    # Late: a database that is alone has no need of it. Once: each transaction comes by.
    from perdure.storage.joint import JointCommit

    return JointCommit


class Shared:
    """What is common to the databases that one `databases` mapping ties together."""

    def __init__(self, databases: MutableMapping[str, Any]) -> None:
        self.databases = databases
        self.lock = threading.RLock()
        """Guards the pools of all members, and `databases` while one is added."""
        self._gate = _native.Gate()
        self.routes: Routes | None = None
        """Which member new objects of a class go to."""
        self._own: _Own | None = None
        """The members with storages of perdure's, as long as `databases` stays as it was."""
        self._joint: WeakKeyDictionary[Any, JointCommit] = WeakKeyDictionary()
        """What the members do together in each transaction that is there."""

    def chooser(self) -> "Choose | None":
        """Return what says where new objects go at present; None if nothing does."""
        return chooser(self) if len(self.databases) > 1 else None

    def joint_commit(self, transaction: Any) -> "JointCommit | None":
        """Return what the members do together in *transaction*; None for a single database."""
        if len(self.databases) < 2:
            return None
        # Not in `transaction.data`, which raises two errors for what isn't there.
        joint = self._joint.get(transaction)
        if joint is None:
            joint = self._joint[transaction] = _joint_class()(self._gate)
        return joint

    def snapshots(self) -> dict[str, Tid]:
        """Return the newest transaction of each member, of one moment.

        Joint transactions are in all of them or in none.  Members whose storage is
        not perdure's own are left out, and so is a database that is alone.
        """
        if len(self.databases) < 2:
            return {}
        return self._gate.snapshots(self._own_members().storages)

    def settle_past(self, before: Tid) -> None:
        """Have no transaction before a tid become visible in any member after this.

        Waits for those that are on their way with such a tid. One database alone shows its
        transactions in the order of their tids.
        """
        if len(self.databases) > 1:
            for storage in self._own_members().storages.values():
                storage.settle_past(before2at(before))

    def _own_members(self) -> "_Own":
        known = self._own
        if known is not None and known.databases == self.databases:
            return known
        databases = dict(self.databases)
        # One that is just being opened has no adapter yet.
        adapters = {
            name: None if db.closed else getattr(db, "_mvcc_storage", None)
            for name, db in databases.items()
        }
        own = _Own(
            databases,
            {
                name: adapter.engine._native
                for name, adapter in adapters.items()
                if isinstance(adapter, EngineFace)
            },
        )
        if None not in adapters.values():
            self._own = own
            if any(db.closed for db in databases.values()):
                # Meanwhile, perhaps before it could be forgotten.
                self._own = None
        return own

    def forget_members(self) -> None:
        """Look anew which members are at hand, now that one is closed."""
        self._own = None

    def add(self, name: str, database: "DB") -> None:
        """Add a member; ValueError if the name is taken."""
        with self.lock:
            if name in self.databases:
                raise ValueError(f"database_name {name!r} already in databases")
            self.databases[name] = database

    def lend(self, pool_of: "DB", before: Any) -> "Connection | None":
        """Take the best idle connection from a pool, with all of its set."""
        with self.lock:
            found = pool_of._pool_for(before).best(before)
            if found is not None:
                _take_out(found._set)
            return found

    def lend_alone(self, pool_of: "DB", before: Any) -> "Connection | None":
        """Take an idle connection that is the only one of its set, to join another."""
        with self.lock:
            found = pool_of._pool_for(before).best(before, alone=True)
            if found is not None:
                _take_out(found._set)
            return found

    def take_back(self, group: "ConnectionSet") -> None:
        """Put all connections of a set into their pools."""
        with self.lock:
            if group.is_behind:
                _release(group)
                return
            for connection in group.members.values():
                pool = connection._db._pool_for(connection.before)
                for superfluous in pool.make_room():
                    _release(superfluous._set)
            for connection in group.members.values():
                connection._db._pool_for(connection.before).put(connection)

    def release_superfluous(self, *pools: "ConnectionPool") -> None:
        """Let go what was idle for too long, or doesn't fit the pools any more."""
        with self.lock:
            for pool in pools:
                for superfluous in pool.superfluous():
                    _release(superfluous._set)

    def release(self, group: "ConnectionSet") -> None:
        """Let go a set for good."""
        with self.lock:
            _release(group)


def _take_out(group: "ConnectionSet") -> None:
    for connection in group.members.values():
        connection._db._pool_for(connection.before).take(connection)


def _release(group: "ConnectionSet") -> None:
    """Let go a set whose connections refer to one another: one alone is of no use."""
    for connection in group.members.values():
        connection._db._pool_for(connection.before).forget(connection)
        connection._release_resources()


def shared_by(databases: MutableMapping[str, Any]) -> Shared:
    """Return what the members of *databases* share already, or something new."""
    for member in databases.values():
        shared = getattr(member, "_shared", None)
        if isinstance(shared, Shared):
            return shared
    return Shared(databases)
