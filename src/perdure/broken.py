"""Placeholders for objects whose class can't be imported.

A record whose class is gone is read as an instance of a class made up under the missing name, so
that the objects around it stay usable. The placeholder keeps what the record says: it can be stored
again unchanged and comes back to life when the class does. Assigning to its attributes raises
`BrokenModified`.
"""

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any, ClassVar, Final, cast

import persistent
from zope.interface import implementer

from perdure._names import process_name
from perdure.interfaces import IBroken

_MISSING: Final = object()

broken_cache: dict[tuple[str, str], type["Broken"]] = {}
"""The classes made up so far, by module and name."""


class BrokenModified(TypeError):  # noqa: N818 - the field's name
    """A broken object can't be changed: restore its class, or replace the object."""


@implementer(IBroken)
class Broken:
    """Base of the classes that stand in for missing ones."""

    __Broken_newargs__: tuple[Any, ...]
    __Broken_initargs__: tuple[Any, ...] | None = None
    __Broken_state__: Any = None
    __name__: ClassVar[str] = "broken object"

    def __new__(cls, *args: Any) -> Any:
        """Make a placeholder that remembers the arguments for `__new__`."""
        self = object.__new__(cls)
        self.__dict__["__Broken_newargs__"] = args
        return self

    def __init__(self, *args: Any) -> None:
        self.__dict__["__Broken_initargs__"] = args

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to the missing name and the state: `rebuild` tries the name again."""
        cls = type(self)
        arguments = (cls.__module__, cls.__name__, *self.__Broken_newargs__)
        return rebuild, arguments, self.__Broken_state__

    def __setstate__(self, state: Any) -> None:
        self.__dict__["__Broken_state__"] = state

    def __setattr__(self, name: str, value: Any) -> None:
        cls = type(self)
        raise BrokenModified(
            f"Can't change broken objects: {cls.__module__}.{cls.__name__} can't be imported "
            f"(attribute {name!r})"
        )

    def __repr__(self) -> str:
        return f"<broken {type(self).__module__}.{type(self).__name__} instance>"


class PersistentBroken(Broken, persistent.Persistent):
    """Base of the placeholders for missing persistent classes."""

    def __new__(cls, *args: Any) -> Any:
        """Make a placeholder that remembers the arguments for `__new__`."""
        self = persistent.Persistent.__new__(cls)
        self.__dict__["__Broken_newargs__"] = args
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise BrokenModified(self)

    def __getstate__(self) -> Any:
        return self.__Broken_state__

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.__Broken_newargs__

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_p_"):
            persistent.Persistent.__setattr__(self, name, value)
        else:
            Broken.__setattr__(self, name, value)

    def __repr__(self) -> str:
        cls = type(self)
        return f"<persistent broken {cls.__module__}.{cls.__name__} instance {self._p_oid!r}>"


def find_global(
    modulename: str,
    globalname: str,
    Broken: type = Broken,
    type: Any = type,  # noqa: A002 - the field's name
) -> Any:
    """Return the global of that name, or a placeholder class where there is none.

    Names from records written under Python 2 or by stock ZODB are mapped to today's. *globalname*
    may be dotted (a class inside a class). *Broken* and *type* let a caller choose the base and
    the maker of the placeholder class.
    """
    for module, name in _candidates(modulename, globalname):
        found = _imported(module, name)
        if found is not _MISSING:
            return found
    return placeholder(modulename, globalname, Broken, type)


def placeholder(
    modulename: str,
    globalname: str,
    Broken: type = Broken,
    type: Any = type,  # noqa: A002 - as for `find_global`
) -> Any:
    """Return the class that stands in for a missing one, always the same for the same name."""
    key = modulename, globalname
    if key not in broken_cache:
        broken_cache[key] = type(globalname, (Broken,), {"__module__": modulename})
    return broken_cache[key]


def _candidates(module: str, name: str) -> list[tuple[str, str]]:
    """Where to look for a name found in a record, best first."""
    mapped_module, mapped_name = NAME_MAPPING.get((module, name), (module, name))
    mapped = IMPORT_MAPPING.get(mapped_module, mapped_module), mapped_name
    own = process_name(*mapped)
    return [own] if own == mapped else [own, mapped]


def _imported(module: str, name: str) -> Any:
    """Return the global, imported if need be, or _MISSING."""
    value: Any = sys.modules.get(module)
    if value is None:
        try:
            __import__(module)
        except ImportError:
            return _MISSING
        value = sys.modules[module]
    for part in name.split("."):
        value = getattr(value, part, _MISSING)
    return value


def rebuild(modulename: str, globalname: str, *args: Any) -> Any:
    """Make the object that a `Broken` was pickled for, broken again if its class is still gone."""
    cls = find_global(modulename, globalname)
    return cls.__new__(cls, *args)


def persistentBroken(class_: type) -> type:
    """Return the persistent placeholder class of the placeholder *class_*, always the same one."""
    found = class_.__dict__.get("__Broken_Persistent__")
    if found is None:
        found = type(class_.__name__, (PersistentBroken, class_), {"__module__": class_.__module__})
        class_.__Broken_Persistent__ = found  # type: ignore[attr-defined]
    return cast("type", found)
