"""Conflict resolution: merging two changes of one object.

When a storage finds that an object was changed by another transaction, it asks
the object's class: `_p_resolveConflict(old, committed, new)` is given the three
states and returns the merged one, or raises.  No object of the database is
loaded for it: references in the states are `PersistentReference` stand-ins.

Storages get this by deriving from `ConflictResolvingStorage`.
"""

import logging
from pickle import PicklingError
from typing import Any, Final

import zope.interface

from perdure.broken import _MISSING, _candidates, _imported
from perdure.errors import ConflictError
from perdure.ids import Oid, Tid, oid_repr
from perdure.serialize.pickling import dump_both, load_both, load_first

__all__ = [
    "BadClass",
    "BadClassName",
    "ConflictResolvingStorage",
    "IPersistentReference",
    "PersistentReference",
    "PersistentReferenceFactory",
    "tryToResolveConflict",
]

logger = logging.getLogger("perdure.conflict")


class BadClassName(Exception):  # noqa: N818 - ZODB's name, or a state and no mistake
    """A state that can't be merged has an object of a class that can't be imported."""


class BadClass:
    """Stands for a class that can't be imported; a state that holds it can't be stored."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        raise BadClassName(*self.args)


_class_cache: dict[tuple[str, ...], Any] = {}
"""Classes found by their names; cleared by programs that reload classes."""

_unresolvable: dict[type, bool] = {}
"""Classes known to have no `_p_resolveConflict`."""


def find_global(module: str, name: str) -> Any:
    """Return the class that records call by these names, or a `BadClass`."""
    key = module, name
    found = _class_cache.get(key)
    if found is None:
        found = next(
            (
                value
                for place in _candidates(module, name)
                if (value := _imported(*place)) is not _MISSING
            ),
            BadClass(module, name),
        )
        _class_cache[key] = found
    return found


class IPersistentReference(zope.interface.Interface):
    """What stands for a reference to another object in the states to be merged."""

    __module__ = "ZODB.ConflictResolution"

    oid = zope.interface.Attribute("The object's oid.")
    database_name = zope.interface.Attribute("Its database, if it is another one; else None.")
    klass = zope.interface.Attribute("Its class, where the reference tells.")
    weak = zope.interface.Attribute("Whether the reference is a weak one.")


@zope.interface.implementer(IPersistentReference)
class PersistentReference:
    """Stands for a reference to another object in the states to be merged.

    Two are equal if they refer to the same object.  There is no telling how two
    objects compare without loading them, so comparing references to different
    ones raises ValueError, and so does comparing weak references.
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

    def _compare(self, other: object) -> int:
        if self is other:
            return 0
        if (
            isinstance(other, PersistentReference)
            and not (self.weak or other.weak)
            and (self.oid, self.database_name) == (other.oid, other.database_name)
        ):
            return 0
        raise ValueError("can't reliably compare against different PersistentReferences")

    def __eq__(self, other: object) -> bool:
        return self._compare(other) == 0

    def __ne__(self, other: object) -> bool:
        return self._compare(other) != 0

    def __lt__(self, other: object) -> bool:
        return self._compare(other) < 0

    def __le__(self, other: object) -> bool:
        return self._compare(other) <= 0

    def __gt__(self, other: object) -> bool:
        return self._compare(other) > 0

    def __ge__(self, other: object) -> bool:
        return self._compare(other) >= 0

    __hash__ = None  # type: ignore[assignment]

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


def _persistent_id(value: Any) -> Any:
    return value.data if type(value) is PersistentReference else None


class _NoResolver(Exception):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The object's class doesn't resolve conflicts."""


_NO_DATA: Final = b""


def tryToResolveConflict(
    self: Any,
    oid: Oid,
    committedSerial: Tid,
    oldSerial: Tid,
    newpickle: bytes,
    committedData: bytes = _NO_DATA,
) -> bytes:
    """Return a record that merges the committed change of an object with the new one.

    *self* is the storage; the new record was made from the revision *oldSerial*,
    while *committedSerial* is the newest.  Raises ConflictError if they can't be
    merged; its cause is what the class's `_p_resolveConflict` raised, if it did.
    """
    plain = self._crs_untransform_record_data(newpickle)
    cause: BaseException | None = None
    try:
        return _resolved(self, oid, (committedSerial, oldSerial), plain, committedData)
    except _NoResolver:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is becomes the cause
        logger.debug("conflict of %s can't be resolved: %r", oid_repr(oid), error)
        cause = error
    raise ConflictError(oid=oid, serials=(committedSerial, oldSerial), data=plain) from cause


def _resolved(
    storage: Any, oid: Oid, serials: tuple[Tid, Tid], new_data: bytes, committed_data: bytes
) -> bytes:
    committed_serial, old_serial = serials
    load = PersistentReferenceFactory().persistent_load
    described = load_first(new_data, find_global, load)
    resolve = _resolver(described)
    plain = storage._crs_untransform_record_data
    old_data = plain(storage.loadSerial(oid, old_serial))
    committed_data = plain(committed_data or storage.loadSerial(oid, committed_serial))
    _, new = load_both(new_data, find_global, load)
    _, old = load_both(old_data, find_global, load)
    _, committed = load_both(committed_data, find_global, load)
    merged = resolve(old, committed, new)
    record: bytes = storage._crs_transform_record_data(dump_both(described, merged, _persistent_id))
    return record


def _resolver(described: Any) -> Any:
    """Return the method that merges states of the described class."""
    cls, arguments = described if isinstance(described, tuple) else (described, ())
    if isinstance(cls, tuple):
        cls = find_global(*cls)
    if isinstance(cls, BadClass):
        raise BadClassName(*cls.args)
    if cls in _unresolvable:
        raise _NoResolver
    instance = cls.__new__(cls, *(arguments or ()))
    resolve = getattr(instance, "_p_resolveConflict", None)
    if resolve is None:
        _unresolvable[cls] = True
        raise _NoResolver
    return resolve


class ConflictResolvingStorage:
    """Makes a storage resolve conflicts: derive from it.

    The storage calls `tryToResolveConflict` when an object isn't current any
    more, and stores the record that it returns.
    """

    tryToResolveConflict = tryToResolveConflict

    def _crs_transform_record_data(self, data: bytes) -> bytes:
        return data

    def _crs_untransform_record_data(self, data: bytes) -> bytes:
        return data

    def registerDB(self, wrapper: Any) -> None:
        """Accept the layer above; its transformations of records apply here."""
        self._crs_untransform_record_data = (  # type: ignore[method-assign]
            wrapper.untransform_record_data
        )
        self._crs_transform_record_data = (  # type: ignore[method-assign]
            wrapper.transform_record_data
        )
        further = getattr(super(), "registerDB", None)
        if further is not None:
            further(wrapper)
