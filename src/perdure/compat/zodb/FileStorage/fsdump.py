"""Show what is in a data file, record by record."""

import os
import struct
from pathlib import Path
from typing import IO, Any

from perdure.compat._tool import running, the_file
from perdure.errors import CorruptedError
from perdure.timestamp import TimeStamp
from perdure.utils import get_pickle_metadata, u64

from ._iterator import FileIterator
from .format import DATA_HDR, DATA_HDR_LEN, TRANS_HDR, TRANS_HDR_LEN

__all__ = ["Dumper", "fmt", "fsdump", "main"]


def fsdump(path: str, file: IO[str] | None = None, with_offset: int = 1) -> None:
    """Print the transactions of the data file *path* and their records to *file*.

    *file* is standard output by default. Without *with_offset*, positions in the file
    are left out.
    """
    with FileIterator(path) as transactions:
        for number, transaction in enumerate(transactions):
            _show_transaction(number, transaction, file, with_offset)


def _show_transaction(
    number: int, transaction: Any, file: IO[str] | None, with_offset: int
) -> None:
    size = transaction._tend - transaction._tpos
    offset = f" offset={transaction._pos}" if with_offset else ""
    print(
        f"Trans #{number:05d} tid={fmt(transaction.tid)} size={size} "
        f"time={TimeStamp(transaction.tid)}{offset}",
        file=file,
    )
    print(
        f"    status={transaction.status!r} user={transaction.user!r} "
        f"description={transaction.description!r}",
        file=file,
    )
    for place, record in enumerate(transaction):
        if record.data is None:
            what = " class=undo or abort of object creation"
        else:
            what = f" size={len(record.data)} class={'.'.join(get_pickle_metadata(record.data))}"
        back = f" bp={fmt(record.data_txn)}" if record.data_txn else ""
        print(f"  data #{place:05d} oid={fmt(record.oid)}{what}{back}", file=file)


def fmt(p64: bytes) -> str:
    """Return 8 bytes as 16 digits."""
    return f"{u64(p64):016x}"


class Dumper:
    """Prints every header in the data file *path* as it is, to *dest*."""

    def __init__(self, path: str, dest: IO[str] | None = None) -> None:
        self.file = Path(path).open("rb")  # noqa: SIM115 - the caller's, to the end
        self.dest = dest

    def _show(self, line: str) -> None:
        print(line, file=self.dest)

    def dump(self) -> None:
        """Print the whole file."""
        self._show("*" * 60)
        self._show(f"file identifier: {self.file.read(4)!r}")
        while self.dump_txn():
            pass

    def dump_txn(self) -> bool:
        """Print the next transaction; return whether there was one."""
        pos = self.file.tell()
        if not self.file.peek(1):
            return False
        tid, length, status, *lengths = struct.unpack(TRANS_HDR, self._read(TRANS_HDR_LEN))
        user, description, extension = map(self._read, lengths)
        for line in (
            "=" * 60,
            f"offset: {pos}",
            f"end pos: {pos + length}",
            f"transaction id: {fmt(tid)}",
            f"trec len: {length}",
            f"status: {status!r}",
            f"user: {user or ''!r}",
            f"description: {description or ''!r}",
            f"len(extra): {len(extension)}",
        ):
            self._show(line)
        while self.file.tell() < pos + length:
            self.dump_data(pos)
        self._show(f"redundant trec len: {u64(self._read(8))}")
        return True

    def dump_data(self, tloc: int) -> None:
        """Print the next record."""
        pos = self.file.tell()
        header = self._read(DATA_HDR_LEN)
        oid, revision, previous, tloc, _, length = struct.unpack(DATA_HDR, header)
        for line in (
            "-" * 60,
            f"offset: {pos}",
            f"oid: {fmt(oid)}",
            f"revid: {fmt(revision)}",
            f"previous record offset: {previous}",
            f"transaction offset: {tloc}",
            f"len(data): {length}",
        ):
            self._show(line)
        self._skip(length)
        if not length:
            self._show(f"backpointer: {u64(self._read(8))}")

    def _read(self, length: int) -> bytes:
        pos = self.file.tell()
        found = self.file.read(length)
        self._require(pos, length, len(found))
        return found

    def _skip(self, length: int) -> None:
        pos = self.file.tell()
        self._require(pos, length, os.fstat(self.file.fileno()).st_size - pos)
        self.file.seek(pos + length)

    def _require(self, pos: int, length: int, found: int) -> None:
        if found < length:
            path, expected = str(self.file.name), f"{length} bytes"
            raise CorruptedError(path=path, position=pos, expected=expected, found=found)


def main() -> None:
    """Print the data file that the command line names."""
    fsdump(the_file("usage: fsdump.py Data.fs"))


if __name__ == "__main__":
    with running("fsdump"):
        main()
