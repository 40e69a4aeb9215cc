"""When a connection moves on to the newest state, and what leaves its cache then."""

import logging
from typing import Any

from persistent import PickleCache

from perdure.connection.state import ConnectionState
from perdure.connection.unknown import UnknownState
from perdure.ids import Oid, Tid

__all__ = ["Snapshot", "resetCaches"]

logger = logging.getLogger("perdure.connection")


class _Resets:
    """How often all caches were reset."""

    count = 0


def resetCaches() -> None:
    """Have every connection begin with an empty cache when it is opened next.

    For programs that reload modules: objects in the caches would go on using
    the old classes.
    """
    _Resets.count += 1


def _may_join(transaction: Any) -> bool:
    """Tell whether the transaction is neither doomed nor failed, and so can be committed."""
    return bool(transaction.status == "Active")


class Snapshot(ConnectionState):
    """The part of a connection that follows its transaction manager (ISynchronizer)."""

    _in_transaction: bool
    _resets_seen: int
    _own_commit: tuple[list[Oid], Tid] | None
    """What was committed last, in explicit mode, until the next transaction begins."""

    def newTransaction(self, transaction: Any, sync: bool = True) -> None:
        """Look at the newest state, with all connections of the set."""
        self._in_transaction = transaction is not None
        self._set.advance(force=sync)

    def beforeCompletion(self, transaction: Any) -> None:
        """Take part in the commit, if only to look for changes that nobody announced.

        Otherwise the work begins with `tpc_begin`.
        """
        for member in self.connections.values():
            if member._unflagged is not None and member._needs_to_join and _may_join(transaction):
                member._register()

    def afterCompletion(self, transaction: Any) -> None:
        """Let go what the transaction held, and look at the newest state.

        What fails is logged: raised here, it would have a commit taken for failed.
        """
        self._in_transaction = False
        members = list(self.connections.values())
        for member in members:
            try:
                member._normal_storage.afterCompletion()
            except Exception:  # noqa: PERF203 - each view may fail in its own way
                logger.exception("%r could not let go what its transaction held", member)
        if not self.explicit_transactions:
            # For those who go on without begin().  No sync: begin() will do it.
            try:
                self._set.advance(force=False)
            except Exception:
                # Who reads before the next attempt is told so.
                logger.exception("%r could not move on to the newest state", self)
        for member in members:
            member._cache.incrgc()
            member._tidy_up()

    def sync(self) -> None:
        """Abort the transaction and look at the newest state."""
        self._require_open()
        self.transaction_manager.begin()

    def _invalidate(self, changed: list[Oid] | None) -> None:
        """Make the objects that others changed ghosts (None: all objects)."""
        if self._own_commit is not None:
            self._invalidate_reread(*self._own_commit)
            self._own_commit = None
        if changed is None:
            changed = list(self._cache.cache_data)
        elif changed:
            # Most of what others change is a ghost here: that is known without a look at it.
            changed = self._loaded_among(changed)
        if changed:
            self._cache.invalidate(changed)

    def _forget_state(self, error: BaseException) -> None:
        """Have nothing be read until the set has moved on, which *error* kept it from."""
        if self.opened is None:
            return  # Another thread has closed the database.
        self._storage = UnknownState(self._db.database_name, error)
        known: dict[Oid, Any] = self._cache.cache_data
        # Classes load at once: they wait until that is possible.
        self._cache.invalidate([oid for oid, obj in known.items() if not isinstance(obj, type)])

    def _invalidate_reread(self, oids: list[Oid], tid: Tid) -> None:
        """Drop own objects that were loaded again before the snapshot moved on.

        In explicit mode it only does when the next transaction begins: what was
        loaded in between is the state before the own commit.
        """
        for oid in oids:
            obj = self._cache.get(oid)
            if obj is not None and obj._p_changed is not None and obj._p_serial != tid:
                self._cache.invalidate(oid)

    def cacheMinimize(self) -> None:
        """Make every unchanged object a ghost, in all connections of the set."""
        for member in self.connections.values():
            member._cache.minimize()

    def cacheGC(self) -> None:
        """Shrink the caches of all connections of the set to their target sizes."""
        for member in self.connections.values():
            member._cache.incrgc()

    def _reset_cache_if_asked(self) -> None:
        if self._resets_seen != _Resets.count:
            self._resetCache()

    def _resetCache(self) -> None:
        """Begin with an empty cache of the same size."""
        self._resets_seen = _Resets.count
        self._cache = PickleCache(self, self._cache.cache_size, self._cache.cache_size_bytes)

    def _cache_items(self) -> list[tuple[Oid, Any]]:
        """Return all objects in the cache: ghosts first, then by time of use."""
        recent = self._cache.lru_items()
        others: dict[Oid, Any] = self._cache.cache_data
        for oid, _ in recent:
            others.pop(oid, None)
        return [*others.items(), *recent]
