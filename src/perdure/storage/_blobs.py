"""The part of a file storage that keeps blobs."""

from typing import TYPE_CHECKING, Any

from perdure.errors import Unsupported
from perdure.ids import Oid, Tid

if TYPE_CHECKING:
    from perdure.blob import BlobFiles

__all__ = ["KeepsBlobs"]


class KeepsBlobs:
    """The part of a storage that keeps blobs, where it was given a directory for them."""

    blobs: "BlobFiles | None" = None
    """The files of blobs; None where the storage keeps none."""

    if TYPE_CHECKING:

        def getName(self) -> str: ...

        def store(
            self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any
        ) -> None: ...

        def restore(
            self,
            oid: Oid,
            serial: Tid,
            data: bytes | None,
            version: str,
            prev_txn: Tid | None,
            transaction: Any,
        ) -> None: ...

        def _running_for(self, transaction: Any) -> Any: ...

    def require_blobs(self) -> "BlobFiles":
        """Return the files of blobs, or raise Unsupported where there can be none."""
        if self.blobs is None:
            raise Unsupported(f"{self.getName()} keeps no blobs: open it with blob_dir=...")
        return self.blobs

    def storeBlob(
        self,
        oid: Oid,
        oldserial: Tid,
        data: bytes,
        blobfilename: str,
        version: str,
        transaction: Any,
    ) -> None:
        """Store a record and take over the blob's file."""
        blobs = self.require_blobs()
        self.store(oid, oldserial, data, version, transaction)
        blobs.stage(self._running_for(transaction).draft, oid, blobfilename)

    def restoreBlob(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes,
        blobfilename: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a blob that was committed elsewhere."""
        blobs = self.require_blobs()
        self.restore(oid, serial, data, "", prev_txn, transaction)
        blobs.stage(self._running_for(transaction).draft, oid, blobfilename)

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError."""
        return self.require_blobs().path_of(oid, serial)

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file opened for reading, or raise POSKeyError."""
        return self.require_blobs().open(oid, serial, blob)

    def temporaryDirectory(self) -> str:
        """Return the directory for data that isn't committed yet."""
        return self.require_blobs().directory.temp_dir

    def _copy_with_blobs(self, other: Any) -> None:
        from perdure.blob import copyTransactionsFromTo  # late: most storages keep no blobs

        copyTransactionsFromTo(other, self)
