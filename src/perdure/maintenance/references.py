"""Who refers to whom over the members of a collection, and what is referred to and lost."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from perdure import _native
from perdure.ids import MAX_TID, ROOT_OID, Oid, Tid, oid_repr
from perdure.maintenance.referrers import ReferenceIndex
from perdure.maintenance.report import Step
from perdure.serialize.references import oid_of
from perdure.serialize.standard_references import references

__all__ = ["Dangling", "ObjectPlace", "References", "Referrer"]

Progress = Callable[[int, int], object]


class ObjectPlace(NamedTuple):
    """An object of a collection."""

    member: str
    oid: Oid

    def __str__(self) -> str:
        return f"{oid_repr(self.oid)} in {self.member!r}"


class Referrer(NamedTuple):
    """An object that refers to another."""

    member: str
    oid: Oid
    class_name: str
    tid: Tid
    """The transaction that wrote its current record."""

    @property
    def place(self) -> ObjectPlace:
        """Which object it is."""
        return ObjectPlace(self.member, self.oid)


@dataclass(frozen=True)
class Dangling:
    """An object that is referred to, not only weakly, and doesn't exist."""

    member: str
    """The member that it should be in."""
    oid: Oid
    class_names: tuple[str, ...]
    """The classes that it has, as those that refer to it say; empty: they don't."""
    referrers: tuple[Referrer, ...]
    """Who refers to it, in any member."""
    path: tuple[Step, ...]
    """The objects that lead from a root object to the first of those; empty: none do."""
    known_member: bool = True
    """Whether the collection has such a member."""

    def __str__(self) -> str:
        cls = f" ({' or '.join(self.class_names)})" if self.class_names else ""
        why = "does not exist" if self.known_member else "is in no member of the collection"
        by = ", ".join(f"{each.place} ({each.class_name})" for each in self.referrers)
        way = " > ".join(map(str, self.path)) or "nothing, from any root"
        return (
            f"{oid_repr(self.oid)} in {self.member!r}{cls} {why}; referred to by {by}; "
            f"reached by {way}"
        )


class References:
    """The references between all objects of a collection, as they are now.

    *members* are storages or databases by name. What has been read of a data file is kept beside it
    (suffix `.refs`), so that only later transactions are read the next time; without *kept*,
    nothing is written. *progress* is called with how much of how much is read, member by member.

    Raises Unsupported for a storage that can't be iterated over.
    """

    def __init__(
        self, members: Mapping[str, Any], progress: Progress | None = None, *, kept: bool = True
    ) -> None:
        self._storages = {
            name: getattr(member, "storage", member) for name, member in members.items()
        }
        self._indexes = {
            name: ReferenceIndex.of(storage, progress, kept_beside=kept)
            for name, storage in self._storages.items()
        }

    def __len__(self) -> int:
        """Return about how many references there are."""
        return sum(map(len, self._indexes.values()))

    def referrers(self, member: str, oid: Oid) -> list[ObjectPlace]:
        """Return the objects, in all members, that refer to an object, weakly too."""
        found: list[ObjectPlace] = []
        for name, index in self._indexes.items():
            database = None if name == member else member
            found += (ObjectPlace(name, each) for each in index.referrers(oid, database))
            if name == member:
                # One that names its own database.
                found += (ObjectPlace(name, each) for each in index.referrers(oid, member))
        return list(dict.fromkeys(found))

    def referred(self, member: str, oid: Oid) -> list[ObjectPlace]:
        """Return the objects that an object refers to, weakly too, in the order of its state.

        Raises POSKeyError where there is no such object.
        """
        data, _tid = self._storages[member].load(oid)
        return [
            ObjectPlace(member if database is None else database, target)
            for _kind, target, database in _native.all_references(data)
        ]

    def path(self, member: str, oid: Oid) -> tuple[Step, ...]:
        """Return the objects that lead from a root object to an object, which is the last.

        It is empty where the object can't be reached, but weakly.
        """
        start = ObjectPlace(member, oid)
        following: dict[ObjectPlace, ObjectPlace | None] = {start: None}
        waiting = deque([start])
        while waiting:
            place = waiting.popleft()
            if place.oid == ROOT_OID and self._class_of(place) is not None:
                return tuple(self._steps(place, following))
            for each in self.referrers(*place):
                if each not in following and self._strongly(each, place):
                    following[each] = place
                    waiting.append(each)
        return ()

    def _steps(
        self, place: ObjectPlace | None, following: Mapping[ObjectPlace, ObjectPlace | None]
    ) -> Iterator[Step]:
        while place is not None:
            yield Step(place.oid, self._class_of(place) or "", place.member)
            place = following[place]

    def dangling(self) -> list[Dangling]:
        """Return all objects that are referred to, not only weakly, and don't exist."""
        found: list[Dangling] = []
        targets: set[ObjectPlace] = set()
        for name, index in self._indexes.items():
            storage = self._storages[name]
            targets.update(ObjectPlace(name, each) for each in index.targets_missing_in(storage))
            for database in index.databases:
                there = self._storages.get(database, _Nothing())
                missing = index.targets_missing_in(there, database)
                targets.update(ObjectPlace(database, each) for each in missing)
        for place in sorted(targets):
            dangling = self._dangling(place)
            if dangling is not None:
                found.append(dangling)
        return found

    def _dangling(self, place: ObjectPlace) -> Dangling | None:
        referrers: list[Referrer] = []
        classes: dict[str, None] = {}
        for each in self.referrers(*place):
            found = self._record(each)
            if found is None or not self._strongly(each, place):
                continue
            data, tid = found
            referrers.append(Referrer(each.member, each.oid, _class_name(data), tid))
            classes.update(dict.fromkeys(_classes_of_target(data, each.member, place)))
        if not referrers:
            return None
        paths = (self.path(each.member, each.oid) for each in referrers)
        return Dangling(
            member=place.member,
            oid=place.oid,
            class_names=tuple(classes),
            referrers=tuple(referrers),
            path=next((path for path in paths if path), ()),
            known_member=place.member in self._storages,
        )

    # Records.

    def _record(self, place: ObjectPlace) -> tuple[bytes, Tid] | None:
        storage = self._storages.get(place.member)
        if storage is None:
            return None
        try:
            found = storage.loadBefore(place.oid, MAX_TID)
        except KeyError:
            return None
        return None if found is None else (found[0], Tid(found[1]))

    def _class_of(self, place: ObjectPlace) -> str | None:
        found = self._record(place)
        return None if found is None else _class_name(found[0])

    def _strongly(self, referrer: ObjectPlace, target: ObjectPlace) -> bool:
        found = self._record(referrer)
        if found is None:
            return False
        try:
            return any(
                kind != "weak"
                and oid == target.oid
                and (database or referrer.member) == target.member
                for kind, oid, database in _native.all_references(found[0])
            )
        except ValueError:
            return False


class _Nothing:
    """A storage without objects."""

    def loadBefore(self, oid: Oid, tid: Tid) -> None:
        """Return None."""


def _class_name(data: bytes) -> str:
    try:
        return ".".join(_native.class_name(data) or ())
    except ValueError:
        return ""


def _classes_of_target(data: bytes, member: str, target: ObjectPlace) -> Iterator[str]:
    """Give the names of the classes that a record's references to *target* name."""
    try:
        found = references(data)
    except Exception:  # noqa: BLE001 - whatever a damaged record makes of the reader
        return
    for reference in found:
        place, cls = _parts(reference, member)
        if place == target and isinstance(cls, type):
            yield f"{cls.__module__}.{cls.__name__}"


def _parts(reference: Any, member: str) -> tuple[ObjectPlace | None, Any]:
    if isinstance(reference, tuple):
        return ObjectPlace(member, oid_of(reference[0])), reference[1]
    if isinstance(reference, list) and reference[0] == "m":
        database, oid, cls = reference[1]
        return ObjectPlace(database, oid_of(oid)), cls
    return None, None
