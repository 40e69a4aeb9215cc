"""Finding what in an object's state can't be pickled."""

import io
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, Final

from persistent import Persistent
from persistent.wref import WeakRef

from perdure.errors import UnpicklableError
from perdure.serialize.pickling import PROTOCOL

_DEPTH_MAX: Final = 50
"""How deep the search for the culprit goes."""

_PERSISTENT: tuple[Any, ...] = (Persistent, WeakRef)

WHAT_PICKLE_RAISES: Final = (TypeError, AttributeError, pickle.PicklingError, RecursionError)


Part = tuple[str, Any]
"""How one would write the way to a part in Python, as `.name` or `['key']`, and the part."""


class _TrialPickler(pickle.Pickler):
    """Tries whether values can be pickled; of persistent objects, only whether their class can."""

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _PERSISTENT):
            # What is returned is pickled in turn: by its name, as a reference's class is.
            return "persistent", type(obj)
        if isinstance(obj, type) and isinstance(getattr(obj, "_p_oid", 0), (bytes, type(None))):
            return "persistent"
        return None


def explanation(error: Exception, obj: Any, state: Any) -> Exception:
    """Return the error to raise for *error*, which came of pickling the *state* of *obj*.

    That is an UnpicklableError that leads to the culprit; or *error* itself where pickling isn't
    what failed.
    """
    found = None
    if not isinstance(error, UnpicklableError):
        found = _culprit(state, parts_of(obj, state), 0)
    if found is None and not _can_pickle(type(obj)):
        found = "", obj
    if found is None:
        return error
    path, value = found
    cls = type(obj)
    made = UnpicklableError(
        str(error),
        oid=obj._p_oid,
        class_name=f"{cls.__module__}.{cls.__qualname__}",
        path=path,
        value_class=f"{type(value).__module__}.{type(value).__qualname__}",
    )
    made.__cause__ = error
    return made


def _culprit(value: Any, inside: Iterator[Part], depth: int) -> tuple[str, Any] | None:
    """Return path and value of the innermost part that can't be pickled; None: all can."""
    if _can_pickle(value):
        return None
    if depth < _DEPTH_MAX:
        for step, part in inside:
            found = _culprit(part, parts(part), depth + 1)
            if found is not None:
                path, culprit = found
                return step + path, culprit
    return "", value


def _can_pickle(value: Any) -> bool:
    try:
        _TrialPickler(io.BytesIO(), PROTOCOL).dump(value)
    except WHAT_PICKLE_RAISES:
        return False
    return True


def parts_of(obj: Any, state: Any) -> Iterator[Part]:
    """What the *state* of *obj* holds, with the path step to each."""
    flat = _keys_and_values(obj, state)
    if flat is None:
        yield from parts(state, top=True)
    elif hasattr(obj, "items"):
        keys = flat[::2]
        yield from ((f"[{key!r}]", value) for key, value in zip(keys, flat[1::2], strict=True))
        yield from (("<key>", key) for key in keys)
    else:
        yield from (("<member>", key) for key in flat)


def _keys_and_values(obj: Any, state: Any) -> tuple[Any, ...] | None:
    """Return what a BTree's bucket has, one after the other; None for any other state."""
    if not any(cls.__module__.startswith("BTrees.") for cls in type(obj).__mro__):
        return None
    if hasattr(obj, "_bucket_type"):
        # A tree of one bucket has its state in its own; that of several only refers to them.
        match state:
            case (((tuple(flat), *_),),):
                return flat
        return None
    match state:
        case (tuple(flat), *_):
            return flat
    return None


def parts(value: Any, *, top: bool = False) -> Iterator[Part]:
    """What *value* holds, with the path step to each; *top*: it is an object's state."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield (f".{key}" if top and isinstance(key, str) else f"[{key!r}]"), item
        yield from (("<key>", key) for key in value)
    elif top and isinstance(value, tuple) and len(value) == 2:
        # The state of an object with slots: attributes, and slots.
        for part in value:
            yield from parts(part, top=isinstance(part, Mapping))
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("<member>", item) for item in value)
    elif not isinstance(value, type):
        attributes = getattr(value, "__dict__", {})
        yield from ((f".{name}", item) for name, item in attributes.items())
