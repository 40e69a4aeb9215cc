"""The storage in memory."""

from typing import Any

from perdure import db as _db
from perdure.compat._names import known_as
from perdure.storage.mapping import MappingStorage
from perdure.storage.records import DataRecord, TransactionRecord

known_as(__name__, MappingStorage)


def DB(*args: Any, **kw: Any) -> _db.DB:
    """Return a database in memory; the arguments are those of ``ZODB.DB`` but the first."""
    return _db.DB(MappingStorage(), *args, **kw)
