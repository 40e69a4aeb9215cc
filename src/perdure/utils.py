"""Small helpers under the names that code written for ZODB imports.

Ids are packed with `p64` and read with `u64`; `oid_repr` and
`readable_tid_repr` are how messages show them.
"""

import functools
import os
from collections.abc import Callable
from threading import Condition, Lock, RLock
from typing import IO, Any, Protocol

from perdure import errors
from perdure.classname import get_pickle_metadata
from perdure.ids import (
    MAX_TID,
    NO_TID,
    Oid,
    Tid,
    oid_repr,
    p64,
    readable_tid_repr,
    repr_to_oid,
    tid_repr,
    u64,
)
from perdure.timestamp import tid_after

__all__ = [
    "U64",
    "Condition",
    "Lock",
    "RLock",
    "as_bytes",
    "as_text",
    "at2before",
    "before2at",
    "byte_chr",
    "byte_ord",
    "check_precondition",
    "cp",
    "get_pickle_metadata",
    "load_current",
    "locked",
    "maxtid",
    "mktemp",
    "newTid",
    "oid_repr",
    "p64",
    "readable_tid_repr",
    "repr_to_oid",
    "serial_repr",
    "tid_repr",
    "u64",
    "z64",
]

z64 = NO_TID
maxtid = MAX_TID
U64 = u64
serial_repr = tid_repr


def at2before(at: Tid) -> Tid:
    """Return the tid that bounds the state *at* from above."""
    return Tid(p64(u64(at) + 1))


def before2at(before: Tid) -> Tid:
    """Return the last tid that is *before* the given one."""
    return Tid(p64(u64(before) - 1))


def newTid(old: Tid | None) -> Tid:
    """Return a tid for now, later than *old*."""
    return tid_after(old)


class _LoadsBefore(Protocol):
    def loadBefore(self, oid: Oid, tid: Tid, /) -> tuple[bytes, Tid, Tid | None] | None: ...


def load_current(storage: _LoadsBefore, oid: Oid, version: str = "") -> tuple[bytes, Tid]:
    """Return the newest record of *oid* and its serial, or raise POSKeyError."""
    if version:
        raise errors.VersionError(f"versions don't exist any more: {version!r}")
    found = storage.loadBefore(oid, maxtid)
    if found is None:
        raise errors.POSKeyError(oid)
    return found[0], found[1]


def cp(
    source: IO[bytes], target: IO[bytes], length: int | None = None, bufsize: int = 65536
) -> None:
    """Copy *length* bytes (default: all that follow) from *source* to *target*."""
    while length is None or length > 0:
        data = source.read(bufsize if length is None else min(bufsize, length))
        if not data:
            return
        target.write(data)
        if length is not None:
            length -= len(data)


def mktemp(
    dir: str | None = None,  # noqa: A002 - ZODB's name
    prefix: str = "tmp",
) -> str:
    """Create an empty temporary file and return its path."""
    # Late, it brings a good deal along that most programs have no use for.
    import tempfile

    handle, path = tempfile.mkstemp(dir=dir, prefix=prefix)
    os.close(handle)
    return path


def as_bytes(value: object) -> bytes:
    """Return *value* as bytes; what isn't bytes goes through its ASCII text."""
    return value if isinstance(value, bytes) else str(value).encode("ascii")


def as_text(value: bytes) -> str:
    """Return the text of the ASCII bytes *value*."""
    return value.decode("ascii")


def byte_ord(byte: int) -> int:
    """Return the number of a byte taken from a bytes object."""
    return byte


def byte_chr(number: int) -> bytes:
    """Return the one byte with the given number."""
    return bytes((number,))


def check_precondition(precondition: Callable[[], object]) -> None:
    """Raise AssertionError with the docstring of *precondition* unless it holds."""
    if not precondition():
        raise AssertionError("Failed precondition: ", (precondition.__doc__ or "").strip())


class locked:  # noqa: N801 - used as a decorator
    """Decorate a method so that it runs with its object's `_lock` held.

    `@locked` alone, or `@locked(check, ...)` where each check is called with
    the object once the lock is held and AssertionError is raised for the first
    that isn't true.
    """

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._functions = functions

    def __call__(self, method: Callable[..., Any]) -> "_LockedMethod":
        """Return *method*, which runs with the lock and after the checks."""
        return _LockedMethod(method, self._functions)

    def __get__(self, instance: Any, owner: type) -> Any:
        return _LockedMethod(self._functions[0], ()).__get__(instance, owner)


class _LockedMethod:
    def __init__(self, method: Callable[..., Any], checks: tuple[Callable[..., Any], ...]) -> None:
        self.__func__ = method
        self.__doc__ = method.__doc__
        self._checks = checks

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        with instance._lock:
            for check in self._checks:
                if not check(instance):
                    raise AssertionError("Failed precondition: ", (check.__doc__ or "").strip())
            return self.__func__(instance, *args, **kwargs)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return functools.partial(self, instance)
