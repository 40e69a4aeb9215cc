"""What stands for references in the states that conflict resolution merges."""

import functools
from pickle import PicklingError
from typing import Any

import zope.interface

from perdure.ids import Oid

__all__ = [
    "BadClass",
    "BadClassName",
    "IPersistentReference",
    "PersistentReference",
    "PersistentReferenceFactory",
]


class BadClassName(Exception):  # noqa: N818 - ZODB's name, or a state and no mistake
    """A state that can't be merged has an object of a class that can't be imported."""


class BadClass:
    """Stands for a class that can't be imported; a state that holds it can't be stored."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        raise BadClassName(*self.args)


class IPersistentReference(zope.interface.Interface):
    """What stands for a reference to another object in the states to be merged."""

    __module__ = "ZODB.ConflictResolution"

    oid = zope.interface.Attribute("The object's oid.")
    database_name = zope.interface.Attribute("Its database, if it is another one; else None.")
    klass = zope.interface.Attribute("Its class, where the reference tells.")
    weak = zope.interface.Attribute("Whether the reference is a weak one.")


@functools.total_ordering
@zope.interface.implementer(IPersistentReference)
class PersistentReference:
    """Stands for a reference to another object in the states to be merged.

    Two are equal if they refer to the same object in the same way (a weak
    reference never equals an ordinary one).  How the objects themselves compare
    can't be told without loading them: stand-ins are ordered by oid, which serves
    to tell them apart, and for nothing else.
    """

    def __init__(self, data: Any) -> None:
        """Make a stand-in for the persistent id *data*, as it is in the record."""
        self.data = data
        self.weak = False
        self.database_name: str | None = None
        self.klass: Any = None
        oid: Any = None
        if isinstance(data, tuple):
            oid, self.klass = data
            self.data = oid, _nameable(self.klass)
        elif isinstance(data, (bytes, str)):
            oid = data
        elif len(data) == 1:
            self.weak = True
            oid = data[0]
        else:
            oid = self._read_list(*data)
        self.oid = Oid(oid.encode("ascii") if isinstance(oid, str) else oid)

    def _read_list(self, kind: str, arguments: tuple[Any, ...]) -> Any:
        if kind == "w":
            self.weak = True
            self.database_name = arguments[1] if len(arguments) > 1 else None
            return arguments[0]
        if kind == "m":
            self.database_name, oid, self.klass = arguments
            self.data = ["m", (self.database_name, oid, _nameable(self.klass))]
            return oid
        if kind == "n":
            self.database_name, oid = arguments
            return oid
        raise ValueError(f"a reference of unknown kind: {kind!r}")

    @property
    def _identity(self) -> tuple[str, Oid, bool]:
        return self.database_name or "", self.oid, self.weak

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PersistentReference) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, PersistentReference):
            return NotImplemented
        return self._identity < other._identity

    def __repr__(self) -> str:
        return f"PR({id(self)} {self.data})"

    def __getstate__(self) -> Any:
        raise PicklingError("Can't pickle PersistentReference")


def _nameable(cls: Any) -> Any:
    """Return what a reference can be stored with: a missing class by its names."""
    return cls.args if isinstance(cls, BadClass) else cls


class PersistentReferenceFactory:
    """Makes one stand-in for each persistent id, however often it is met."""

    def __init__(self) -> None:
        self.data: dict[tuple[Any, ...], PersistentReference] = {}

    def persistent_load(self, ref: Any) -> PersistentReference:
        """Return the stand-in for the persistent id *ref*."""
        key = (type(ref), *_hashable(ref))
        found = self.data.get(key)
        if found is None:
            found = self.data[key] = PersistentReference(ref)
        return found


def _hashable(ref: Any) -> tuple[Any, ...]:
    return (ref,) if isinstance(ref, (bytes, str)) else tuple(ref)
