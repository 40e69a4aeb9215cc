"""Records and blobs encrypted with AES-256-GCM.

::

    write_new_key("/etc/shop.key")
    storage = EncryptingStorage(FileStorage("data.fs", blob_dir="blobs"), "/etc/shop.key")

To change the key, make another, give both with the new one first, and have
`EncryptingStorage.reencrypt` rewrite what is current; a pack drops the rest.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Container, Iterator
from typing import IO, Any, Final, NamedTuple

from perdure.blob import BlobFile, is_blob_record
from perdure.conflict import ConflictResolvingStorage
from perdure.errors import ConflictError, Unsupported
from perdure.ids import Oid, Tid
from perdure.interfaces import IBlobStorage, IStorageCurrentRecordIteration
from perdure.storage._clear_files import ClearFiles
from perdure.storage._deferring import DeferringStorage, Pending
from perdure.storage._keys import KeyRing, Keys, key_id_of, write_new_key
from perdure.storage._sealed_blobs import SealedFile, is_sealed, seal_file
from perdure.storage._sealing import (
    EXACTLY,
    MADE_FROM,
    NO_BLOB,
    Header,
    Sealing,
    header_of,
)
from perdure.storage._tids import ITakesTids, check_record
from perdure.storage._undo_by_storing import plan_undo_by_storing, told_undo_by_storing
from perdure.storage.undo import UndoStep

__all__ = ["EncryptingStorage", "key_id_of", "write_new_key"]

_COPY_BYTES: Final = 1 << 20


class EncryptingStorage(DeferringStorage):
    """A storage that keeps its records and blobs encrypted in *base*.

    Protected are the records' data and the blobs. Nobody without a key can read them,
    change them, or put one object's in another's place or a revision in the place of
    another. Not protected: oids, tids, sizes and the transactions' users and
    descriptions, which are in clear; and who can write to *base* can take records and
    transactions away. Over storages of others, which choose tids themselves (as a ZEO
    client does), an older revision in the place of a newer one isn't noticed, either.
    See the documentation on storages.

    Nothing reaches *base* before the vote.

    Args:
        base: the storage that keeps the records.
        keys: a key file (see `write_new_key`), or several with the newest first; or
            a function that returns the key with the id that it is given (16 hexadecimal
            digits; None: there is no such key), and the newest key for None. Keys are 32
            bytes, which can be given in the place of files too.
        read_unencrypted: whether records that were not encrypted are read. It is for
            the time until `reencrypt` has rewritten a database from before.
        clear_directory: where files of blobs are while they are in clear (in a directory
            for this user alone); by default the directory for blobs that aren't committed.

    Raises:
        ImportError: the package ``cryptography`` isn't there.
        EncryptionError: there is no key, or a key file can't be read.

    Reading raises EncryptionError, with the id of the key, where that isn't at hand, or
    where something isn't what was encrypted there.
    """

    _is_instance = False

    def __init__(
        self,
        base: Any,
        keys: Keys,
        *,
        read_unencrypted: bool = False,
        clear_directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self._keys = KeyRing(keys)
        self._sealing = Sealing(self._keys, read_unencrypted=read_unencrypted)
        super().__init__(base, self._sealing)
        self._clear: ClearFiles | None = None
        if IBlobStorage.providedBy(base):
            self._clear = ClearFiles(
                base.temporaryDirectory if clear_directory is None else lambda: str(clear_directory)
            )

    def new_instance(self) -> "EncryptingStorage":
        """Return this layer over another instance of the base."""
        instance = super().new_instance()
        assert isinstance(instance, EncryptingStorage)
        instance._is_instance = True
        return instance

    def close(self) -> None:
        """Close the base and remove what there is in clear."""
        super().close()
        if self._clear is not None and not self._is_instance:
            self._clear.remove()

    # Storing

    def _encoding_for(self, tid: Tid | None) -> contextlib.AbstractContextManager[None]:
        return self._sealing.merging_for(tid)

    def _sealed_for(
        self, data: bytes, oid: Oid, serial: Tid, tid: Tid | None, blob_id: bytes = NO_BLOB
    ) -> bytes:
        """Return a record, made from the revision *serial*, for the transaction *tid*."""
        if tid is None:
            return self._sealing.seal(data, oid, serial, MADE_FROM, blob_id)
        return self._sealing.seal(data, oid, tid, EXACTLY, blob_id)

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> None:
        """Store a record; *serial* is the revision that it was made from."""
        pending = self._running(transaction)
        check_record(oid, serial, data)

        def step(tid: Tid | None) -> None:
            kept = self._sealed_for(data, oid, serial, tid)
            self.base.store(oid, serial, kept, version, transaction)

        pending.records[oid] = step

    def restore(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes | None,
        version: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Store a record that was committed elsewhere; None: the object is gone."""
        pending = self._running(transaction)
        if data is not None:
            check_record(oid, serial, data)

        def step(tid: Tid | None) -> None:
            # A record that is kept once for two revisions would be that of one of them.
            kept = None if data is None else self._sealed_for(data, oid, serial, tid or serial)
            self.base.restore(oid, serial, kept, version, None, transaction)

        pending.records[oid] = step

    def undo(
        self, transaction_id: bytes, transaction: Any, oids: Container[Oid] | None = None
    ) -> tuple[Tid | None, list[Oid]]:
        """Undo a transaction as part of *transaction*; return (None, changed oids).

        With *oids*, only what it did to these objects is undone. What is brought back is
        stored anew. Raises UndoError where later changes are in the way that can't be
        merged; nothing is changed then.
        """
        pending = self._running(transaction)
        steps = plan_undo_by_storing(self, transaction_id, pending.undone, oids)
        for oid, current, data, serial in steps:
            pending.undone[oid] = data
            if data is None:
                pending.records[oid] = self._deleting(oid, current, transaction)
            elif serial is None or self._clear is None or not self._is_blob(data):
                self.store(oid, current, data, "", transaction)
            else:
                path = self._copy_in_clear(oid, serial)
                self.storeBlob(oid, current, data, path, "", transaction)
        return None, [step.oid for step in steps]

    def undo_plan(
        self, transaction_id: bytes, oids: Container[Oid] | None = None
    ) -> list[UndoStep]:
        """Say what undoing a transaction would do, object by object; nothing is changed.

        UndoError is raised for an unknown or packed transaction.
        """
        return told_undo_by_storing(self, transaction_id, oids)

    def _deleting(self, oid: Oid, current: Tid, transaction: Any) -> Callable[[Any], object]:
        return lambda _tid: self.base.deleteObject(oid, current, transaction)

    def merged_for_undo(self, oid: Oid, current: Tid, undone: Tid, before: Tid) -> bytes:
        """Return the current data without what a transaction did, or raise ConflictError."""
        return _Merging(self).tryToResolveConflict(
            oid, current, undone, self.loadSerial(oid, before)
        )

    def _is_blob(self, data: bytes) -> bool:
        plain = data if self._above is None else self._above.untransform_record_data(data)
        return is_blob_record(plain)

    # Blobs

    def temporaryDirectory(self) -> str:
        """Return the directory for blobs that aren't committed: for this user alone."""
        return self._clear_files().directory()

    def _clear_files(self) -> ClearFiles:
        if self._clear is None:
            raise Unsupported(f"{self.getName()} keeps no blobs")
        return self._clear

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
        pending = self._running(transaction)
        check_record(oid, oldserial, data)
        path, blob_id = self._seal_file(pending, blobfilename, oid)

        def step(tid: Tid | None) -> None:
            kept = self._sealed_for(data, oid, oldserial, tid, blob_id)
            self.base.storeBlob(oid, oldserial, kept, path, version, transaction)

        pending.records[oid] = step

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
        pending = self._running(transaction)
        check_record(oid, serial, data)
        path, blob_id = self._seal_file(pending, blobfilename, oid)

        def step(tid: Tid | None) -> None:
            kept = self._sealed_for(data, oid, serial, tid or serial, blob_id)
            self.base.restoreBlob(oid, serial, kept, path, None, transaction)

        pending.records[oid] = step

    def _seal_file(self, pending: Pending, path: str, oid: Oid) -> tuple[str, bytes]:
        """Return the path of an encrypted copy of a file, and its blob id; the file goes."""
        descriptor, sealed = tempfile.mkstemp(prefix="BEN", dir=self.base.temporaryDirectory())
        pending.files.append(sealed)
        with open(path, "rb") as source, open(descriptor, "wb") as target:
            blob_id = seal_file(self._keys, source, target, oid)
        os.remove(path)
        return sealed, blob_id

    def loadBlob(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a blob's file, or raise POSKeyError.

        The file is in clear, and goes when neither the path that is returned here nor
        any of the last few is in use. `openCommittedBlobFile` makes none.
        """
        file = self._open_blob(oid, serial)
        if file is None:
            return str(self.base.loadBlob(oid, serial))
        with file:

            def write(target: IO[bytes]) -> None:
                while piece := file.read(_COPY_BYTES):
                    target.write(piece)

            return self._clear_files().path(oid, serial, write)

    def openCommittedBlobFile(self, oid: Oid, serial: Tid, blob: Any = None) -> Any:
        """Return a blob's data as a file that decrypts it, or raise POSKeyError."""
        file = self._open_blob(oid, serial, blob)
        if file is not None:
            return file
        path = self.base.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def _open_blob(self, oid: Oid, serial: Tid, blob: Any = None) -> SealedFile | None:
        """Return a blob's data; None where it isn't encrypted and need not be."""
        path = self.base.loadBlob(oid, serial)
        header, _data = self._sealing.open_for(self.base.loadSerial(oid, serial), oid, serial)
        if header is None and not is_sealed(path):
            return None
        blob_id = NO_BLOB if header is None else header.blob_id
        return SealedFile(self._keys, path, oid, blob_id, blob)

    # Changing the key

    def reencrypt(
        self,
        *,
        batch_records: int = 500,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """Rewrite all current records that the newest key doesn't encrypt, and their blobs.

        So are those that aren't tied to their tid, but could be.

        It takes a transaction for every *batch_records*, while others go on committing;
        stopped at any time, what it has done stays done, and the next call goes on.
        *progress* is told how many were rewritten until then. Earlier revisions stay as
        they are until a pack drops them: keep the old key until then. As after any later
        change, what was committed before can't be undone any more.

        Returns the number of records that were rewritten. Raises Unsupported where the
        base can't tell which records are current.
        """
        if not IStorageCurrentRecordIteration.providedBy(self.base):
            raise Unsupported(f"{self.getName()} doesn't iterate over its current records")
        done = 0
        batch: list[_Outdated] = []
        for record in self._outdated():
            batch.append(record)
            if len(batch) >= batch_records:
                done += self._rewrite_all(batch)
                batch = []
                if progress is not None:
                    progress(done)
        done += self._rewrite_all(batch)
        if progress is not None:
            progress(done)
        return done

    def _outdated(self) -> Iterator["_Outdated"]:
        following: Any = None
        while len(self.base):
            oid, serial, kept, following = self.base.record_iternext(following)
            header = header_of(kept)
            if kept and (header is None or self._is_outdated(header)):
                yield _Outdated(oid, serial, kept)
            if following is None:
                return

    def _is_outdated(self, header: Header) -> bool:
        loose = header.kind == MADE_FROM and ITakesTids.providedBy(self.base)
        return loose or header.key_id != self._keys.newest

    def _rewrite_all(self, batch: "list[_Outdated]") -> int:
        """Rewrite records in one transaction; alone, if one was changed in between."""
        if not batch:
            return 0
        try:
            self._rewrite(batch)
        except ConflictError:
            # Whoever changed it used the newest key.
            return 0 if len(batch) == 1 else sum(self._rewrite_all([each]) for each in batch)
        return len(batch)

    def _rewrite(self, batch: "list[_Outdated]") -> None:
        transaction = _Rewriting()
        self.tpc_begin(transaction)
        try:
            for record in batch:
                self._store_again(record, transaction)
            self.tpc_vote(transaction)
        except BaseException:
            self.tpc_abort(transaction)
            raise
        oids = [record.oid for record in batch]
        self.tpc_finish(transaction, lambda tid: self.invalidate(tid, oids))

    def _store_again(self, record: "_Outdated", transaction: Any) -> None:
        oid, serial, kept = record
        _header, data = self._sealing.open_for(kept, oid, serial)
        if self._clear is None or not self._is_blob(data):
            self.store(oid, serial, data, "", transaction)
            return
        self.storeBlob(oid, serial, data, self._copy_in_clear(oid, serial), "", transaction)

    def _copy_in_clear(self, oid: Oid, serial: Tid) -> str:
        """Return the path of a new file, in clear, with a blob's data."""
        descriptor, path = tempfile.mkstemp(prefix="again-", dir=self.temporaryDirectory())
        with self.openCommittedBlobFile(oid, serial) as source, open(descriptor, "wb") as target:
            while piece := source.read(_COPY_BYTES):
                target.write(piece)
        return path


class _Merging(ConflictResolvingStorage):
    """Merges states as the layer has them, whatever the layers below make of them."""

    def __init__(self, layer: EncryptingStorage) -> None:
        self.loadSerial = layer.loadSerial
        if layer._above is not None:
            self.registerDB(layer._above)


class _Outdated(NamedTuple):
    """A current record that isn't encrypted with the newest key."""

    oid: Oid
    serial: Tid
    kept: bytes


class _Rewriting:
    """What a storage is told of the transactions that rewrite records."""

    def __init__(self) -> None:
        self.user = b""
        self.description = b"encrypted with another key"
        self.extension: dict[str, Any] = {}
        self.extension_bytes = b""
        self._kept: dict[int, Any] = {}

    def set_data(self, ob: object, data: Any) -> None:
        """Keep *data* for *ob*, a storage."""
        self._kept[id(ob)] = data

    def data(self, ob: object) -> Any:
        """Return what was kept for *ob*; KeyError if nothing was."""
        return self._kept[id(ob)]
