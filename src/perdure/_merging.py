"""Merging the states of an object: what `perdure.conflict` does when there is a conflict."""

import logging
from typing import Any

from perdure.broken import _MISSING, _candidates, _imported
from perdure.errors import ConflictError
from perdure.ids import Oid, Tid, oid_repr
from perdure.persistentreference import (
    BadClass,
    BadClassName,
    PersistentReference,
    PersistentReferenceFactory,
)
from perdure.serialize.classes import AllowedClasses
from perdure.serialize.pickling import FindClass, dump_both, load_both, load_first

__all__ = ["find_global", "merged"]

logger = logging.getLogger("perdure.conflict")


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


def _persistent_id(value: Any) -> Any:
    return value.data if type(value) is PersistentReference else None


class _NoResolver(Exception):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The object's class doesn't resolve conflicts."""


def merged(
    storage: Any, oid: Oid, serials: tuple[Tid, Tid], new_data: bytes, committed_data: bytes
) -> bytes:
    """Do what `perdure.conflict.tryToResolveConflict` says; *serials*: committed, and seen."""
    plain = storage._crs_untransform_record_data(new_data)
    cause: BaseException | None = None
    try:
        return _resolved(storage, oid, serials, plain, committed_data)
    except _NoResolver:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is becomes the cause
        logger.debug("conflict of %s can't be resolved: %r", oid_repr(oid), error)
        cause = error
    raise ConflictError(oid=oid, serials=serials, data=plain) from cause


def _resolved(
    storage: Any, oid: Oid, serials: tuple[Tid, Tid], new_data: bytes, committed_data: bytes
) -> bytes:
    committed_serial, old_serial = serials
    load = PersistentReferenceFactory().persistent_load
    allowed: AllowedClasses | None = getattr(storage, "_allowed_classes", None)
    find = find_global if allowed is None else allowed.find
    described = load_first(new_data, find, load)
    resolve = _resolver(described, find)
    plain = storage._crs_untransform_record_data
    old_data = plain(storage.loadSerial(oid, old_serial))
    committed_data = plain(committed_data or storage.loadSerial(oid, committed_serial))
    if allowed is not None:
        for data in (new_data, old_data, committed_data):
            allowed.require_names(data)
    _, new = load_both(new_data, find, load)
    _, old = load_both(old_data, find, load)
    _, committed = load_both(committed_data, find, load)
    cls = type(resolve.__self__)
    if any(_has_reference_as_key(cls, state) for state in (old, committed, new)):
        raise ValueError("the keys are persistent objects, whose order isn't known here")
    state = resolve(old, committed, new)
    record: bytes = storage._crs_transform_record_data(dump_both(described, state, _persistent_id))
    return record


def _resolver(described: Any, find: FindClass) -> Any:
    """Return the method that merges states of the described class."""
    cls, arguments = described if isinstance(described, tuple) else (described, ())
    if isinstance(cls, tuple):
        cls = find(*cls)
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


def _has_reference_as_key(cls: type, state: Any) -> bool:
    """Tell whether a BTree (or a part of one) is sorted by stand-ins for objects.

    The order that it was built with is that of the objects themselves, so merging
    would destroy it.
    """
    name = cls.__name__
    if not cls.__module__.startswith("BTrees.") or not name.startswith("O") or not state:
        return False
    return any(isinstance(key, PersistentReference) for key in _keys(name, state))


def _keys(name: str, state: Any) -> Any:
    items = state[0]
    if "Bucket" in name:
        return items[::2]
    if "BTree" not in name and "TreeSet" not in name:
        return items
    if len(items) == 1:
        # A tree that is still one bucket has its state in its own.
        return _keys("OOBucket" if "BTree" in name else "OOSet", items[0])
    return items[1::2]
