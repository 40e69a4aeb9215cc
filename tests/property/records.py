"""Records without a database: connections over a dict, and classes to fill them with."""

import dataclasses
import datetime as dt
import decimal
import enum
from collections import deque, namedtuple
from typing import Any, NamedTuple

import numpy as np
import persistent
from persistent.wref import WeakRef

from perdure.broken import find_global
from perdure.errors import POSKeyError
from perdure.ids import Oid, Tid, p64
from perdure.serialize import ConnectionBase
from perdure.serialize.standard import StandardConnectionBase

TID = Tid(b"\3\0\0\0\0\0\0\1")


class Thing(persistent.Persistent):
    """A persistent object as most are."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Keyed(persistent.Persistent):
    """Needs an argument to be made: references to it carry no class."""

    key: str

    def __new__(cls, key: str) -> Any:
        self = super().__new__(cls)
        self.__dict__["key"] = key
        return self

    def __getnewargs__(self) -> tuple[str]:
        return (self.key,)


class Plain:
    """Not persistent: part of its owner's record."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    """Attributes in slots."""

    __slots__ = ("left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right


class Careful:
    """Has a state of its own making."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getstate__(self) -> Any:
        return ("careful", self.value)

    def __setstate__(self, state: Any) -> None:
        _, self.value = state


class ListOfItsOwn(list[Any]):
    """A list with attributes."""


class DictOfItsOwn(dict[Any, Any]):
    """A dictionary with attributes."""


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"


class Permission(enum.IntFlag):
    READ = 4
    WRITE = 2


class Mood(str, enum.Enum):
    CALM = "calm"
    GLAD = "glad"


class Access(enum.Flag):
    LOOK = enum.auto()
    TOUCH = enum.auto()


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any


@dataclasses.dataclass
class Account:
    owner: Any
    entries: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Cell:
    value: Any
    note: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    value: Any
    note: Any = None


Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024 - the untyped kind is in use, too


class TypedPair(NamedTuple):
    left: Any
    right: Any


def numbered(number: int) -> Oid:
    """Return the oid of this number."""
    return Oid(p64(number))


class Records:
    """A storage view over a dict."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.issued = 0

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, Tid]:
        try:
            return self.data[oid], TID
        except KeyError:
            raise POSKeyError(Oid(oid)) from None

    def new_oid(self) -> Oid:
        self.issued += 1
        return numbered(self.issued)


class Database:
    """What a connection asks its database for."""

    database_name = "main"

    def __init__(self) -> None:
        self.databases: dict[str, Any] = {"main": self}

    def classFactory(self, connection: Any, module: str, name: str) -> Any:
        return find_global(module, name)


class _Connected:
    """What `perdure.Connection` adds, as far as records need it."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self._db: Any = Database()
        self._storage = records
        self._cache = persistent.PickleCache(self, 10_000)
        self._added: dict[Any, Any] = {}
        self.opened: float | None = 1.0
        self.changed: list[Any] = []

    def db(self) -> Database:
        database: Database = self._db
        return database

    def register(self, obj: Any) -> None:
        self.changed.append(obj)


class NativeConnection(_Connected, ConnectionBase):
    """Loads natively."""


class StandardConnection(_Connected, StandardConnectionBase):
    """Loads by the standard `pickle`."""


def same(left: Any, right: Any, known: dict[int, int] | None = None) -> bool:
    """Tell whether two values are equal, down to types, order and what is shared in them.

    Persistent objects are equal if they are of one class and oid.
    """
    known = {} if known is None else known
    if type(left) is not type(right):
        return False
    if isinstance(left, persistent.Persistent):
        return bool(left._p_oid == right._p_oid)
    if isinstance(left, WeakRef):
        return bool(left.oid == right.oid)
    if id(left) in known and not isinstance(left, (str, bytes, int, float)):
        return bool(known[id(left)] == id(right))
    known[id(left)] = id(right)
    if isinstance(left, (np.ndarray, np.generic)):
        return _same_array(np.asarray(left), np.asarray(right), known)
    return _same_parts(left, right, known)


def _same_array(left: Any, right: Any, known: dict[int, int]) -> bool:
    alike = left.dtype == right.dtype and left.shape == right.shape
    if not alike or left.flags.f_contiguous != right.flags.f_contiguous:
        return False
    if left.dtype.hasobject:
        return all(same(*both, known) for both in zip(left.flat, right.flat, strict=True))
    return bool(left.tobytes() == right.tobytes())


def _same_parts(left: Any, right: Any, known: dict[int, int]) -> bool:
    if isinstance(left, float):
        return bool(left.hex() == right.hex())
    if isinstance(left, decimal.Decimal):
        return bool(left.as_tuple() == right.as_tuple())
    if isinstance(left, (complex, dt.datetime, dt.time)):
        # Equality overlooks the sign of a zero, and which of two same times it is.
        return repr(left) == repr(right)
    if isinstance(left, (set, frozenset)):
        return bool(left == right) or len(left) == len(right)
    parts = [_parts(left), _parts(right)]
    if parts[0] is None or parts[1] is None:
        return bool(left == right)
    return len(parts[0]) == len(parts[1]) and all(
        same(one, other, known) for one, other in zip(*parts, strict=True)
    )


def _parts(value: Any) -> list[Any] | None:
    parts: list[Any] = []
    if isinstance(value, dict):
        parts += [part for item in value.items() for part in item]
    elif isinstance(value, (list, tuple, deque)):
        parts += value
    elif isinstance(value, Slotted):
        return [value.left, value.right]
    elif isinstance(value, (Cell, Fixed)):
        return [value.value, value.note]
    elif not hasattr(value, "__dict__") or isinstance(value, (type, enum.Enum)):
        return None
    if hasattr(value, "__dict__") and not isinstance(value, type):
        parts += [part for item in sorted(vars(value).items()) for part in item]
    return parts
