"""What storages written in Python are built on."""

from typing import Any

from perdure.compat._names import known_as
from perdure.connection import TransactionMetaData
from perdure.ids import Oid, Tid
from perdure.storage.base import BaseStorage as _BaseStorage
from perdure.storage.base import copy

from .UndoLogCompatible import UndoLogCompatible

__all__ = ["BaseStorage", "DataRecord", "TransactionRecord", "UndoLogCompatible", "copy"]


class BaseStorage(_BaseStorage, UndoLogCompatible):
    """Base of storages, with ``undoInfo`` where they have ``undoLog``."""


class TransactionRecord(TransactionMetaData):
    """A transaction that an iteration meets; subclasses iterate over its records."""

    def __init__(
        self,
        tid: Tid,
        status: str,
        user: bytes | str,
        description: bytes | str,
        extension: dict[str, Any] | bytes,
    ) -> None:
        self.tid = tid
        self.status = status
        super().__init__(user, description, extension)


class DataRecord:
    """A record that an iteration meets."""

    version = ""

    def __init__(self, oid: Oid, tid: Tid, data: bytes | None, prev: Tid | None) -> None:
        self.oid = oid
        self.tid = tid
        self.data = data
        self.data_txn = prev


def checkCurrentSerialInTransaction(self: Any, oid: Oid, serial: Tid, transaction: Any) -> None:
    """Do what the method does, for classes that aren't derived from BaseStorage."""
    _BaseStorage.checkCurrentSerialInTransaction(self, oid, serial, transaction)
