"""Data too large for a record, kept in files."""

import os as _os

from perdure.blob import (
    BLOB_SUFFIX,
    LAYOUT_MARKER,
    LAYOUTS,
    SAVEPOINT_SUFFIX,
    Blob,
    BlobFile,
    BlobStorage,
    BlobStorageError,
    BlobStorageMixin,
    BushyLayout,
    LawnLayout,
    auto_layout_select,
    copyTransactionsFromTo,
    is_blob_record,
    link_or_copy,
    remove_committed,
    remove_committed_dir,
    rename_or_copy_blob,
    set_not_writable,
)
from perdure.blob import BlobDirectory as FilesystemHelper
from perdure.compat._names import known_as
from perdure.interfaces import BlobError

known_as(__name__, Blob, BlobFile, BlobStorage, BlobStorageError, BlobStorageMixin)

valid_modes = "r", "w", "r+", "a", "c"


class NoBlobsFileSystemHelper:
    """Stands for the blob directory of a storage that keeps no blobs."""

    @property
    def temp_dir(self) -> str:
        """Raise TypeError."""
        raise TypeError("Blobs are not supported")

    getPathForOID = getBlobFilename = temp_dir


def log(msg: str, level: int = 20, subsys: str = str(_os.getpid()), exc_info: bool = False) -> None:
    """Log a message about blobs."""
    import logging

    logging.getLogger("ZODB.blob").log(level, "(%s) %s", subsys, msg, exc_info=exc_info)
