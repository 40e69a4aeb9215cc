"""The headers in a data file, for programs that read the file themselves."""

import os
import struct
from typing import Any, BinaryIO

from perdure.errors import CorruptedDataError, CorruptedError, POSKeyError
from perdure.ids import Oid, Tid
from perdure.utils import as_bytes, oid_repr

__all__ = [
    "DATA_HDR",
    "DATA_HDR_LEN",
    "TRANS_HDR",
    "TRANS_HDR_LEN",
    "CorruptedDataError",
    "CorruptedError",
    "DataHeader",
    "DataHeaderFromString",
    "FileStorageFormatter",
    "TxnHeader",
    "TxnHeaderFromString",
]

TRANS_HDR = ">8sQcHHH"
DATA_HDR = ">8s8sQQHQ"
TRANS_HDR_LEN = struct.calcsize(TRANS_HDR)
DATA_HDR_LEN = struct.calcsize(DATA_HDR)


class DataHeader:
    """The header of a record: the object, and where what belongs to it is."""

    def __init__(self, oid: Oid, tid: Tid, prev: int, tloc: int, vlen: int, plen: int) -> None:
        if vlen:
            raise ValueError(f"a record of a version ({vlen} bytes of name): there are none now")
        self.oid = oid
        self.tid = tid
        self.prev = prev
        self.tloc = tloc
        self.plen = plen
        self.back = 0

    def asString(self) -> bytes:
        """Return the header as it is in the file."""
        return struct.pack(DATA_HDR, self.oid, self.tid, self.prev, self.tloc, 0, self.plen)

    def recordlen(self) -> int:
        """Return how many bytes the record has, header included."""
        return DATA_HDR_LEN + (self.plen or 8)


def DataHeaderFromString(s: bytes) -> DataHeader:
    """Return the header of which *s* are the bytes."""
    return DataHeader(*struct.unpack(DATA_HDR, s))


class TxnHeader:
    """The header of a transaction; the three texts follow it in the file."""

    def __init__(
        self, tid: Tid, tlen: int, status: bytes | str, ulen: int, dlen: int, elen: int
    ) -> None:
        self.tid = tid
        self.tlen = tlen
        self.status = status.decode("ascii") if isinstance(status, bytes) else status
        self.ulen = ulen
        self.dlen = dlen
        self.elen = elen
        self.user = self.descr = self.ext = b""

    def asString(self) -> bytes:
        """Return the header and the texts as they are in the file."""
        status = as_bytes(self.status)
        lengths = self.ulen, self.dlen, self.elen
        header = struct.pack(TRANS_HDR, self.tid, self.tlen, status, *lengths)
        return header + as_bytes(self.user) + as_bytes(self.descr) + as_bytes(self.ext)

    def headerlen(self) -> int:
        """Return how many bytes header and texts have."""
        return TRANS_HDR_LEN + self.ulen + self.dlen + self.elen


def TxnHeaderFromString(s: bytes) -> TxnHeader:
    """Return the header of which *s* are the bytes, its texts empty."""
    return TxnHeader(*struct.unpack(TRANS_HDR, s))


def _read_at(file: BinaryIO, pos: int, length: int) -> bytes:
    """Return *length* bytes at *pos*, or what there is: a wrong number takes no memory."""
    end = file.seek(0, os.SEEK_END)
    file.seek(min(pos, end))
    return file.read(min(length, end))


def _damaged(file: BinaryIO, oid: Oid | None, found: bytes, pos: int) -> CorruptedDataError:
    return CorruptedDataError(oid, found, pos, path=str(getattr(file, "name", "")) or None)


class FileStorageFormatter:
    """Base of classes that read a data file, the attribute ``_file``."""

    _file: BinaryIO

    def _read_num(self, pos: int) -> int:
        found = _read_at(self._file, pos, 8)
        if len(found) != 8:
            raise _damaged(self._file, None, found, pos)
        return int.from_bytes(found, "big")

    def _read_data_header(self, pos: int, oid: Oid | None = None, _file: Any = None) -> DataHeader:
        """Return the record header at *pos*, checked to be the one of *oid*."""
        file = self._file if _file is None else _file
        found = _read_at(file, pos, DATA_HDR_LEN)
        try:
            header = DataHeaderFromString(found)
        except (ValueError, struct.error) as error:
            raise _damaged(file, oid, found, pos) from error
        if oid is not None and oid != header.oid:
            raise _damaged(file, oid, found, pos)
        if not header.plen:
            back = file.read(8)
            if len(back) != 8:
                raise _damaged(file, oid, found, pos)
            header.back = int.from_bytes(back, "big")
        return header

    def _read_txn_header(self, pos: int, tid: Tid | None = None) -> TxnHeader:
        """Return the transaction header at *pos*, checked to be the one of *tid*."""
        found = _read_at(self._file, pos, TRANS_HDR_LEN)
        try:
            header = TxnHeaderFromString(found)
        except (ValueError, struct.error) as error:
            raise _damaged(self._file, None, found, pos) from error
        if tid is not None and tid != header.tid:
            raise _damaged(self._file, None, found, pos)
        header.user = self._file.read(header.ulen)
        header.descr = self._file.read(header.dlen)
        header.ext = self._file.read(header.elen)
        if self._file.tell() != pos + header.headerlen():
            raise _damaged(self._file, None, found, pos)
        return header

    def _loadBack_impl(
        self, oid: Oid, back: int, fail: bool = True, _file: Any = None
    ) -> tuple[bytes | None, Tid, int, int]:
        """Return data, tid and the positions of record and transaction that *back* leads to."""
        file = self._file if _file is None else _file
        while back:
            header = self._read_data_header(back, _file=file)
            if header.plen:
                data = _read_at(file, back + DATA_HDR_LEN, header.plen)
                if len(data) != header.plen:
                    raise _damaged(file, oid, data, back)
                return data, header.tid, back, header.tloc
            if not header.back and not fail:
                return None, header.tid, back, header.tloc
            if header.back >= back:  # it would never end
                raise _damaged(file, oid, header.asString(), back)
            back = header.back
        raise POSKeyError(oid)

    def _loadBackTxn(self, oid: Oid, back: int, fail: bool = True) -> tuple[bytes | None, Tid]:
        return self._loadBack_impl(oid, back, fail)[:2]

    def _loadBackPOS(self, oid: Oid, back: int) -> int:
        return self._loadBack_impl(oid, back)[2]

    def getTxnFromData(self, oid: Oid, back: int) -> Tid:
        """Return the transaction that wrote the record at *back*."""
        return self._read_data_header(back, oid).tid

    def checkTxn(self, th: TxnHeader, pos: int) -> None:
        """Raise CorruptedError unless the header at *pos* can be a transaction's."""
        if th.status not in {" ", "p", "u"}:
            raise CorruptedError(position=pos, expected="status ' ', 'p' or 'u'", found=th.status)
        if th.tlen < th.headerlen():
            raise CorruptedError(
                position=pos, expected=f"at least {th.headerlen()} bytes", found=th.tlen
            )

    def checkData(self, th: TxnHeader, tpos: int, dh: DataHeader, pos: int) -> None:
        """Raise CorruptedError unless the header at *pos* can be a record's of *th*."""
        about = f"record of {oid_repr(dh.oid)}"
        if dh.tloc != tpos:
            raise CorruptedError(about, position=pos, expected=f"transaction {tpos}", found=dh.tloc)
        if pos + dh.recordlen() > tpos + th.tlen:
            raise CorruptedError(
                about, position=pos, expected=f"an end by {tpos + th.tlen}", found=dh.recordlen()
            )
        if dh.prev >= pos or dh.back >= pos:
            raise CorruptedError(
                about, position=pos, expected="pointers to before it", found=(dh.prev, dh.back)
            )
