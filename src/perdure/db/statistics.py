"""What a database can tell about its connections and their caches."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.connection.connection import Connection
    from perdure.db.pool import ConnectionPool
    from perdure.db.shared import Shared

__all__ = ["CacheStatistics"]


def _class_name(obj: Any) -> str:
    cls = type(obj)
    return f"{cls.__module__}.{cls.__name__}"


class CacheStatistics:
    """The part of a database that looks into its connections' caches."""

    _shared: "Shared"
    pool: "ConnectionPool"
    historical_pool: "ConnectionPool"

    def _all_connections(self) -> "list[Connection]":
        with self._shared.lock:
            return [*self.pool, *self.historical_pool]

    def cacheDetail(self) -> list[tuple[str, int]]:
        """Return how many objects of each class are in the caches, sorted by class."""
        counts = Counter(
            _class_name(obj)
            for connection in self._all_connections()
            for _, obj in connection._cache.items()
        )
        return sorted(counts.items())

    def cacheExtremeDetail(self) -> list[dict[str, Any]]:
        """Return a description of every object in the caches.

        Its keys: `conn_no` (the connection, counted from 1), `oid`, `id` (the
        object's attribute `id` or `__name__`), `klass`, `rc` (references to it,
        perdure's own left out), `state` (None: a ghost, True: changed).
        """
        return [
            description
            for number, connection in enumerate(self._all_connections(), 1)
            for description in _descriptions(number, connection)
        ]

    def cacheSize(self) -> int:
        """Return how many objects that aren't ghosts are in the caches."""
        return sum(c._cache.cache_non_ghost_count for c in self._all_connections())

    def cacheDetailSize(self) -> list[dict[str, Any]]:
        """Return for each connection its `connection` (repr), `ngsize` and `size`.

        `ngsize` counts the objects in its cache that aren't ghosts, `size` all.
        """
        details = [
            {
                "connection": repr(connection),
                "ngsize": connection._cache.cache_non_ghost_count,
                "size": len(connection._cache),
            }
            for connection in self._all_connections()
        ]
        return sorted(details, key=lambda d: (d["connection"], d["ngsize"], d["size"]))

    def cacheMinimize(self) -> None:
        """Make all unchanged objects in the caches ghosts."""
        for connection in self._all_connections():
            connection._cache.minimize()

    def cacheFullSweep(self) -> None:
        """Make all unchanged objects in the caches ghosts."""
        for connection in self._all_connections():
            connection._cache.full_sweep()

    def connectionDebugInfo(self) -> list[dict[str, Any]]:
        """Return a description of every connection.

        Its keys: `opened` (when, and how many seconds ago; None if it isn't open),
        `info` (what `setDebugInfo` was given, and the number of objects in the
        cache), `before` (the tid that a connection to a past state looks from).
        """
        now = time.time()
        return [_connection_info(connection, now) for connection in self._all_connections()]


def _descriptions(number: int, connection: "Connection") -> Iterator[dict[str, Any]]:
    for oid, obj in connection._cache_items():
        attributes = getattr(obj, "__dict__", {})
        state = obj._p_changed
        # Left out: the list of items, its item, `obj`, the argument, and the
        # reference by which the cache keeps what isn't a ghost.
        references = sys.getrefcount(obj) - 4 - (state is not None)
        yield {
            "conn_no": number,
            "oid": oid,
            "id": attributes.get("id", attributes.get("__name__", "")),
            "klass": _class_name(obj),
            "rc": references,
            "state": state,
        }


def _connection_info(connection: "Connection", now: float) -> dict[str, Any]:
    opened = connection.opened
    since = None
    if opened:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(opened))
        since = f"{moment} ({now - opened:.2f}s)"
    given = connection.getDebugInfo()
    info = given[0] if len(given) == 1 else given or ""
    return {
        "opened": since,
        "info": f"{info} ({len(connection._cache)})",
        "before": connection.before,
    }
