"""Blobs: data too large for a record, kept in files beside the database.

A `Blob` is a persistent object whose data is read and written as a file::

    blob = perdure.Blob(b"small enough to give at once")
    with blob.open("w") as file:
        shutil.copyfileobj(source, file)
    connection.root.film = blob
    transaction.commit()
"""

from typing import TYPE_CHECKING

from perdure._blobtail import length_in, with_length
from perdure._lazy import importing_late
from perdure.blob._blob import SAVEPOINT_SUFFIX, Blob, BlobFile, require_length
from perdure.blob._files import (
    link_or_copy,
    remove_committed,
    remove_committed_dir,
    rename_or_copy_blob,
    set_not_writable,
)

if TYPE_CHECKING:
    from perdure.blob._copying import copyTransactionsFromTo
    from perdure.blob._directory import BlobDirectory
    from perdure.blob._layouts import (
        BLOB_SUFFIX,
        LAYOUT_MARKER,
        LAYOUTS,
        BushyLayout,
        LawnLayout,
        auto_layout_select,
    )
    from perdure.blob._records import is_blob_record
    from perdure.blob._staging import BlobFiles
    from perdure.blob._storage import (
        BlobStorage,
        BlobStorageError,
        BlobStorageMixin,
        may_be_committed,
        voted_tid,
    )

__all__ = [
    "BLOB_SUFFIX",
    "LAYOUTS",
    "LAYOUT_MARKER",
    "SAVEPOINT_SUFFIX",
    "Blob",
    "BlobDirectory",
    "BlobFile",
    "BlobFiles",
    "BlobStorage",
    "BlobStorageError",
    "BlobStorageMixin",
    "BushyLayout",
    "LawnLayout",
    "auto_layout_select",
    "copyTransactionsFromTo",
    "is_blob_record",
    "length_in",
    "link_or_copy",
    "may_be_committed",
    "remove_committed",
    "remove_committed_dir",
    "rename_or_copy_blob",
    "require_length",
    "set_not_writable",
    "voted_tid",
    "with_length",
]

# Every connection knows the class; where its files are is for storages that keep some.
_HOMES = {
    "BLOB_SUFFIX": "_layouts",
    "BlobDirectory": "_directory",
    "BlobFiles": "_staging",
    "BlobStorage": "_storage",
    "BlobStorageError": "_storage",
    "BlobStorageMixin": "_storage",
    "BushyLayout": "_layouts",
    "LAYOUTS": "_layouts",
    "LAYOUT_MARKER": "_layouts",
    "LawnLayout": "_layouts",
    "auto_layout_select": "_layouts",
    "copyTransactionsFromTo": "_copying",
    "is_blob_record": "_records",
    "may_be_committed": "_storage",
    "voted_tid": "_storage",
}
__getattr__ = importing_late(
    __name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()}
)
