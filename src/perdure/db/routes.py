"""Routes: which member of a collection new objects of a class go to."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakKeyDictionary

__all__ = ["Routes", "chooser", "route_name", "using"]

_IN_USE: Final[ContextVar[tuple[tuple[object, str], ...]]] = ContextVar("using", default=())
"""The blocks of `using` that run: for each the collection's `Shared` and the member."""

Choose = Callable[[type], "str | None"]
"""Says for a class which member its new objects go to; None: where they are reached from."""


class Routes(Mapping[str, str]):
    """A mapping from names of classes, modules and packages to names of members.

    The most specific one holds for a class: a route of the class itself, or else of the
    first of its base classes (in the order of the MRO) that has one; or else a route of
    the class's module, or of the innermost package around it; or else, in the same way,
    of the modules of its base classes, in the order of the MRO.

    Raises ValueError for a name that can't be one of a class or module, and for a member
    that isn't among *members*.
    """

    def __init__(self, routes: Mapping[Any, str], members: Collection[str]) -> None:
        self._routes = {route_name(what): member for what, member in routes.items()}
        for name, member in self._routes.items():
            if member not in members:
                raise ValueError(
                    f"the route of {name!r} leads to {member!r}, which is no member: "
                    f"there are {', '.join(sorted(members))}"
                )
        self._found: WeakKeyDictionary[type, str | None] = WeakKeyDictionary()

    def __getitem__(self, name: str) -> str:
        return self._routes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._routes!r})"

    def member_for(self, cls: type) -> str | None:
        """Return the member that new objects of *cls* go to; None if no route holds."""
        try:
            return self._found[cls]
        except KeyError:
            name = self.name_for(cls)
            found = self._found[cls] = None if name is None else self._routes[name]
            return found

    def name_for(self, cls: type) -> str | None:
        """Return the name of the route that holds for *cls*; None if none does."""
        for base in cls.__mro__:
            name = f"{base.__module__}.{base.__qualname__}"
            if name in self._routes:
                return name
        for base in cls.__mro__:
            for name in _enclosing(base.__module__):
                if name in self._routes:
                    return name
        return None


def route_name(what: Any) -> str:
    """Return the name of a class or module, which may be given itself.

    Raises ValueError for what can't be the name of one.
    """
    name = f"{what.__module__}.{what.__qualname__}" if isinstance(what, type) else what
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"{name!r} can't be routed: give the full name of a class, module or package, "
            "like 'shop.catalog.Product' or 'shop.catalog'"
        )
    return name


def _enclosing(module: str) -> Iterator[str]:
    """Give a module's name and those of the packages around it, innermost first."""
    while module:
        yield module
        module = module.rpartition(".")[0]


@contextlib.contextmanager
def using(shared: object, member: str) -> Iterator[None]:
    """Have new objects go to *member* of one collection in a block; see `Collection.using`."""
    token = _IN_USE.set((*_IN_USE.get(), (shared, member)))
    try:
        yield
    finally:
        _IN_USE.reset(token)


def chooser(shared: Any) -> Choose | None:
    """Return what says where new objects go at present; None if nothing does."""
    in_use = _IN_USE.get()
    if in_use:
        for collection, member in reversed(in_use):
            if collection is shared:
                return lambda _cls: member
    routes: Routes | None = shared.routes
    return routes.member_for if routes else None
