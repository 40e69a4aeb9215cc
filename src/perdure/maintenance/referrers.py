"""Who refers to an object: an index that is built on demand and kept beside the file."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from perdure import _native
from perdure.errors import Unsupported
from perdure.ids import MAX_TID, NO_TID, Oid, Tid, p64, u64
from perdure.interfaces import IStorageIteration
from perdure.maintenance._referencefile import Base, Stamp, keep, kept
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage

__all__ = ["ReferenceIndex", "missing_in", "refers_to"]

Progress = Callable[[int, int], object]

_CHANGED_MIN: Final = 1_000
_CHANGED_SHARE: Final = 8
"""An index is made anew where more than this part of it would have to be looked at again."""

_TRANSACTIONS_PER_CALL: Final = 1000
"""How many transactions are read between two reports."""

_in_memory: "WeakKeyDictionary[Any, Base]" = WeakKeyDictionary()
"""The indexes of storages that have no file to keep one beside."""


def refers_to(source: Any, oid: Oid, progress: Progress | None = None) -> list[Oid]:
    """Return the objects whose current state refers to *oid*, weakly too, in the order of oids.

    *source* is a storage, a database or the path of a data file. The first call reads everything;
    the index it makes is kept beside the file (suffix `.refs`), and later calls read only what was
    committed since. *progress* is called with how much of how much is read (0: not known).
    """
    if isinstance(source, (str, os.PathLike)):
        storage: Any = FileStorage(source, read_only=True)
        try:
            return ReferenceIndex.of(storage, progress).referrers(oid)
        finally:
            storage.close()
    return ReferenceIndex.of(getattr(source, "storage", source), progress).referrers(oid)


class ReferenceIndex:
    """Who refers to whom: all of it at some time, and the objects that were written since."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._changed: set[Oid] = set()
        self._since: dict[tuple[str | None, Oid], set[Oid]] = defaultdict(set)
        """Who of those changed refers to an object: of this database (None), or of another."""

    @classmethod
    def of(
        cls, storage: Any, progress: Progress | None = None, *, kept_beside: bool = True
    ) -> "ReferenceIndex":
        """Return the index of a storage, up to date.

        What is kept of an earlier one is used: only later transactions are read then. Without
        *kept_beside*, nothing is written beside the file. Raises Unsupported for a storage that
        can't be iterated over.
        """
        if not isinstance(storage, EngineStorage):
            return cls(_base_by_iteration(storage, progress))
        base = _kept_of(storage)
        if base is not None and _is_prefix(base.stamp, storage):
            index = cls(base)
            if index._catch_up(storage):
                return index
        stamp = _stamp_of(storage)
        base = Base.of(stamp, *storage._native.reference_pairs(progress))
        if kept_beside:
            _keep_of(storage, base)
        return cls(base)

    def _catch_up(self, storage: EngineStorage) -> bool:
        """Read what was committed since; False: a new index costs less."""
        limit = max(_CHANGED_MIN, len(self._base) // _CHANGED_SHARE)
        latest: dict[Oid, bytes | None] = {}
        for transaction in storage.iterator(Tid(p64(u64(self._base.stamp.tid) + 1))):
            latest.update((record.oid, record.data) for record in transaction)
            if len(latest) > limit:
                return False
        self._changed = set(latest)
        for oid, data in latest.items():
            for database, target in _referred(data):
                self._since[database, target].add(oid)
        return True

    def __len__(self) -> int:
        return len(self._base)

    @property
    def databases(self) -> list[str]:
        """The names of the other members that are referred to."""
        names = {database for database, _oid in self._since if database is not None}
        return sorted(names | set(self._base.others))

    def referrers(self, oid: Oid, database: str | None = None) -> list[Oid]:
        """Return the objects that refer to *oid*, in this database or another, sorted."""
        pairs = self._base.own if database is None else self._base.others.get(database)
        found = set(self._since.get((database, oid), ()))
        if pairs is not None:
            found.update(each for each in pairs.referrers(oid) if each not in self._changed)
        return sorted(found)

    def targets_missing_in(self, storage: Any, database: str | None = None) -> list[Oid]:
        """Return the objects that are referred to in a database and don't exist in *storage*.

        Some may not be referred to any more, or only weakly: `referrers` tells.
        """
        pairs = self._base.own if database is None else self._base.others.get(database)
        missing: set[Oid] = set()
        if pairs is not None:
            missing.update(_missing(storage, pairs.to_bytes()))
        since = (oid for (name, oid), by in self._since.items() if name == database and by)
        missing.update(missing_in(storage, since))
        return sorted(missing)


# Storages.


def _stamp_of(storage: EngineStorage) -> Stamp:
    return Stamp(storage.lastTransaction(), storage.getSize())


def _kept_of(storage: EngineStorage) -> Base | None:
    if isinstance(storage, FileStorage):
        return kept(_path_of(storage))
    return _in_memory.get(storage)


def _keep_of(storage: EngineStorage, base: Base) -> None:
    if not isinstance(storage, FileStorage):
        _in_memory[storage] = base
        return
    # It only saves time: where it can't be kept, it is built again.
    with suppress(OSError):
        keep(_path_of(storage), base)


def _path_of(storage: FileStorage) -> Path:
    return Path(f"{storage._file_name}.refs")


def _is_prefix(stamp: Stamp, storage: EngineStorage) -> bool:
    """Tell whether the storage still begins as it was then: it was not packed since."""
    if stamp.tid == NO_TID:
        return False
    return any(
        fields[6] == stamp.size_bytes
        for fields in storage._native.transactions(stamp.tid, stamp.tid)
    )


def _exists(storage: Any, oid: Oid) -> bool:
    try:
        return storage.loadBefore(oid, MAX_TID) is not None
    except KeyError:
        return False


def missing_in(storage: Any, oids: Iterable[Oid]) -> list[Oid]:
    """Return those of *oids* that *storage* has no object of, sorted."""
    wanted = sorted(set(oids))
    if isinstance(storage, EngineStorage):
        return storage._native.missing_targets(b"".join(oid + oid for oid in wanted))
    return [oid for oid in wanted if not _exists(storage, oid)]


def _missing(storage: Any, pairs: bytes) -> list[Oid]:
    if isinstance(storage, EngineStorage):
        return storage._native.missing_targets(pairs)
    return missing_in(storage, (Oid(pairs[at : at + 8]) for at in range(0, len(pairs), 16)))


def _base_by_iteration(storage: Any, progress: Progress | None) -> Base:
    if not IStorageIteration.providedBy(storage):
        raise Unsupported(f"{storage!r} can't be iterated over, so who refers to whom is unknown")
    latest: dict[Oid, list[tuple[str | None, Oid]]] = {}
    for number, transaction in enumerate(storage.iterator()):
        for record in transaction:
            latest[record.oid] = list(_referred(record.data))
        if progress is not None and number % _TRANSACTIONS_PER_CALL == 0:
            progress(number, 0)
    pairs: dict[str | None, set[bytes]] = defaultdict(set)
    for oid, referred in latest.items():
        for database, target in referred:
            pairs[database].add(target + oid)
    own = b"".join(sorted(pairs.pop(None, ())))
    others = {str(name): b"".join(sorted(found)) for name, found in pairs.items()}
    return Base.of(Stamp(NO_TID, 0), own, others)


def _referred(data: bytes | None) -> Iterator[tuple[str | None, Oid]]:
    """Give the member (None: the same) and the oid of each object that a record refers to."""
    if data is None:
        return
    # Of what can't be read to its end, nothing is known.
    with suppress(ValueError):
        for _kind, oid, database in _native.all_references(data):
            yield database, oid
