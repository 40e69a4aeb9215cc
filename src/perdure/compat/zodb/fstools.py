"""Go from transaction to transaction in an open data file."""

import os
import struct
from typing import Any, BinaryIO

from perdure.errors import CorruptedError
from perdure.ids import Tid
from perdure.storage._extension import extension_of
from perdure.timestamp import TimeStamp
from perdure.utils import u64

from .FileStorage.format import TRANS_HDR, TRANS_HDR_LEN

__all__ = ["TxnHeader", "prev_txn"]

_START = 4
"""Where the first transaction begins."""


class TxnHeader:
    """The header of the transaction at position *pos* of *file*."""

    def __init__(self, file: BinaryIO, pos: int) -> None:
        self._file = file
        self._pos = pos
        file.seek(pos)
        found = file.read(TRANS_HDR_LEN)
        if len(found) != TRANS_HDR_LEN:
            raise _corrupted(file, pos, "a transaction's header", f"{len(found)} bytes")
        header = struct.unpack(TRANS_HDR, found)
        self.tid: Tid = header[0]
        self.length: int = header[1]
        self.status: bytes = header[2]
        self.user_len, self.descr_len, self.ext_len = header[3:]
        self.user: bytes | str = ""
        self.descr: bytes | str = ""
        self.ext: dict[str, Any] = {}

    def read_meta(self) -> None:
        """Read ``user``, ``descr`` and ``ext``."""
        self._file.seek(self._pos + TRANS_HDR_LEN)
        self.user = self._file.read(self.user_len) or ""
        self.descr = self._file.read(self.descr_len) or ""
        # What it names is not run.
        self.ext = extension_of(self._file.read(self.ext_len))

    def __len__(self) -> int:
        return TRANS_HDR_LEN + int(self.user_len + self.descr_len + self.ext_len)

    def get_offset(self) -> int:
        """Return where the transaction begins."""
        return self._pos

    def get_data_offset(self) -> int:
        """Return where its first record begins."""
        return self._pos + len(self)

    def get_timestamp(self) -> Any:
        """Return when it was committed."""
        return TimeStamp(self.tid)

    def get_raw_data(self) -> bytes:
        """Return its records as they are in the file."""
        start, end = self.get_data_offset(), self._pos + self.length
        # A wrong length takes no memory.
        if not start <= end <= self._file.seek(0, os.SEEK_END):
            raise _corrupted(self._file, self._pos, "a length within the file", self.length)
        self._file.seek(start)
        return self._file.read(end - start)

    def next_txn(self) -> "TxnHeader | None":
        """Return the transaction after it, None after the last."""
        start = self._pos + self.length + 8
        self._file.seek(start)
        return TxnHeader(self._file, start) if self._file.read(8) else None

    def prev_txn(self) -> "TxnHeader | None":
        """Return the transaction before it, None before the first."""
        if self._pos == _START:
            return None
        self._file.seek(self._pos)
        return prev_txn(self._file)


def prev_txn(f: BinaryIO) -> TxnHeader:
    """Return the transaction that ends at the file's present position."""
    end = f.tell()
    if end < _START + 8:
        raise _corrupted(f, end, "the end of a transaction", "less than its length")
    f.seek(end - 8)
    length = u64(f.read(8))
    start = end - 8 - length
    if start < _START:
        raise _corrupted(f, end - 8, "the length of a transaction", length)
    header = TxnHeader(f, start)
    if header.length != length:
        raise _corrupted(f, end - 8, f"the length of the transaction, {header.length}", length)
    return header


def _corrupted(file: BinaryIO, position: int, expected: str, found: object) -> CorruptedError:
    path = str(getattr(file, "name", "")) or None
    return CorruptedError(path=path, position=position, expected=expected, found=found)
