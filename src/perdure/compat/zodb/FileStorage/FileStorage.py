"""The file storage."""

from perdure import storage as _storage
from perdure.compat._names import known_as
from perdure.errors import (
    ConflictError,
    CorruptedFileStorageError,
    CorruptedTransactionError,
    FileStorageError,
    FileStorageFormatError,
    FileStorageQuotaError,
    MultipleUndoErrors,
    PackError,
    POSKeyError,
    ReadOnlyError,
    RedundantPackWarning,
    StorageError,
    StorageSystemError,
    StorageTransactionError,
    UndoError,
)
from perdure.storage import DataRecord as Record
from perdure.storage import FileStorage, TransactionRecord

from ..BaseStorage import BaseStorage
from ..ConflictResolution import ConflictResolvingStorage
from ..fsIndex import fsIndex
from ..utils import as_bytes, as_text, cp, load_current, mktemp, p64, u64, z64
from ._iterator import FileIterator
from .format import (
    DATA_HDR,
    DATA_HDR_LEN,
    TRANS_HDR,
    TRANS_HDR_LEN,
    CorruptedDataError,
    CorruptedError,
    DataHeader,
    FileStorageFormatter,
    TxnHeader,
)

packed_version = b"FS21"

known_as(
    __name__,
    CorruptedFileStorageError,
    CorruptedTransactionError,
    FileStorage,
    FileStorageError,
    FileStorageFormatError,
    FileStorageQuotaError,
    PackError,
    RedundantPackWarning,
)
