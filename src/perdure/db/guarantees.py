"""What a collection promises, member by member, with the storages that it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from perdure.blob import BlobStorage
from perdure.interfaces import IBlobStorage, IStorageIteration
from perdure.storage._transforming import TransformingStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage
from perdure.storage.view import EngineFace

__all__ = ["Guarantees", "MemberGuarantees", "guarantees_of"]


@dataclass(frozen=True)
class MemberGuarantees:
    """What holds for one member of a collection."""

    storage: str
    """The class of its storage."""
    joint: bool
    """Whether it takes part in joint commits: its storage is perdure's own, or a layer over it."""
    durable: bool | None
    """Whether it outlives the process; None: its storage doesn't tell."""
    atomic_over_crashes: bool
    """Whether a crash leaves a transaction in it, and in all others of which this holds, or in none."""
    one_tid: bool
    """Whether a transaction has the same tid in it as in all others of which this holds."""
    one_snapshot: bool
    """Whether it is read at the same moment as all others of which this holds."""
    writable: bool
    """Whether it can be changed."""
    undo: bool
    """Whether `Collection.undo` undoes transactions in it."""
    gc: bool
    """Whether `Collection.gc` can follow and delete its objects."""
    references: bool
    """Whether `Collection.check` and `references` can look at all of it."""
    repair: bool
    """Whether `Collection.repair` can change it."""
    backup: bool
    """Whether `Collection.backup` takes it: it has a data file."""
    blobs: bool
    """Whether it keeps blobs."""
    references_checked: bool
    """Whether new references to what isn't there are refused, and undos that would leave some.

    Where they aren't, those to objects of other members that aren't loaded still may be.
    """


@dataclass(frozen=True)
class Guarantees:
    """What holds for a collection as a whole, and for each member."""

    members: Mapping[str, MemberGuarantees]
    atomic_over_crashes: bool
    """Whether a transaction is in all members that it changed or in none, whatever fails.

    Without it, members commit by two phases in the order of their sort keys: an error before or
    in the first phase changes nothing, but a crash in the second leaves the transaction in some.
    """
    one_tid: bool
    """Whether a transaction has the same tid in all members, so that `at` means one state."""
    one_snapshot: bool
    """Whether all members are read at one moment, and joint transactions appear in all at once."""
    writable: bool
    """Whether all members can be changed."""
    undo: bool
    """Whether `Collection.undo` undoes a transaction in all members that it changed."""
    gc: bool
    """Whether `Collection.gc` works, and members' own packs can ask the others."""
    references: bool
    """Whether `Collection.check` and `references` see all references."""
    repair: bool
    """Whether `Collection.repair` can change what it has to."""
    backup: bool
    """Whether `Collection.backup` takes all members at one moment."""

    def missing(self) -> dict[str, list[str]]:
        """Return, for what doesn't hold for the whole, the members that are in the way."""
        return {
            name: [member for member, holds in self.members.items() if not getattr(holds, name)]
            for name in _OF_THE_WHOLE
            if not getattr(self, name)
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        missing = self.missing()
        for name in _OF_THE_WHOLE:
            why = f"no ({', '.join(missing[name])})" if name in missing else "yes"
            yield f"{name.replace('_', ' ')}: {why}"
        for name, member in self.members.items():
            kind = "joint commits" if member.joint else "two-phase commit only"
            yield f"  {name}: {member.storage}, {kind}"


_OF_THE_WHOLE = tuple(field.name for field in fields(Guarantees) if field.name != "members")


def guarantees_of(members: Mapping[str, Any]) -> Guarantees:
    """Return what holds; see `Collection.guarantees`."""
    found = {name: _member(database) for name, database in members.items()}
    if len(found) == 1:
        return _of_one(found)
    # One that is gone with the process isn't in step with one that stays.
    in_step = all(each.joint for each in found.values()) and (
        len({each.durable for each in found.values()}) == 1
    )
    whole = {name: all(getattr(each, name) for each in found.values()) for name in _OF_THE_WHOLE}
    return Guarantees(found, **{**whole, "atomic_over_crashes": in_step})


def _of_one(found: dict[str, MemberGuarantees]) -> Guarantees:
    """A transaction in one database is its storage's business alone."""
    (member,) = found.values()
    whole = {name: getattr(member, name) for name in _OF_THE_WHOLE}
    together = dict.fromkeys(("atomic_over_crashes", "one_tid", "one_snapshot"), True)
    return Guarantees(found, **{**whole, **together})


def _member(database: Any) -> MemberGuarantees:
    storage = database.storage
    joint = isinstance(database._mvcc_storage, EngineFace)
    durable = _durable(storage)
    writable = not storage.isReadOnly()
    bottom = _bottom(storage)
    return MemberGuarantees(
        storage=f"{type(storage).__module__}.{type(storage).__qualname__}",
        joint=joint,
        durable=durable,
        atomic_over_crashes=joint and durable is True,
        one_tid=joint,
        one_snapshot=joint,
        writable=writable,
        undo=joint and writable and bool(database.supportsUndo()),
        gc=joint and writable,
        references=bool(IStorageIteration.providedBy(storage)),
        repair=joint and writable,
        backup=isinstance(bottom, FileStorage),
        blobs=bool(IBlobStorage.providedBy(storage)),
        references_checked=joint and bool(database.check_references),
    )


def _bottom(storage: Any) -> Any:
    while isinstance(storage, TransformingStorage | BlobStorage):
        storage = storage.base
    return storage


def _durable(storage: Any) -> bool | None:
    bottom = _bottom(storage)
    if isinstance(bottom, FileStorage):
        return True
    return False if isinstance(bottom, MappingStorage) else None
