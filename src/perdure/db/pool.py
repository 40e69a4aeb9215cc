"""The pool: connections that were closed and wait to be opened again."""

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from perdure.connection.connection import Connection

__all__ = ["ConnectionPool"]

logger = logging.getLogger("perdure.db")


class ConnectionPool:
    """The connections of one database, those in use and those that wait.

    Idle ones are kept as a stack, ordered so that the one with most objects in
    its cache is taken first.  There is no limit to how many are in use, but more
    than *size* are logged as a warning, more than twice as many as critical.

    Not safe for threads: the collection's lock is held by whoever calls.
    """

    def __init__(self, size: int, timeout: float, what: str = "DB.open()") -> None:
        self.size = size
        """How many connections are expected at most."""
        self.timeout = timeout
        """How many seconds an idle connection is kept."""
        self._what = what
        # Those in use aren't kept alive: who drops a connection without closing
        # it loses only that.
        self.all: WeakSet[Connection] = WeakSet()
        self.available: list[tuple[float, Connection]] = []

    def getSize(self) -> int:
        """Return how many connections are expected at most."""
        return self.size

    def setSize(self, size: int) -> None:
        """Expect so many connections; idle ones that are too many go when the next is closed."""
        self.size = size

    def getTimeout(self) -> float:
        """Return how many seconds an idle connection is kept."""
        return self.timeout

    def setTimeout(self, timeout: float) -> None:
        """Keep idle connections for so many seconds; older ones go when the next is closed."""
        self.timeout = timeout

    def __iter__(self) -> "Iterator[Connection]":
        return iter(list(self.all))

    def add(self, connection: "Connection") -> None:
        """Make a new connection, which is in use, known."""
        self.all.add(connection)
        count = len(self.all) - len(self.available)
        if count > self.size:
            report = logger.critical if count > 2 * self.size else logger.warning
            report(
                "%s has %s open connections with a pool_size of %s", self._what, count, self.size
            )

    def best(self, before: Any, *, alone: bool = False) -> "Connection | None":
        """Return the idle connection to take, if there is one."""
        for _, connection in reversed(self.available):
            if connection.before == before and not (alone and len(connection.connections) > 1):
                return connection
        return None

    def take(self, connection: "Connection") -> None:
        """Make an idle connection one in use."""
        self.available = [item for item in self.available if item[1] is not connection]

    def forget(self, connection: "Connection") -> None:
        """Drop a connection for good."""
        self.take(connection)
        self.all.discard(connection)

    def put(self, connection: "Connection") -> None:
        """Make a connection that was in use an idle one."""
        active = connection._cache.cache_non_ghost_count
        index = len(self.available)
        while index and self.available[index - 1][1]._cache.cache_non_ghost_count > active:
            index -= 1
        self.available.insert(index, (time.time(), connection))

    def superfluous(self, room_for: int = 0) -> "list[Connection]":
        """Return idle connections that are too old, or one too many."""
        if not self.available:
            return []
        oldest_kept = time.time() - self.timeout
        kept = [item for item in self.available if item[0] >= oldest_kept]
        too_old = [item[1] for item in self.available if item[0] < oldest_kept]
        too_many = len(kept) + room_for - max(self.size, room_for)
        return too_old + [item[1] for item in kept[: max(0, too_many)]]

    def make_room(self) -> "list[Connection]":
        """Return idle connections to drop before one is put in."""
        return self.superfluous(room_for=1)
