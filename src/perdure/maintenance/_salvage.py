"""Reading the whole transactions of a damaged data file."""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from perdure.ids import Oid, Tid, p64, u64
from perdure.maintenance.report import Finding
from perdure.storage.records import DataRecord, TransactionRecord

__all__ = ["Gap", "Salvage"]

Progress = Callable[[int, int], object]

_FIRST: Final = 4
_TRANSACTION: Final = struct.Struct(">8sQcHHH")
_RECORD: Final = struct.Struct(">8s8sQQHQ")
_UNFINISHED: Final = b"c"
_SKIPPED: Final = b"u"
_CHAIN_MAX: Final = 1000
"""Longer chains of undone records are a circle."""


class Gap(NamedTuple):
    """A part of the file that is no whole transaction."""

    start: int
    end: int
    problem: str


class Salvage:
    """The whole transactions of a file, as a source to copy from.

    *gaps* are the parts to leave out; everything else was found to be whole. *progress* is called
    with how many of how many bytes are read.
    """

    def __init__(
        self, path: Path, size: int, gaps: list[Gap], progress: Progress | None = None
    ) -> None:
        self._progress = progress
        self._file = path.open("rb")
        self._size = size
        self._gaps = gaps
        self.transactions = 0
        self.records = 0
        self.lost_records: list[Finding] = []

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def iterator(self) -> Iterator[TransactionRecord]:
        """Walk over the whole transactions."""
        ends = {gap.start: gap.end for gap in self._gaps}
        position = _FIRST
        while position < self._size:
            if position in ends:
                position = ends[position]
                continue
            length, transaction = self._transaction(position)
            position += length + 8
            if self._progress is not None:
                self._progress(position, self._size)
            if transaction is not None:
                self.transactions += 1
                yield transaction

    def _read(self, position: int, length: int) -> bytes:
        self._file.seek(position)
        return self._file.read(length)

    def _transaction(self, position: int) -> tuple[int, TransactionRecord | None]:
        header = self._read(position, _TRANSACTION.size)
        tid, length, status, *lengths = _TRANSACTION.unpack(header)
        if status in (_UNFINISHED, _SKIPPED):
            return length, None
        strings = [self._file.read(each) for each in lengths]
        start = position + _TRANSACTION.size + sum(lengths)
        user, description, extension = strings
        records: Any = partial(self.records_between, start, position + length)
        transaction = TransactionRecord(
            tid, status.decode("ascii"), user, description, extension, records
        )
        return length, transaction

    def records_between(self, start: int, end: int) -> Iterator[DataRecord]:
        """Yield the records there, as the engine's iterators do."""
        position = start
        while position < end:
            oid, tid, previous, _, _, length = _RECORD.unpack(self._read(position, _RECORD.size))
            data_tid: Tid | None = None
            if length:
                data: bytes | None = self._file.read(length)
            else:
                data, data_tid = self._pointed_at(position, oid, tid)
            if data is not None or data_tid is None:
                self.records += 1
                yield DataRecord(oid, tid, data, data_tid, position, previous)
            position += _RECORD.size + (length or 8)

    def _pointed_at(self, position: int, oid: Oid, tid: Tid) -> tuple[bytes | None, Tid | None]:
        """Return data and their tid; (None, None): the object doesn't exist; (None, tid): lost."""
        at = position
        for _ in range(_CHAIN_MAX):
            pointer = u64(self._read(at + _RECORD.size, 8))
            if pointer == 0:
                return None, None
            header = self._read(pointer, _RECORD.size)
            lost = any(gap.start <= pointer < gap.end for gap in self._gaps)
            if lost or len(header) < _RECORD.size or header[:8] != oid:
                break
            data_tid, length = Tid(header[8:16]), _RECORD.unpack(header)[-1]
            if length:
                return self._read(pointer + _RECORD.size, length), data_tid
            at = pointer
        problem = "its data stood in a part of the file that is lost"
        self.lost_records.append(Finding("data-position", problem, position, oid, tid=tid))
        return None, tid

    def traces(self, gap: Gap) -> tuple[Tid | None, tuple[Oid, ...]]:
        """Return what can still be made out in a gap: its transaction, and oids of records."""
        content = self._read(gap.start, min(gap.end - gap.start, 1 << 26))
        mark = p64(gap.start)
        oids: dict[Oid, None] = {}
        tid: Tid | None = None
        at = content.find(mark)
        while at >= 24:
            # A record names its transaction's position behind oid, tid and previous position.
            tid = Tid(content[at - 16 : at - 8])
            oids[Oid(content[at - 24 : at - 16])] = None
            at = content.find(mark, at + 8)
        return tid, tuple(oids)
