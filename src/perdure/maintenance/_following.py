"""Data files that others write to, and a moment at which all of them are whole together.

A joint transaction is prepared in all its members before it is finished in any of them. So what
one look finds finished somewhere, a later look finds finished, or voted, everywhere: where two
looks in a row find the same and nothing voted, each joint transaction up to the moment is in all
of its members or in none.
"""

import os
import struct
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from perdure import _native
from perdure.errors import StorageError
from perdure.ids import NO_TID, Tid, p64, u64
from perdure.storage.file import FileStorage

__all__ = ["Cut", "Follower", "common_cut"]

_FIRST: Final = 4
_HEADER: Final = struct.Struct(">8sQc")
_LENGTH: Final = struct.Struct(">Q")
_TRANSACTION_BYTES_MIN: Final = 23
_VOTED: Final = b"c"
_PACKED: Final = b"p"
_ATTEMPTS_MAX: Final = 10
_PATIENCE_SECONDS: Final = 2.0
"""How long a transaction may be on its way between vote and finish before it is asked for."""
_PAUSE_SECONDS: Final = 0.002


class Follower:
    """A data file, as it was opened, and what is added to it.

    The file stays the one that was opened, even when a pack puts another in its place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.voted: Tid | None = None
        """The transaction behind the last whole one that is voted, and not finished."""
        for _ in range(_ATTEMPTS_MAX):
            # Without a buffer: what was read before may be written anew.
            self.file = self.path.open("rb", buffering=0)
            try:
                with closing(FileStorage(self.path, read_only=True)) as storage:
                    self.end, self.last_tid = storage.getSize(), storage.lastTransaction()
            except BaseException:
                self.file.close()
                raise
            if self._is_at_path():
                return
            self.file.close()
        raise StorageError(f"{self.path} is replaced by another file again and again")

    def _is_at_path(self) -> bool:
        try:
            here = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(self.file.fileno()), here)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def read(self, position: int, length: int) -> bytes:
        """Return the bytes there, fewer at the end of the file."""
        self.file.seek(position)
        return self.file.read(length)

    def look(self) -> None:
        """Take note of what was added."""
        self.voted = None
        while True:
            header = self.read(self.end, _HEADER.size)
            if len(header) < _HEADER.size:
                return
            tid, length, status = _HEADER.unpack(header)
            if status == _VOTED:
                self.voted = Tid(tid)
                return
            if length < _TRANSACTION_BYTES_MIN or tid <= self.last_tid:
                return
            if self.read(self.end + length, 8) != _LENGTH.pack(length):
                return
            self.end += length + 8
            self.last_tid = Tid(tid)

    def end_of(self, until: Tid) -> tuple[int, Tid]:
        """Return where the last transaction up to *until* ends, and its tid (zeros: none)."""
        end = self.end
        while end > _FIRST:
            start = end - 8 - int.from_bytes(self.read(end - 8, 8), "big")
            if not _FIRST <= start < end:
                raise StorageError(f"{self.path} is damaged before position {end}: check it")
            tid = Tid(self.read(start, 8))
            if tid <= until:
                return end, tid
            end = start
        return _FIRST, NO_TID

    def is_packed_at(self, position: int) -> bool:
        """Tell whether a transaction begins there that a pack has left."""
        return self.read(position, _HEADER.size)[-1:] == _PACKED


class Cut(NamedTuple):
    """A moment of several data files: each joint transaction is before it in all, or in none."""

    tid: Tid
    """The last transaction of any of them."""
    ends: Mapping[str, tuple[int, Tid]]
    """Where each file's part ends, and its last transaction."""


def common_cut(files: Mapping[str, Follower]) -> Cut:
    """Return the newest moment of *files*, which others may be writing to.

    A joint transaction that a crash left in doubt is not in it, nor is anything after that. OSError
    or StorageError is raised where a file can't be read.
    """
    for file in files.values():
        file.look()
    until = max(file.last_tid for file in files.values())
    patience = time.monotonic() + _PATIENCE_SECONDS
    before: dict[str, tuple[int, Tid]] | None = None
    alone: set[Tid] = set()
    while True:
        for file in files.values():
            file.look()
        now = {name: file.end_of(until) for name, file in files.items()}
        pending = [file for file in files.values() if _is_pending(file, until, alone)]
        if not pending and now == before:
            return Cut(max(tid for _, tid in now.values()), now)
        before = now
        if pending and time.monotonic() < patience:
            time.sleep(_PAUSE_SECONDS)
            continue
        for file in pending:
            until = _before_doubt(file, until, alone)


def _is_pending(file: Follower, until: Tid, alone: set[Tid]) -> bool:
    return file.voted is not None and file.voted <= until and file.voted not in alone


def _before_doubt(file: Follower, until: Tid, alone: set[Tid]) -> Tid:
    """Return the last moment before what *file* has voted, if that is a joint transaction."""
    voted = file.voted
    if voted is None:
        return until
    found = _native.in_doubt(file.path)
    if found is None or found[0] != voted:
        # Nobody else has a part in it.
        alone.add(voted)
        return until
    return min(until, Tid(p64(u64(voted) - 1)))
