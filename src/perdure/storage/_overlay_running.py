"""A transaction that is being committed to an overlay."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from perdure.errors import StorageTransactionError
from perdure.ids import Oid, Tid

__all__ = ["Running", "RunningTransactions", "Stored"]


class Stored(NamedTuple):
    """A record that waits for the vote."""

    oid: Oid
    serial: Tid
    """The revision that it was made from."""
    data: bytes
    version: str


class Running:
    """A transaction between its begin and its end."""

    def __init__(self, transaction: Any, *, locked: bool) -> None:
        self.transaction = transaction
        self.locked = locked
        """Whether it holds the overlay's commit lock."""
        self.oids: set[Oid] = set()
        """What it stores."""
        self.resolved: list[Oid] = []
        self.waiting: list[Stored] = []
        # What has to be current at the vote: of what it changes, and of what it only read.
        self.replaces: dict[Oid, Tid] = {}
        self.reads: dict[Oid, Tid] = {}


class RunningTransactions:
    """The transactions of one overlay that are being committed."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self._running: dict[int, Running] = {}

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._running.values()))

    def get(self, transaction: Any) -> Running | None:
        """Return what is known of a transaction, None where it isn't running here."""
        return self._running.get(id(transaction))

    def require(self, transaction: Any) -> Running:
        """Return what is known of a transaction, or raise StorageTransactionError."""
        running = self.get(transaction)
        if running is None:
            raise StorageTransactionError(self._storage, transaction)
        return running

    def require_new(self, transaction: Any) -> None:
        """Raise StorageTransactionError for a transaction that is running here."""
        if id(transaction) in self._running:
            raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")

    def add(self, running: Running) -> None:
        """Take note that a transaction has begun."""
        self._running[id(running.transaction)] = running

    def remove(self, running: Running) -> None:
        """Take note that a transaction has ended."""
        self._running.pop(id(running.transaction), None)

    def foremost(self) -> Any:
        """Return the transaction that has voted, else the last that was begun, else None."""
        running = list(self)
        for each in running:
            if each.locked:
                return each.transaction
        return running[-1].transaction if running else None
