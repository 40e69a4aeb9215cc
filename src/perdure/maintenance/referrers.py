"""Who refers to an object: an index that is built on demand and kept beside the file."""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from perdure import _native
from perdure.errors import Unsupported
from perdure.ids import Oid
from perdure.interfaces import IStorageIteration
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage

__all__ = ["ReferenceIndex", "refers_to"]

Progress = Callable[[int, int], object]

_MAGIC: Final = b"perdure references 1\n"
_HEADER_BYTES: Final = len(_MAGIC) + 16
_PAIR_BYTES: Final = 16


def refers_to(source: Any, oid: Oid, progress: Progress | None = None) -> list[Oid]:
    """Return the objects whose current state refers to *oid*, weakly too, in the order of oids.

    *source* is a storage, a database or the path of a data file. The first call reads everything;
    the index it makes is kept beside the file (suffix `.refs`) and used until something is
    committed. *progress* is called with how much of how much is read.
    """
    if isinstance(source, (str, os.PathLike)):
        storage: Any = FileStorage(source, read_only=True)
        try:
            return ReferenceIndex.of(storage, progress).referrers(oid)
        finally:
            storage.close()
    return ReferenceIndex.of(getattr(source, "storage", source), progress).referrers(oid)


class ReferenceIndex:
    """Pairs of the referred object's and the referrer's oid, sorted, 16 bytes a pair."""

    def __init__(self, pairs: Any, offset_bytes: int = 0) -> None:
        self._pairs = pairs
        self._offset = offset_bytes
        self._count = (len(pairs) - offset_bytes) // _PAIR_BYTES

    def __len__(self) -> int:
        return self._count

    @classmethod
    def of(cls, storage: Any, progress: Progress | None = None) -> "ReferenceIndex":
        """Return the index of a storage: the kept one where it is up to date, else a new one."""
        if not isinstance(storage, EngineStorage):
            return cls(_pairs_by_iteration(storage))
        if not isinstance(storage, FileStorage):
            return cls(storage._native.reference_pairs(progress))
        path = Path(f"{storage._file_name}.refs")
        stamp = storage.lastTransaction() + storage.getSize().to_bytes(8, "big")
        kept = cls._kept(path, stamp)
        if kept is not None:
            return kept
        pairs = storage._native.reference_pairs(progress)
        # It only saves time: where it can't be kept, it is built again.
        with suppress(OSError):
            _keep(path, stamp, pairs)
        return cls(pairs)

    @classmethod
    def _kept(cls, path: Path, stamp: bytes) -> "ReferenceIndex | None":
        try:
            with path.open("rb") as file:
                if file.read(_HEADER_BYTES) != _MAGIC + stamp:
                    return None
                # Written whole and replaced by rename, never changed in place.
                return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), _HEADER_BYTES)
        except (OSError, ValueError):
            return None

    def _pair(self, number: int) -> bytes:
        start = self._offset + number * _PAIR_BYTES
        return bytes(self._pairs[start : start + _PAIR_BYTES])

    def referrers(self, oid: Oid) -> list[Oid]:
        """Return the objects that refer to *oid*."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._pair(middle)[:8] < oid:
                low = middle + 1
            else:
                high = middle
        return list(self._from(low, oid))

    def _from(self, number: int, oid: Oid) -> Iterator[Oid]:
        before = None
        while number < self._count:
            pair = self._pair(number)
            if pair[:8] != oid:
                return
            if pair != before:
                yield Oid(pair[8:])
            before = pair
            number += 1


def _keep(path: Path, stamp: bytes, pairs: bytes) -> None:
    written = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with written.open("wb") as file:
            file.write(_MAGIC + stamp)
            file.write(pairs)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _pairs_by_iteration(storage: Any) -> bytes:
    if not IStorageIteration.providedBy(storage):
        raise Unsupported(f"{storage!r} can't be iterated over")
    referred: dict[Oid, list[Oid]] = {}
    for transaction in storage.iterator():
        for record in transaction:
            referred[record.oid] = _referred(record.data)
    pairs = {target + oid for oid, targets in referred.items() for target in targets}
    return b"".join(sorted(pairs))


def _referred(data: bytes | None) -> list[Oid]:
    if data is None:
        return []
    try:
        found = _native.all_references(data)
    except ValueError:
        return []
    return [oid for kind, oid, database in found if kind != "other" and database is None]
