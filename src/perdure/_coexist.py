"""Living beside stock ZODB in one process.

An error class of perdure's names its counterpart in stock ZODB by the class
attribute `_outward` (a module; the class there has the same name, or the one
in `_outward_name`).  When that module is loaded (it is never imported here),
`twin` gives a class derived from both, so that stock's `except` clauses catch
what perdure raises; `adopt` makes an error that stock's code raised an instance
of perdure's class, so that `except perdure.errors.ConflictError` catches what a
storage of stock ZODB raises.

A class found under the outward name that is perdure's own (when perdure plays
ZODB's part) needs no twin.
"""

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")

_ERRORS = "perdure.errors"

_twins: dict[tuple[type, tuple[type, ...]], type] = {}


def outward_name(cls: type) -> tuple[str, str] | None:
    """Return the module and name under which stock knows *cls*, if it does."""
    module = cls.__dict__.get("_outward") or _inherited_outward(cls)
    if module is None:
        return None
    return module, cls.__dict__.get("_outward_name", cls.__name__)


def _inherited_outward(cls: type) -> str | None:
    """A class of perdure's own errors module inherits where stock keeps it."""
    if "_outward" in cls.__dict__ or cls.__module__ != _ERRORS:
        return None
    return getattr(cls, "_outward", None)


def _counterpart(cls: type) -> type | None:
    """Return stock's class for *cls*, when stock is loaded and it is another."""
    named = outward_name(cls)
    module = sys.modules.get(named[0]) if named else None
    if named is None or module is None:
        return None
    found = getattr(module, named[1], None)
    if not isinstance(found, type) or issubclass(cls, found) or issubclass(found, cls):
        return None
    return found


def twin(cls: Any) -> Any:
    """Return *cls*, or a subclass of it and of stock's classes of the same names."""
    if "ZODB.POSException" not in sys.modules and "zc.lockfile" not in sys.modules:
        return cls
    if "_twin_of" in cls.__dict__:
        return cls
    found: list[type] = []
    for base in cls.__mro__:
        other = _counterpart(base)
        if other is not None and not any(issubclass(known, other) for known in (cls, *found)):
            found.append(other)
    if not found:
        return cls
    key = cls, tuple(found)
    made = _twins.get(key)
    if made is None:
        # Servers send an error by the name that it has at the other end, too.
        module, name = outward_name(cls) or (cls.__module__, cls.__qualname__)
        names = {"__module__": module, "__qualname__": name, "_twin_of": cls}
        made = _twins.setdefault(key, type(name, (cls, *found), names))
    return made


def own_class(cls: type) -> type:
    """Return perdure's class behind a twin, any other class unchanged."""
    own: type = cls.__dict__.get("_twin_of", cls)
    return own


def rebuild(cls: type[BaseException], state: dict[str, Any]) -> BaseException:
    """Make the error that `reduce` took apart."""
    error = cls.__new__(cls)
    error.__setstate__(state)
    return error


rebuild.__no_side_effects__ = True  # type: ignore[attr-defined]


def reduce(error: BaseException) -> tuple[Any, ...]:
    """Take *error* apart for pickling, by stock's names where stock is loaded."""
    state = {**error.__dict__, "args": error.args}
    cls = own_class(type(error))
    stock = _counterpart(cls)
    if stock is None:
        return rebuild, (cls, state)
    recon = getattr(sys.modules.get("ZODB.POSException"), "_recon", None)
    if recon is None or not hasattr(stock, "__setstate__"):
        return stock, error.args
    return recon, (stock, state)


def stock_errors() -> tuple[type[BaseException], ...]:
    """Return what to catch to catch every error of stock's: nothing while it isn't loaded."""
    base = getattr(sys.modules.get("ZODB.POSException"), "POSError", None)
    return (base,) if isinstance(base, type) else ()


def adopt(error: BaseException) -> BaseException:
    """Make *error*, raised by stock's code, one of perdure's as well; return it."""
    from perdure import errors  # the two modules describe one another

    cls = type(error)
    for stock in cls.__mro__:
        own = getattr(errors, stock.__name__, None)
        if isinstance(own, type) and own is not stock and _counterpart(own) is stock:
            break
    else:
        return error
    both = twin(own) if cls is stock else _derived_twin(cls, own)
    try:
        error.__class__ = both
    except TypeError:
        return error
    return error


def _derived_twin(cls: type, own: type) -> type:
    """Return a class of both *cls* (a subclass of stock's) and perdure's *own*."""
    key = own, (cls,)
    made = _twins.get(key)
    if made is None:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "_twin_of": cls}
        made = _twins.setdefault(key, type(cls.__name__, (cls, own), names))
    return made


class OutwardError(Exception):
    """An error that stock ZODB knows, too."""

    _outward: ClassVar[str | None] = "ZODB.interfaces"

    def __new__(cls, *args: Any, **_kwargs: Any) -> "Self":
        """Make an instance that stock's `except` clauses recognise, too."""
        made: Self = super().__new__(twin(cls), *args)
        return made

    def __init__(self, *args: Any) -> None:
        # Not super(): in a class shared with stock that would be stock's turn.
        Exception.__init__(self, *args)

    def __str__(self) -> str:
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce(self)

    def __setstate__(self, state: Mapping[str, Any] | None) -> None:
        values = dict(state or {})
        self.args = tuple(values.pop("args", ()))
        self.__dict__.update(values)


def adopting(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that stock's errors that pass it are perdure's, too."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except stock_errors() as error:
            adopt(error)
            raise

    return call
