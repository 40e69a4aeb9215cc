"""Transactions and records as an iteration over a storage meets them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from zope.interface import classImplements, implementer

from perdure import _native
from perdure._native import DataRecord
from perdure.ids import Tid
from perdure.interfaces import IStorageRecordInformation, IStorageTransactionInformation
from perdure.storage._extension import extension_of

__all__ = ["DataRecord", "StorageIterator", "TransactionRecord"]

_HEADER_BYTES: Final = 23
"""The length of a transaction's header in the data file, without the texts after it."""


classImplements(DataRecord, IStorageRecordInformation)


@implementer(IStorageTransactionInformation)
class TransactionRecord:
    """One transaction; iterating over it gives its records.

    `user`, `description` and `extension_bytes` are bytes, `status` is " " or "p"
    (older than the last pack).
    """

    def __init__(
        self,
        tid: Tid,
        status: str,
        user: bytes,
        description: bytes,
        extension_bytes: bytes,
        records: Callable[[], Iterable[Any]],
        place: tuple[int, int] = (0, 0),
    ) -> None:
        self.tid = tid
        self.status = status
        self.user = user
        self.description = description
        self.extension_bytes = extension_bytes
        self._records = records
        self._place = place
        self._annotations: dict[str, Any] | None = None

    @property
    def extension(self) -> dict[str, Any]:
        """What the transaction was annotated with."""
        if self._annotations is None:
            self._annotations = extension_of(self.extension_bytes)
        return self._annotations

    @extension.setter
    def extension(self, value: dict[str, Any]) -> None:
        self._annotations = value

    @property
    def _extension(self) -> dict[str, Any]:
        """What `extension` returns, under the name that ZODB's transactions have."""
        return self.extension

    @property
    def _tpos(self) -> int:
        """Where it begins in the data file, under the name that ZODB's transactions have."""
        return self._place[0]

    @property
    def _tend(self) -> int:
        """Where its last record ends in the data file, and its length follows once more."""
        return self._place[1] - 8

    @property
    def _pos(self) -> int:
        """Where its first record begins in the data file."""
        texts = len(self.user) + len(self.description) + len(self.extension_bytes)
        return self._tpos + _HEADER_BYTES + texts

    def __iter__(self) -> Iterator[DataRecord]:
        return iter(self._records())

    def set_data(self, ob: Any, data: Any) -> None:
        """Keep *data* for *ob* (a storage that the transaction is copied to)."""
        self.__dict__.setdefault("_data", {})[id(ob)] = data

    def data(self, ob: Any) -> Any:
        """Return what was kept for *ob*, or raise KeyError."""
        try:
            return self.__dict__["_data"][id(ob)]
        except KeyError:
            raise KeyError(ob) from None


class StorageIterator:
    """Walks over the transactions that a storage had when this was made."""

    def __init__(self, native: _native.Storage, start: Tid | None, stop: Tid | None) -> None:
        self._native = native
        self._transactions: Iterator[Any] = iter(native.transactions(start, stop))

    def __iter__(self) -> "StorageIterator":
        return self

    def __next__(self) -> TransactionRecord:
        tid, status, user, description, extension, *place, records = next(self._transactions)
        again = _Repeatable(self._native, tid, records)
        start, end = place
        return TransactionRecord(tid, status, user, description, extension, again, (start, end))

    def close(self) -> None:
        """Stop: nothing comes any more."""
        self._transactions = iter(())


class _Repeatable:
    """The records of a transaction, which may be asked for more than once."""

    def __init__(self, native: _native.Storage, tid: Tid, records: Iterable[Any]) -> None:
        self._native = native
        self._tid = tid
        self._first: Iterable[Any] | None = records

    def __call__(self) -> Iterable[Any]:
        found, self._first = self._first, None
        if found is not None:
            return found
        for transaction in self._native.transactions(self._tid, self._tid):
            return transaction[-1]
        return ()
