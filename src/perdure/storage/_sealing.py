"""Encrypted records.

A record is its header, in clear and authenticated, and what AES-256-GCM makes of its
data::

    ".e"  version 1  kind 1  key id 8  salt 16  nonce 12  oid 8  revision 8  blob id 16

The key is derived from the one with the key id and from the salt. The record is the
revision that is named (kind `EXACTLY`); or, below storages that choose tids themselves,
it was made from that revision and so is later (`MADE_FROM`). The blob id, zeros without
blob, is that of the blob's file.
"""

import collections
import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

from perdure.errors import EncryptionError
from perdure.ids import NO_TID, Oid, Tid
from perdure.storage._keys import SALT_BYTES, KeyRing
from perdure.storage._running import Tie
from perdure.storage._transforming import RecordTransform

__all__ = ["NO_BLOB", "Header", "Sealing", "header_of"]

MARK: Final = b".e"
"""What begins an encrypted record; no pickle begins so."""

_HEADER: Final = struct.Struct(">2sBc8s16s12s8s8s16s")
_VERSION: Final = 1
MADE_FROM: Final = b"f"
EXACTLY: Final = b"e"
NO_BLOB: Final = bytes(16)
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_PURPOSE: Final = b"perdure record"
_RECORDS_PER_SALT_MAX: Final = 1 << 30
"""So many random nonces meet with a probability of less than 2 ** -36."""


class Header(NamedTuple):
    """What an encrypted record says of itself."""

    kind: bytes
    key_id: str
    salt: bytes
    nonce: bytes
    oid: Oid
    revision: Tid
    blob_id: bytes


class _Resolving(threading.local):
    """What a thread has at hand when a storage resolves a conflict."""

    def __init__(self) -> None:
        # The records that were decoded last: these are the three states that are merged.
        self.headers: collections.deque[Header | None] = collections.deque(maxlen=3)
        # The tid that what is merged is for, where it is known.
        self.tid: Tid | None = None


class Sealing(RecordTransform):
    """Encrypts records with the newest of *keys*; decrypts with whichever they name.

    Where *read_unencrypted*, records that aren't encrypted are read as they are.
    """

    def __init__(self, keys: KeyRing, *, read_unencrypted: bool) -> None:
        # Late, but not for each record: the ring has loaded it.
        from cryptography.exceptions import InvalidTag

        self._invalid_tag = InvalidTag
        self._keys = keys
        self._read_unencrypted = read_unencrypted
        self._resolving = _Resolving()
        # Guards the two below.
        self._lock = threading.Lock()
        self._salt = b""
        self._left = 0

    def seal(
        self, data: bytes, oid: Oid, revision: Tid | None, kind: bytes, blob_id: bytes = NO_BLOB
    ) -> bytes:
        """Return *data* encrypted."""
        key_id, salt, nonce = self._keys.newest, self._current_salt(), os.urandom(_NONCE_BYTES)
        header = _HEADER.pack(
            MARK,
            _VERSION,
            kind,
            bytes.fromhex(key_id),
            salt,
            nonce,
            oid,
            revision or NO_TID,
            blob_id,
        )
        sealed: bytes = self._keys.cipher(key_id, salt, _PURPOSE).encrypt(nonce, data, header)
        return header + sealed

    def open(self, kept: bytes) -> tuple[Header | None, bytes]:
        """Return header and data of a record; no header where it isn't encrypted."""
        header = header_of(kept)
        if header is None:
            if not self._read_unencrypted:
                raise EncryptionError(
                    "a record that isn't encrypted, which nobody vouches for: to read a "
                    "database from before it was encrypted, pass read_unencrypted=True "
                    "and call reencrypt()"
                )
            return None, kept
        cipher = self._keys.cipher(header.key_id, header.salt, _PURPOSE)
        sealed = memoryview(kept)[_HEADER.size :]
        try:
            return header, cipher.decrypt(header.nonce, sealed, kept[: _HEADER.size])
        except self._invalid_tag as error:
            raise _changed(header) from error

    def open_for(self, kept: bytes, oid: Oid, serial: Tid) -> tuple[Header | None, bytes]:
        """Return header and data of the revision *serial* of *oid*, sure that it is it."""
        try:
            header, data = self.open(kept)
            if header is not None:
                _check_place(header, oid, serial)
        except EncryptionError as error:
            error.oid, error.tid = oid, serial
            raise
        return header, data

    def encode_for(self, data: bytes, oid: Oid, serial: Tid | None) -> bytes:
        """Return *data*, made from the revision *serial* of *oid*, encrypted."""
        return self.seal(data, oid, serial, MADE_FROM) if data else data

    def decode_for(self, data: bytes, oid: Oid, serial: Tid) -> bytes:
        """Return the data of a record, sure that it is the object's."""
        return self.open_for(data, oid, serial)[1] if data else data

    def tie(self, kept: bytes, tid: Tid, above: Tie | None) -> bytes:
        """Return *kept* encrypted for the revision *tid*, if it isn't."""
        header, data = self.open(kept)
        tied = data if above is None else above(data, tid)
        if header is None:
            return kept
        if (header.kind, header.revision) == (EXACTLY, tid) and tied is data:
            return kept
        return self.seal(tied, header.oid, tid, EXACTLY, header.blob_id)

    def decode(self, data: bytes) -> bytes:
        """Return the data of a record of whichever object."""
        if not data:
            return data
        header, plain = self.open(data)
        self._resolving.headers.append(header)
        return plain

    def encode(self, data: bytes) -> bytes:
        """Return *data*, merged of the records decoded last in this thread, encrypted.

        A storage that resolves conflicts doesn't say whose record it has merged.
        """
        if not data:
            return data
        headers = [header for header in self._resolving.headers if header is not None]
        self._resolving.headers.clear()
        if len({header.oid for header in headers}) != 1:
            raise EncryptionError(
                "states to merge are not those of one object: records were exchanged; restore "
                "them from a backup"
            )
        oid, tid = headers[0].oid, self._resolving.tid
        if tid is not None:
            return self.seal(data, oid, tid, EXACTLY)
        return self.seal(data, oid, max(header.revision for header in headers), MADE_FROM)

    @contextlib.contextmanager
    def merging_for(self, tid: Tid | None) -> Iterator[None]:
        """Have `encode` in this thread tie what it is given to *tid*."""
        self._resolving.tid = tid
        try:
            yield
        finally:
            self._resolving.tid = None

    def _current_salt(self) -> bytes:
        with self._lock:
            if not self._left:
                self._salt, self._left = os.urandom(SALT_BYTES), _RECORDS_PER_SALT_MAX
            self._left -= 1
            return self._salt


def header_of(kept: bytes) -> Header | None:
    """Return what a record says of itself, unchecked; None where it isn't encrypted."""
    if not kept.startswith(MARK):
        return None
    if len(kept) < _HEADER.size + _TAG_BYTES:
        raise EncryptionError("an encrypted record is damaged: its end is missing")
    _mark, version, kind, key_id, salt, nonce, oid, revision, blob_id = _HEADER.unpack_from(kept)
    if version != _VERSION or kind not in (EXACTLY, MADE_FROM):
        raise EncryptionError(f"an encrypted record of version {version}: update perdure")
    return Header(kind, key_id.hex(), salt, nonce, Oid(oid), Tid(revision), blob_id)


def _changed(header: Header) -> EncryptionError:
    return EncryptionError(
        "an encrypted record is damaged, or was changed by somebody without the key "
        f"{header.key_id}: restore it from a backup",
        key=header.key_id,
    )


def _check_place(header: Header, oid: Oid, serial: Tid) -> None:
    if header.oid != oid:
        raise EncryptionError(
            f"an encrypted record is that of another object, {header.oid.hex()}: records were "
            "exchanged; restore it from a backup",
            key=header.key_id,
        )
    if header.kind == EXACTLY and header.revision != serial:
        raise EncryptionError(
            f"an encrypted record is another revision, {header.revision.hex()}: records were "
            "exchanged, or a transaction was undone without the key; restore it from a backup",
            key=header.key_id,
        )
    if header.kind == MADE_FROM and header.revision >= serial:
        raise EncryptionError(
            "an encrypted record stands where an earlier revision was: records were "
            "exchanged; restore it from a backup",
            key=header.key_id,
        )
