"""Go from transaction to transaction in an open data file."""

import struct
from typing import Any, BinaryIO

from perdure.ids import Tid
from perdure.timestamp import TimeStamp
from perdure.utils import u64

from ._compat import loads
from .FileStorage.format import TRANS_HDR, TRANS_HDR_LEN

__all__ = ["TxnHeader", "prev_txn"]


class TxnHeader:
    """The header of the transaction at position *pos* of *file*."""

    def __init__(self, file: BinaryIO, pos: int) -> None:
        self._file = file
        self._pos = pos
        file.seek(pos)
        header = struct.unpack(TRANS_HDR, file.read(TRANS_HDR_LEN))
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
        extension = self._file.read(self.ext_len)
        self.ext = loads(extension) if extension else {}

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
        start = self.get_data_offset()
        self._file.seek(start)
        return self._file.read(self._pos + self.length - start)

    def next_txn(self) -> "TxnHeader | None":
        """Return the transaction after it, None after the last."""
        start = self._pos + self.length + 8
        self._file.seek(start)
        return TxnHeader(self._file, start) if self._file.read(8) else None

    def prev_txn(self) -> "TxnHeader | None":
        """Return the transaction before it, None before the first."""
        if self._pos == 4:
            return None
        self._file.seek(self._pos)
        return prev_txn(self._file)


def prev_txn(f: BinaryIO) -> TxnHeader:
    """Return the transaction that ends at the file's present position."""
    f.seek(-8, 1)
    length = u64(f.read(8)) + 8
    return TxnHeader(f, f.tell() - length)
