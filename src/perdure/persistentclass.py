"""Classes that are persistent objects themselves.

A class whose metaclass is `PersistentMetaClass` is stored in the database, attributes and all, and
its instances refer to it there. It is never a ghost: it is loaded as soon as it is referred to, and
again when another transaction has changed it.
"""

from collections.abc import Callable
from typing import Any, Final, cast

_NOT_STORED: Final = "__global_persistent_class_not_stored_in_DB__"
_OF_EVERY_CLASS: Final = frozenset(("__dict__", "__weakref__"))


class _Datum:
    """An attribute that a persistent class keeps in its `_p_class_dict`."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        if _NOT_STORED in instance.__dict__:
            raise AttributeError(self.__name__)
        return instance._p_class_dict.get(self.__name__)

    def __set__(self, instance: Any, value: Any) -> None:
        instance._p_class_dict[self.__name__] = value

    def __delete__(self, instance: Any) -> None:
        raise AttributeError(self.__name__)


class _Identity(_Datum):
    """The oid or the connection: when both are set, a class that waits for its state loads it."""

    def __set__(self, instance: Any, value: Any) -> None:
        data = instance._p_class_dict
        if data.get(self.__name__) == value:
            return
        data[self.__name__] = value
        jar = data.get("_p_jar")
        identified = jar is not None and data.get("_p_oid") is not None
        if identified and data.get("_p_changed") is None:
            jar.setstate(instance)


class _Changed:
    """True: changed, False: as stored, None: the state is still to be loaded."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else instance._p_class_dict["_p_changed"]

    def __set__(self, instance: Any, value: Any) -> None:
        if value is not None:
            instance._p_class_dict["_p_changed"] = bool(value)

    def __delete__(self, instance: Any) -> None:
        instance._p_invalidate()


class _Method:
    """A method of the metaclass that attributes of the class can't hide."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__name__ = function.__name__

    def __get__(self, instance: Any, owner: Any) -> Any:
        return owner if instance is None else self._function.__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(self.__name__)

    def __delete__(self, instance: Any) -> None:
        raise AttributeError(self.__name__)


def _without_data(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not name.startswith("_p_")}


class PersistentMetaClass(type):
    """The metaclass of persistent classes."""

    _p_jar = _Identity("_p_jar")
    _p_oid = _Identity("_p_oid")
    _p_changed = _Changed()
    _p_serial = _Datum("_p_serial")

    def __new__(
        cls, name: str, bases: tuple[type, ...], cdict: dict[str, Any], _p_changed: Any = False
    ) -> "PersistentMetaClass":
        """Make the class; *_p_changed* None: its state is in the database."""
        attributes = _without_data(cdict)
        attributes["_p_class_dict"] = {"_p_changed": _p_changed}
        return super().__new__(cls, name, bases, attributes)

    def __init__(
        cls, name: str, bases: tuple[type, ...], cdict: dict[str, Any], _p_changed: Any = False
    ) -> None:
        super().__init__(name, bases, cdict)

    def _newargs(cls) -> tuple[Any, ...]:
        return cls.__name__, cls.__bases__, {}, None

    def _state(cls) -> tuple[tuple[type, ...], dict[str, Any]]:
        kept = {
            name: value
            for name, value in cls.__dict__.items()
            if not name.startswith(("_p_", "_v_")) and name not in _OF_EVERY_CLASS
        }
        return cls.__bases__, kept

    def _set_state(cls, state: tuple[tuple[type, ...], dict[str, Any]]) -> None:
        bases, attributes = state
        if cls.__bases__ != bases:
            raise AssertionError(cls.__bases__, "!=", bases)
        attributes = _without_data(attributes)
        data = cls._class_data()
        # While its data is out of sight, changing the class doesn't register it as changed.
        type.__setattr__(cls, "_p_class_dict", {})
        kept = _OF_EVERY_CLASS | attributes.keys() | {"_p_class_dict"}
        for name in [name for name in cls.__dict__ if name not in kept]:
            delattr(cls, name)
        for name, value in attributes.items():
            setattr(cls, name, value)
        type.__setattr__(cls, "_p_class_dict", data)
        data["_p_changed"] = False

    def _deactivate(cls) -> None:
        """Do nothing: a class can't be a ghost."""

    def _activate(cls) -> None:
        cls._p_jar.setstate(cls)

    def _invalidate(cls) -> None:
        cls._class_data()["_p_changed"] = None
        cls._p_jar.setstate(cls)

    __getnewargs__ = _Method(_newargs)
    __getstate__ = _Method(_state)
    __setstate__ = _Method(_set_state)
    _p_deactivate = _Method(_deactivate)
    _p_activate = _Method(_activate)
    _p_invalidate = _Method(_invalidate)

    def _class_data(cls) -> dict[str, Any]:
        return cast("dict[str, Any]", cls.__dict__["_p_class_dict"])

    def _p_maybeupdate(cls, _name: str) -> None:
        """Register the class as changed if it is stored and this is its first change."""
        data = cls.__dict__.get("_p_class_dict", {})
        jar = data.get("_p_jar")
        stored = jar is not None and data.get("_p_oid") is not None
        if stored and data.get("_p_changed") is False:
            data["_p_changed"] = True
            jar.register(cls)

    def __setattr__(cls, name: str, value: Any) -> None:
        if not name.startswith(("_p_", "_v")):
            cls._p_maybeupdate(name)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if not name.startswith(("_p_", "_v")):
            cls._p_maybeupdate(name)
        super().__delattr__(name)
