"""Connections."""

from perdure.compat._names import known_as
from perdure.connection import Connection, RootConvenience, TransactionMetaData, resetCaches
from perdure.connection.savepoint import Savepoint

from ._compat import dumps, loads
from .mvccadapter import HistoricalStorageAdapter
from .serialize import ObjectReader, ObjectWriter

known_as(__name__, Connection, RootConvenience, TransactionMetaData)


def className(obj: object) -> str:
    """Return the full name of an object's class."""
    cls = type(obj)
    return f"{cls.__module__}.{cls.__name__}"
