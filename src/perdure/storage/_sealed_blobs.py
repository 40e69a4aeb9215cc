"""Encrypted files of blobs.

A file is a header (magic 16, key id 8, blob id 16, oid 8) and chunks of 64 KiB of data,
each encrypted with AES-256-GCM by a key that is derived for this file alone. A chunk's
nonce is its number and whether it is the last: none can be left out, moved or cut off.
The record of the blob's revision has the blob id, so no file can stand for another.
"""

import io
import os
import struct
from typing import IO, Any, Final

from perdure.errors import EncryptionError
from perdure.ids import Oid
from perdure.storage._keys import SALT_BYTES, KeyRing

__all__ = ["SealedFile", "is_sealed", "seal_file"]

_MAGIC: Final = b"perdure blob e1\n"
_HEADER: Final = struct.Struct(">16s8s16s8s")
_CHUNK_BYTES: Final = 64 << 10
_TAG_BYTES: Final = 16
_SEALED_BYTES: Final = _CHUNK_BYTES + _TAG_BYTES
_PURPOSE: Final = b"perdure blob"


def seal_file(keys: KeyRing, source: IO[bytes], target: IO[bytes], oid: Oid) -> bytes:
    """Write what *source* holds to *target*, encrypted; return the new blob id."""
    key_id, blob_id = keys.newest, os.urandom(SALT_BYTES)
    header = _HEADER.pack(_MAGIC, bytes.fromhex(key_id), blob_id, oid)
    cipher = keys.cipher(key_id, blob_id, _PURPOSE)
    target.write(header)
    number, chunk = 0, source.read(_CHUNK_BYTES)
    while True:
        following = source.read(_CHUNK_BYTES)
        nonce = _nonce(number, last=not following)
        target.write(cipher.encrypt(nonce, chunk, header))
        if not following:
            return blob_id
        number, chunk = number + 1, following


def is_sealed(path: str) -> bool:
    """Tell whether a file says that it is an encrypted blob."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class SealedFile(io.RawIOBase):
    """The data in the encrypted file *path*, decrypted where it is read.

    It has to be the blob *blob_id* of *oid*. *blob* is told when the file is closed.
    Reading raises EncryptionError where the file was damaged or changed.
    """

    mode = "rb"

    def __init__(
        self, keys: KeyRing, path: str, oid: Oid, blob_id: bytes, blob: Any = None
    ) -> None:
        super().__init__()
        self.blob = blob
        self.name = path
        self._oid = oid
        self._position = 0
        # The number of the chunk that was decrypted last, and what is in it.
        self._current: tuple[int, bytes] = (-1, b"")
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with this
        try:
            self._header = self._checked_header(blob_id)
            self._key_id = self._header[len(_MAGIC) :][:8].hex()
            self._cipher = keys.cipher(self._key_id, blob_id, _PURPOSE)
            length = os.fstat(self._file.fileno()).st_size - _HEADER.size
            self._chunks = max(1, -(-length // _SEALED_BYTES))
            self._length = max(0, length - self._chunks * _TAG_BYTES)
            # A file that was cut at a chunk's end is found out when it is opened.
            self._chunk(self._chunks - 1)
        except BaseException:
            self._file.close()
            raise

    def _checked_header(self, blob_id: bytes) -> bytes:
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise self._error("is not encrypted, or cut")
        _magic, _key_id, found, oid = _HEADER.unpack(header)
        if (found, oid) != (blob_id, self._oid):
            raise self._error("belongs to another revision or object: files were exchanged")
        return header

    def _error(self, what: str) -> EncryptionError:
        return EncryptionError(
            f"the blob file {self.name} {what}; restore it from a backup", oid=self._oid
        )

    def _chunk(self, number: int) -> bytes:
        if self._current[0] == number:
            return self._current[1]
        from cryptography.exceptions import InvalidTag

        self._file.seek(_HEADER.size + number * _SEALED_BYTES)
        sealed = self._file.read(_SEALED_BYTES)
        nonce = _nonce(number, last=number == self._chunks - 1)
        try:
            data: bytes = self._cipher.decrypt(nonce, sealed, self._header)
        except InvalidTag as error:
            raise self._error("is damaged, or was changed by somebody without the key") from error
        self._current = number, data
        return data

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer*, up to the end of the data; return how many bytes there are in it."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._position < self._length:
            number, begin = divmod(self._position, _CHUNK_BYTES)
            piece = self._chunk(number)[begin : begin + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError(f"a position before the beginning: {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Close the file."""
        if not self.closed and self.blob is not None:
            self.blob.closed(self)
        # An error while opening leaves none.
        file = vars(self).get("_file")
        if file is not None:
            file.close()
        super().close()

    def __reduce__(self) -> Any:
        raise TypeError("an open blob file can't be pickled; store the blob itself")


def _nonce(number: int, *, last: bool) -> bytes:
    return struct.pack(">QxxxB", number, last)
