"""Looking at objects without their classes: nothing that a record names is imported or run."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from perdure._messages import encoded_message, encoding_of
from perdure.classname import get_pickle_metadata
from perdure.errors import POSKeyError
from perdure.ids import MAX_TID, ROOT_OID, Oid, Tid, oid_repr, p64
from perdure.serialize.pickling import load_both
from perdure.utils import before2at

__all__ = ["Inspected", "Inspector", "Made", "ObjectReference"]

_ITEMS_MAX = 100_000
"""More items of one object than that are not walked over."""


class ObjectReference(NamedTuple):
    """What stands in a state for another object."""

    oid: Oid | None
    database: str | None
    """The member that it belongs to; None: the same."""
    weak: bool = False

    def __repr__(self) -> str:
        weak = "weak " if self.weak else ""
        of = f" in {self.database!r}" if self.database else ""
        return f"<{weak}reference to {oid_repr(self.oid)}{of}>"


class Made:
    """What stands in a state for an object of a class that isn't loaded."""

    def __init__(self, class_name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.class_name = class_name
        self.arguments = arguments
        self.state: Any = None
        self.items: list[Any] = []

    def __repr__(self) -> str:
        inner = [*map(repr, self.arguments), *map(repr, self.items)]
        if self.state is not None:
            inner.append(repr(self.state))
        return f"{self.class_name}({', '.join(inner)})"

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """Take an item of a list."""
        self.items.append(value)

    def extend(self, values: Any) -> None:
        """Take items of a list."""
        self.items.extend(values)

    def __hash__(self) -> int:
        return hash(self.class_name)

    def __eq__(self, other: object) -> bool:
        return self is other


_HARMLESS = {
    ("copy_reg", "_reconstructor"): lambda cls, *_: cls(),
    ("copyreg", "_reconstructor"): lambda cls, *_: cls(),
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "frozenset"): frozenset,
    ("zodbpickle", "binary"): bytes,
}


def _stand_in(module: str, name: str) -> Any:
    known = _HARMLESS.get((module, name))
    if known is not None:
        return known
    full = f"{module}.{name}"

    def __new__(_cls: type, *arguments: Any, **_keywords: Any) -> Made:  # noqa: N807 - made into one
        return Made(full, arguments)

    return type(name, (), {"__new__": __new__, "__module__": module, "full_name": full})


def _reference(found: Any) -> ObjectReference:
    if isinstance(found, (bytes, tuple)):
        oid = found[0] if isinstance(found, tuple) else found
        return ObjectReference(Oid(oid) if isinstance(oid, bytes) else None, None)
    if isinstance(found, list) and len(found) == 1:
        return ObjectReference(found[0], None, weak=True)
    kind, arguments = found
    if kind == "w":
        database = arguments[1] if len(arguments) > 1 else None
        return ObjectReference(arguments[0], database, weak=True)
    return ObjectReference(arguments[1], arguments[0])


@dataclass(frozen=True)
class Inspected:
    """An object as its record shows it."""

    oid: Oid
    class_name: str
    tid: Tid
    """The transaction that wrote the record."""
    data_bytes: int
    state: Any
    """The state, with `ObjectReference` and `Made` in it."""
    items: list[tuple[str, Any]] = field(default_factory=list)
    """What is in it, by name: attributes, or a collection's keys as text."""
    children: list[ObjectReference] = field(default_factory=list)
    """For nodes of a BTree: the nodes below, and next, whose items belong to the tree."""


class Inspector:
    """Walks over the objects of *storage* by their paths."""

    def __init__(self, storage: Any, before: Tid | None = None) -> None:
        self._storage = storage
        self._before = before or MAX_TID

    def get(self, oid: Oid) -> Inspected:
        """Return the object at *oid*; POSKeyError is raised where there is none.

        ValueError is raised for a record that can't be read.
        """
        found = self._storage.loadBefore(oid, self._before)
        if found is None:
            raise POSKeyError(oid, tid=before2at(self._before))
        data, tid = found[0], found[1]
        class_name = ".".join(get_pickle_metadata(data))
        try:
            state = load_both(data, _stand_in, _reference)[1]
            items, children = _items_of(class_name, state)
        except Exception as error:
            encoding = encoding_of(data)
            problem = error if encoding is None else encoded_message(encoding)
            raise ValueError(f"the record of {oid_repr(oid)} can't be read: {problem}") from error
        return Inspected(oid, class_name, tid, len(data), state, items, children)

    def items(self, obj: Any) -> Iterator[tuple[str, Any]]:
        """Return what is in an object, by name; of a BTree, what is in all its nodes.

        *obj* may be a plain value in an object, too: a list has its positions for names, a dict its
        keys. Other values have nothing in them.
        """
        if not isinstance(obj, Inspected):
            yield from _inside(obj)
            return
        yield from obj.items
        node, count = obj, 0
        while node.children and count < _ITEMS_MAX:
            # The first child leads to the first bucket, and that to the next ones.
            child = node.children[0]
            if child.oid is None or child.database:
                return
            node = self.get(child.oid)
            yield from node.items
            count += max(1, len(node.items))

    def at(self, path: str) -> Any:
        """Return what is at a path of names from the root: `Inspected`, or a plain value.

        The names are separated by `/`; `#0x2a` at the beginning is the object of that oid.
        KeyError names what isn't there, or is no oid, or belongs to another member.
        """
        names = [name for name in path.split("/") if name]
        if names and names[0].startswith("#"):
            value: Any = self.get(_oid_in(names.pop(0)))
        else:
            value = self.get(ROOT_OID)
        for number, name in enumerate(names):
            value = self._step(value, name, "/".join(names[:number]))
            if isinstance(value, ObjectReference):
                where = "/".join(names[: number + 1])
                raise KeyError(f"/{where} is a {value!r}, which isn't among what is looked at here")
        return value

    def _step(self, value: Any, name: str, where: str) -> Any:
        for key, found in self.items(value):
            if key == name:
                return self.resolved(found)
        raise KeyError(f"nothing is called {name!r} in /{where}")

    def resolved(self, value: Any) -> Any:
        """Return the object that a reference leads to; any other value as it is."""
        if isinstance(value, ObjectReference) and value.oid is not None and not value.database:
            return self.get(value.oid)
        return value


def _oid_in(name: str) -> Oid:
    try:
        return Oid(p64(int(name[1:], 16)))
    except (ValueError, struct.error):
        raise KeyError(f"{name!r} is no oid such as '#0x2a'") from None


def _inside(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(str(key), each) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(number), each) for number, each in enumerate(value)]
    if isinstance(value, Made):
        return _inside(value.state) + [
            (str(number), each) for number, each in enumerate(value.items)
        ]
    return []


def _items_of(class_name: str, state: Any) -> tuple[list[tuple[str, Any]], list[ObjectReference]]:
    module, _, name = class_name.rpartition(".")
    if module.startswith("BTrees.") and name != "Length":
        return _items_of_btree(name, state)
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
        # Attributes, and those in slots.
        return _inside(state[0]) + _inside(state[1]), []
    if isinstance(state, dict) and isinstance(state.get("data"), (dict, list)):
        others = [item for item in _inside(state) if item[0] != "data"]
        return _inside(state["data"]) + others, []
    return _inside(state) if isinstance(state, dict) else [("value", state)], []


def _items_of_btree(name: str, state: Any) -> tuple[list[tuple[str, Any]], list[ObjectReference]]:
    if not isinstance(state, tuple) or not state:
        return [], []
    is_set = name.endswith("Set")
    if name.endswith(("BTree", "TreeSet")):
        if len(state) == 1:
            # A small tree has its only bucket in itself.
            return _items_of_bucket(state[0][0], is_set=is_set), []
        return [], _references_in(state[1:2])
    return _items_of_bucket(state, is_set=is_set), _references_in(state[1:2])


def _references_in(values: tuple[Any, ...]) -> list[ObjectReference]:
    return [each for each in values if isinstance(each, ObjectReference)]


def _items_of_bucket(state: Any, *, is_set: bool) -> list[tuple[str, Any]]:
    values = state[0]
    if is_set:
        return [(str(each), each) for each in values]
    return [(str(key), value) for key, value in zip(values[::2], values[1::2], strict=True)]
