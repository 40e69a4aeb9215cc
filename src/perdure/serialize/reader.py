"""From records to objects, by the standard `pickle`."""

import contextlib
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, cast

from persistent.wref import WeakRef
from transaction.interfaces import TransientError

from perdure.broken import Broken, PersistentBroken, persistentBroken
from perdure.classname import get_pickle_metadata
from perdure.errors import ForbiddenClassError, POSError, StateLoadError
from perdure.ids import Oid
from perdure.serialize.pickling import load_both, load_first
from perdure.serialize.references import oid_of

if TYPE_CHECKING:
    from perdure.serialize.classes import AllowedClasses


class ClassFactory(Protocol):
    """What a database's `class_factory` is: from names in records to classes."""

    def __call__(self, connection: Any, modulename: str, globalname: str, /) -> Any:
        """Return the global of that name."""


class ReadingConnection(Protocol):
    """What the reader asks of a connection."""

    def get(self, oid: Oid) -> Any:
        """Return the object at *oid*, from the cache or as a new ghost."""

    def get_connection(self, database_name: str) -> Any:
        """Return the connection to another member of the collection."""

    def _foreign(self, database_name: str, oid: Oid, cls: Any) -> Any:
        """Return an object of another member; *cls* is None where the reference has none."""


class ObjectReader:
    """Makes objects and their states from records.

    *conn* is the connection that the objects belong to, *cache* its object cache, *factory* the
    database's class factory, *allowed* its class policy. A reader without connection can still tell a record's class.
    """

    def __init__(
        self,
        conn: ReadingConnection | None = None,
        cache: Any = None,
        factory: ClassFactory | None = None,
        allowed: "AllowedClasses | None" = None,
    ) -> None:
        self._conn = conn
        self._cache = cache
        self._factory = factory
        self._allowed = allowed

    def getClassName(self, pickle: bytes) -> str:
        """Return the full name of the class that a record describes."""
        cls, _ = self._description(pickle)
        return f"{cls.__module__}.{cls.__name__}"

    def getGhost(self, pickle: bytes) -> Any:
        """Return a new object, without state, of the class that a record describes.

        Raises StateLoadError (its cause tells more) when what it describes can't be made.
        """
        cls, arguments = self._description(pickle)
        try:
            cls = _persistent_if_broken(cls)
            return cls.__new__(cls, *arguments)
        except (POSError, TransientError):
            raise
        except Exception as error:
            raise unloadable(error, None, pickle) from error

    def getState(self, pickle: bytes) -> Any:
        """Return the state in a record.

        Raises StateLoadError (its cause tells more) when the record can't be read.
        """
        try:
            self._require_names(pickle)
            _, state = load_both(pickle, self._get_class, self._persistent_load)
        except (POSError, TransientError):
            raise
        except Exception as error:
            raise unloadable(error, None, pickle) from error
        return state

    def setGhostState(self, obj: Any, pickle: bytes) -> None:
        """Give *obj* the state in a record; raises StateLoadError as `getState` does."""
        try:
            state = self.getState(pickle)
        except ForbiddenClassError as error:
            raise unloadable(error, obj, pickle) from error.__cause__
        try:
            obj.__setstate__(state)
        except (POSError, TransientError):
            raise
        except Exception as error:
            raise unloadable(error, obj, pickle) from error

    def load_persistent(self, oid: bytes | str, klass: Any) -> Any:
        """Return the object at *oid*, as a new ghost of *klass* if it isn't in the cache."""
        oid = oid_of(oid)
        found = self._cache.get(oid)
        if found is not None:
            return found
        if isinstance(klass, tuple):
            klass = self._get_class(*klass)
        klass = _persistent_if_broken(klass)
        try:
            ghost = klass.__new__(klass)
        except TypeError:
            # Its class has come to need arguments: they are in the object's own record.
            return self._connection().get(oid)
        self._cache.new_ghost(oid, ghost)
        return ghost

    def load_oid(self, oid: bytes | str) -> Any:
        """Return the object at *oid*, whose class its own record tells."""
        oid = oid_of(oid)
        found = self._cache.get(oid)
        return self._connection().get(oid) if found is None else found

    def load_persistent_weakref(
        self, oid: bytes | str, database_name: str | None = None
    ) -> WeakRef:
        """Return a weak reference to an object of this or another member."""
        reference = WeakRef.__new__(WeakRef)
        reference.oid = oid_of(oid)
        if database_name is None:
            reference.dm = self._conn
            return reference
        reference.database_name = database_name
        # To a member that isn't there: as if the target were gone.
        with contextlib.suppress(KeyError):
            reference.dm = self._connection().get_connection(database_name)
        return reference

    def _persistent_load(self, reference: Any) -> Any:
        if isinstance(reference, tuple):
            return self.load_persistent(*reference)
        if isinstance(reference, (bytes, str)):
            return self.load_oid(reference)
        if len(reference) == 1:
            return self.load_persistent_weakref(*reference)
        kind, arguments = reference
        if kind == "w":
            return self.load_persistent_weakref(*arguments)
        if kind == "n":
            database_name, oid = arguments
            return self._connection()._foreign(database_name, oid_of(oid), None)
        if kind == "m":
            database_name, oid, cls = arguments
            return self._connection()._foreign(database_name, oid_of(oid), cls)
        raise ValueError(f"a reference of unknown kind: {reference!r}")

    def _connection(self) -> ReadingConnection:
        return cast("ReadingConnection", self._conn)

    def _require_names(self, data: bytes) -> None:
        if self._allowed is not None:
            self._allowed.require_names(data)

    def _get_class(self, module: str, name: str) -> Any:
        if self._factory is None:
            raise TypeError("this reader has no class factory")
        return self._factory(self._conn, module, name)

    def _description(self, data: bytes) -> tuple[Any, tuple[Any, ...]]:
        """Return a record's class and the arguments of its `__new__`; or raise StateLoadError."""
        try:
            self._require_names(data)
            described = load_first(data, self._get_class, self._persistent_load)
            arguments: Any = ()
            if isinstance(described, tuple):
                described, arguments = described
                if isinstance(described, tuple):
                    described = self._get_class(*described)
            return described, _arguments(arguments)
        except (POSError, TransientError):
            raise
        except Exception as error:
            raise unloadable(error, None, data) from error


def _arguments(found: Any) -> tuple[Any, ...]:
    # Not even their truth is asked of other objects: they may be ghosts, which would be loaded.
    if not isinstance(found, (tuple, list, NoneType)):
        raise TypeError(f"{type(found).__name__} in place of a class's arguments")
    return tuple(found or ())


def _persistent_if_broken(cls: Any) -> Any:
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no class")
    if issubclass(cls, Broken) and not issubclass(cls, PersistentBroken):
        return persistentBroken(cls)
    return cls


def unloadable(error: Exception, obj: Any, data: bytes) -> Exception:
    """Return the error to raise for *error*, which came of loading *obj* (None: not known)."""
    if isinstance(error, ForbiddenClassError) and error.oid is None and obj is not None:
        error.oid = obj._p_oid
    if isinstance(error, (POSError, TransientError)):
        return error
    if obj is None:
        made = StateLoadError(str(error), class_name=_name_in(data))
    else:
        name = f"{type(obj).__module__}.{type(obj).__qualname__}"
        made = StateLoadError(str(error), oid=obj._p_oid, class_name=name)
    made.__cause__ = error
    return made


def _name_in(data: bytes) -> str | None:
    """The class that a record names, for messages; None where it can't be told."""
    return ".".join(get_pickle_metadata(data)).strip(".") or None
