"""Connections."""

from perdure.compat._names import known_as
from perdure.connection import Connection, RootConvenience, TransactionMetaData, resetCaches
from perdure.connection.savepoint import Savepoint
from perdure.connection.savepoint import SavepointStorage as TmpStore
from perdure.errors import (
    ConflictError,
    ConnectionStateError,
    InvalidObjectReference,
    ReadConflictError,
    ReadOnlyHistoryError,
    Unsupported,
)
from perdure.interfaces import IBlobStorage, IConnection, IStorageTransactionMetaData
from perdure.utils import oid_repr, p64, u64, z64

from . import POSException, utils
from ._compat import dumps, loads
from .blob import SAVEPOINT_SUFFIX, Blob, remove_committed_dir, rename_or_copy_blob
from .mvccadapter import HistoricalStorageAdapter
from .serialize import ObjectReader, ObjectWriter

known_as(__name__, Connection, RootConvenience, TransactionMetaData)


def className(obj: object) -> str:
    """Return the full name of an object's class."""
    cls = type(obj)
    return f"{cls.__module__}.{cls.__name__}"


def noop(*args: object, **kw: object) -> None:
    """Do nothing."""
