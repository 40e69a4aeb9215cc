"""Reading what is whole in a damaged data file."""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from perdure.classname import get_pickle_metadata
from perdure.errors import StorageError
from perdure.ids import Oid, Tid, oid_repr, p64, tid_repr
from perdure.maintenance._imaging import Part
from perdure.storage.records import DataRecord, TransactionRecord

__all__ = ["Broken", "DamagedRecord", "Gap", "Salvage"]

Progress = Callable[[int, int], object]

_FIRST: Final = 4
_TRANSACTION: Final = struct.Struct(">8sQcHHH")
_RECORD: Final = struct.Struct(">8s8sQQHQ")
_UNFINISHED: Final = b"c"
_SKIPPED: Final = b"u"
_CHAIN_MAX: Final = 1000
"""Longer chains of undone records are a circle."""
_CLASS_BYTES_MAX: Final = 1 << 16
"""A record's class is found in that many bytes, whatever its damaged header says of its length."""


class Gap(NamedTuple):
    """A part of the file that is no whole transaction."""

    start: int
    end: int
    problem: str


@dataclass(frozen=True)
class Broken:
    """A transaction of which not everything is what was written, as its checksums tell."""

    position: int
    end: int
    tid: Tid
    status: str
    texts: tuple[bytes, bytes, bytes]
    header_is_right: bool
    is_unlocated: bool
    """Nothing tells which part of it is damaged: all its records are among `intact`."""
    is_unfinished: bool
    """It may never have been wholly written."""
    intact: list[int]
    damaged: list[tuple[int, Oid]]
    lost: int
    """How many records are damaged, those included that can't be made out."""

    @property
    def is_salvaged(self) -> bool:
        """Whether there is anything in it to be copied."""
        return not self.is_unfinished and (bool(self.intact) or not self.lost)


@dataclass(frozen=True)
class DamagedRecord:
    """A record that is not, or perhaps not, what was written."""

    problem: str
    position: int
    """Where in the damaged file, in bytes."""
    tid: Tid
    oid: Oid | None = None
    """The object whose record it seems to be; None: this can't be made out, or it is none."""
    class_name: str = ""
    """The object's class as far as it can be read."""
    earlier: Tid | None = None
    """The last revision before it that was salvaged."""
    current: Tid | None = None
    """The object's current revision in the result; None: it has none."""

    def __str__(self) -> str:
        by = f"written by {tid_repr(self.tid)}: {self.problem}"
        if self.oid is None:
            return f"at position {self.position}, {by}"
        cls = f" ({self.class_name})" if self.class_name else ""
        return f"at position {self.position}: {oid_repr(self.oid)}{cls}, {by}"


class Salvage:
    """What is whole in a file, as a source to copy from.

    *gaps* are the parts that are no whole transactions, in their order, *broken* those transactions that are not
    what was written, some of them in gaps, and *unread* the parts that couldn't be read, zeros in
    their place; everything else is taken for whole. *progress* is called with how many of how many
    bytes are read.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        gaps: list[Gap],
        broken: list[Broken],
        progress: Progress | None = None,
        unread: Sequence[Part] = (),
    ) -> None:
        self._progress = progress
        self._unread = unread
        self._file = path.open("rb")
        self._size = size
        self._gaps = gaps
        self._starts = [gap.start for gap in gaps]
        self._broken = {each.position: each for each in broken}
        self._broken_at = sorted(self._broken)
        self._intact = {at for each in broken if each.is_salvaged for at in each.intact}
        self._damaged = {at for each in broken for at, _ in each.damaged}
        self.transactions = 0
        self.records = 0
        self.lost_records: list[DamagedRecord] = []
        self.doubtful: list[DamagedRecord] = []

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def iterator(self) -> Iterator[TransactionRecord]:
        """Walk over the transactions, of damaged ones what is left of them."""
        ends = {gap.start: gap.end for gap in self._gaps}
        position = _FIRST
        while position < self._size:
            if position in ends:
                end = ends[position]
                found = [self._rest_of(each) for each in self._broken_in(position, end)]
            elif position in self._broken:
                broken = self._broken[position]
                end, found = broken.end, [self._rest_of(broken)]
            else:
                length, whole = self._transaction(position)
                end, found = position + length + 8, [whole]
            position = end
            if self._progress is not None:
                self._progress(position, self._size)
            for transaction in filter(None, found):
                self.transactions += 1
                yield transaction

    def _broken_in(self, start: int, end: int) -> list[Broken]:
        places = slice(bisect_left(self._broken_at, start), bisect_left(self._broken_at, end))
        return [self._broken[position] for position in self._broken_at[places]]

    def is_in_gap(self, position: int) -> bool:
        """Tell whether a position is in a part that is no whole transaction."""
        number = bisect_right(self._starts, position) - 1
        return number >= 0 and position < self._gaps[number].end

    def kept_in(self, gap: Gap) -> int:
        """Return how many records of a gap are whole."""
        found = self._broken_in(gap.start, gap.end)
        return sum(len(each.intact) for each in found if each.is_salvaged)

    def _rest_of(self, broken: Broken) -> TransactionRecord | None:
        """Return what is left of a broken transaction, and note what is not."""
        if broken.is_unfinished:
            return None
        if broken.is_unlocated and self._is_unread(broken.position, broken.end):
            # That is what its checksum of the whole tells of.
            return self._transaction(broken.position)[1]
        told = self.damaged_in(broken)
        is_kept = broken.is_unlocated or not broken.lost
        (self.doubtful if is_kept else self.lost_records).extend(told)
        if not broken.is_salvaged:
            return None
        if not is_kept and not broken.header_is_right:
            self.doubtful.append(_header_of(broken))
        records: Any = partial(self._records_at, broken.intact)
        return TransactionRecord(broken.tid, broken.status, *broken.texts, records)

    def damaged_in(self, broken: Broken) -> list[DamagedRecord]:
        """Return what in a broken transaction isn't, or perhaps isn't, what was written."""
        if broken.is_unlocated:
            problem = (
                "something in its transaction isn't what was written, by the checksum of the whole, "
                "and nothing tells what"
            )
            owners = [(position, Oid(self._read(position, 8))) for position in broken.intact]
            return [self._described(broken.tid, problem, *each) for each in owners]
        problem = "it isn't what was written, by its checksum"
        found = [self._described(broken.tid, problem, *each) for each in broken.damaged]
        unseen = broken.lost - len(broken.damaged)
        if unseen > 0:
            problem = f"{unseen} records can't be made out any more"
            found.append(DamagedRecord(problem, broken.position, broken.tid))
        if not broken.lost and not broken.header_is_right:
            found.append(_header_of(broken))
        return found

    def _described(self, tid: Tid, problem: str, position: int, oid: Oid) -> DamagedRecord:
        length = self._header(position)[-1]
        data = self._read_on(min(length, _CLASS_BYTES_MAX))
        class_name = ".".join(get_pickle_metadata(data)).strip(".")
        owner = self._owner(position, oid)
        return DamagedRecord(problem, position, tid, owner, class_name)

    def _owner(self, position: int, oid: Oid) -> Oid:
        """Return whose record it is: its previous one tells, where its own oid is what is damaged."""
        previous = self._header(position)[2]
        before = self._header(previous) if 0 < previous < position else None
        if before is None or before[3] >= previous or before[1] != self._read(before[3], 8):
            return oid
        return Oid(before[0])

    def _read(self, position: int, length: int) -> bytes:
        """Return what is there, up to the file's end; damaged numbers may lead anywhere."""
        if position >= self._size:
            return b""
        self._file.seek(position)
        return self._read_on(length)

    def _read_on(self, length: int) -> bytes:
        return self._file.read(min(length, self._size))

    def _header(self, position: int) -> Any:
        """Return the fields of the record header there: oid, tid, previous, transaction, ..."""
        found = self._read(position, _RECORD.size)
        return _RECORD.unpack(found.ljust(_RECORD.size, b"\0"))

    def _transaction(self, position: int) -> tuple[int, TransactionRecord | None]:
        header = self._read(position, _TRANSACTION.size)
        if len(header) < _TRANSACTION.size:
            raise StorageError(f"{self._file.name} was changed while it was read: try again")
        tid, length, status, *lengths = _TRANSACTION.unpack(header)
        if status in (_UNFINISHED, _SKIPPED):
            return length, None
        strings = [self._read_on(each) for each in lengths]
        start = position + _TRANSACTION.size + sum(lengths)
        if self._is_unread(position, start):
            problem = "its user, description or extension can't be read, or not all of it"
            self.doubtful.append(DamagedRecord(problem, position, Tid(tid)))
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
            length = self._header(position)[-1]
            yield from self._records_at([position])
            position += _RECORD.size + (length or 8)

    def _records_at(self, positions: list[int]) -> Iterator[DataRecord]:
        for position in positions:
            oid, tid, previous, _, _, length = self._header(position)
            if self._is_unread(position, position + _RECORD.size + (length or 8)):
                problem = "it can't be read, or not all of it"
                self.lost_records.append(self._described(tid, problem, position, oid))
                continue
            data_tid: Tid | None = None
            if length:
                data: bytes | None = self._read_on(length)
            else:
                data, data_tid = self._pointed_at(position, oid, tid)
            if data is not None or data_tid is None:
                self.records += 1
                yield DataRecord(oid, tid, data, data_tid, position, previous)

    def _pointed_at(self, position: int, oid: Oid, tid: Tid) -> tuple[bytes | None, Tid | None]:
        """Return data and their tid; (None, None): the object doesn't exist; (None, tid): lost."""
        at = position
        for _ in range(_CHAIN_MAX):
            pointer = int.from_bytes(self._read(at + _RECORD.size, 8), "big")
            if pointer == 0:
                return None, None
            header = self._read(pointer, _RECORD.size)
            if self._is_lost(pointer) or len(header) < _RECORD.size or header[:8] != oid:
                break
            data_tid, length = Tid(header[8:16]), _RECORD.unpack(header)[-1]
            if length:
                return self._read(pointer + _RECORD.size, length), data_tid
            at = pointer
        problem = "its data stood in a part of the file that is lost"
        self.lost_records.append(DamagedRecord(problem, position, tid, oid))
        return None, tid

    def _is_lost(self, position: int) -> bool:
        """Whether the record there is not salvaged."""
        if position in self._intact:
            return False
        is_gone = self.is_in_gap(position) or position in self._damaged
        return is_gone or self._is_record_unread(position)

    def _is_record_unread(self, position: int) -> bool:
        return bool(self._unread) and self._is_unread(
            position, position + _RECORD.size + self._header(position)[-1]
        )

    def _is_unread(self, start: int, end: int) -> bool:
        return any(part.start < end and start < part.end for part in self._unread)

    def traces(self, gap: Gap) -> tuple[Tid | None, tuple[Oid, ...]]:
        """Return what can still be made out in a gap: its transaction, and oids of records."""
        seen = self._places_in(gap)
        oids = dict.fromkeys(Oid(self._read(at, 8)) for at in seen if at not in self._intact)
        return Tid(self._read(seen[-1] + 8, 8)) if seen else None, tuple(oids)

    def seen_in(self, gap: Gap, most: int) -> list[DamagedRecord]:
        """Return the first records that can be made out in a gap, but for those that are whole."""
        problem = "it stands in a part of the file that is no whole transaction"
        return [
            self._described(Tid(self._read(at + 8, 8)), problem, at, Oid(self._read(at, 8)))
            for at in [at for at in self._places_in(gap) if at not in self._intact][:most]
        ]

    def _places_in(self, gap: Gap) -> list[int]:
        """Return where records seem to stand in a gap."""
        length = min(gap.end - gap.start, 1 << 26)
        content = self._read(gap.start, length)
        # A record names its transaction's position behind oid, tid and previous position.
        mark = p64(gap.start)
        places = []
        at = content.find(mark)
        while at >= 0:
            header = _RECORD.unpack(content[at - 24 : at + 18]) if 24 <= at <= length - 18 else None
            # A seal names the position, too.
            if header is not None and header[4] == 0 and header[5] <= length - at:
                places.append((at - 24, header[1]))
            at = content.find(mark, at + 8)
        tids = {content[:8], places[-1][1]} if places else set()
        return [gap.start + place for place, tid in places if tid in tids]


def _header_of(broken: Broken) -> DamagedRecord:
    problem = "its user, description or extension isn't what was written"
    return DamagedRecord(problem, broken.position, broken.tid)
