"""Which classes records may bring in: the allow-list of a database."""

import copyreg
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from perdure.broken import _MISSING, _candidates, _imported, placeholder
from perdure.errors import ForbiddenClassError

__all__ = ["ALWAYS_ALLOWED", "AllowedClasses", "ClassPolicy"]

ClassPolicy = Callable[[str, str], bool] | Iterable[str | type]
"""What `DB(class_policy=...)` takes: a callable that is given a module's and a class's name and
tells whether records may bring it in; or names of classes and packages, and classes."""

ALWAYS_ALLOWED: Final = frozenset(
    {
        "BTrees",
        "_codecs.encode",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.deque",
        "copyreg.__newobj__",
        "copyreg._reconstructor",
        "decimal.Decimal",
        "perdure.blob._blob.Blob",
        "perdure.blob.Blob",
        "persistent.list.PersistentList",
        "persistent.list.PersistentListMutable",
        "persistent.mapping.PersistentMapping",
        "uuid.UUID",
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(
            f"builtins.{kind.__name__}"
            for kind in (
                *(bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object),
                *(range, set, slice, str, tuple),
            )
        ),
    }
)
"""What any database needs, and what does no more than hold data: no policy has to name it."""

_REBUILD: Final = {("perdure.broken", "rebuild"), ("ZODB.broken", "rebuild")}
"""What makes objects of classes that may be missing: it is done with the allowed ones."""


class AllowedClasses:
    """Finds the globals that records name, if the policy allows them.

    Nothing is imported that the policy doesn't allow by the name in the record (or one that it is
    mapped to); what is found then has to be a class that the policy allows by its own name, too:
    what a module has merely imported is not its own. A function has to be named itself.
    """

    def __init__(self, policy: ClassPolicy) -> None:
        if isinstance(policy, str):
            raise TypeError("class_policy is a list of names, or a callable, not a string")
        self._decide: Callable[[str, str], bool] | None = None
        self._names: frozenset[str] = ALWAYS_ALLOWED
        if callable(policy):
            self._decide = policy
        else:
            self._names |= {_name_of(entry) for entry in policy}

    def find(self, module: str, name: str) -> Any:
        """Return the global, or a placeholder class if it is gone; or raise ForbiddenClassError."""
        allowed = [place for place in _candidates(module, name) if self._allows(*place)]
        if not allowed:
            if (module, name) in _REBUILD:
                return self.rebuild
            raise _forbidden(module, name)
        for place in allowed:
            found = _imported(*place)
            if found is _MISSING:
                continue
            if not self._allows_value(found, *place):
                raise _forbidden(module, name)
            return found
        return placeholder(module, name)

    def rebuild(self, module: str, name: str, *arguments: Any) -> Any:
        """Do what `broken.rebuild` does, with the classes that are allowed."""
        cls = self.find(module, name)
        return cls.__new__(cls, *arguments)

    def require_names(self, data: bytes) -> None:
        """Raise ForbiddenClassError if a record uses numbers in place of names.

        `pickle` remembers what they stood for without asking again.
        """
        # Late: it is large, and rarely needed.
        import pickletools

        rest = data
        while rest:
            end = 0
            for opcode, argument, position in pickletools.genops(rest):
                if opcode.name.startswith("EXT"):
                    named = copyreg._inverted_registry.get(argument, ("extension", argument))  # type: ignore[attr-defined]
                    raise _forbidden(*map(str, named))
                end = (position or 0) + 1
            rest = rest[end:]

    def _allows(self, module: str, name: str) -> bool:
        if self._listed(module, name):
            return True
        return self._decide is not None and bool(self._decide(module, name))

    def _listed(self, module: str, name: str) -> bool:
        if f"{module}.{name}" in self._names:
            return True
        parts = module.split(".")
        return any(".".join(parts[: end + 1]) in self._names for end in range(len(parts)))

    def _allows_value(self, value: Any, module: str, name: str) -> bool:
        """Whether what was found under an allowed name is what the policy meant."""
        named = f"{module}.{name}" in self._names and "." not in name
        own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        own_module, own_name = own
        if not (isinstance(own_module, str) and isinstance(own_name, str)):
            return False
        if isinstance(value, type):
            return named or self._allows(own_module, own_name)
        if isinstance(value, (FunctionType, BuiltinFunctionType)):
            return named or (self._decide is not None and bool(self._decide(own_module, own_name)))
        return False


def _name_of(entry: str | type) -> str:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, type):
        return f"{entry.__module__}.{entry.__qualname__}"
    raise TypeError(f"class_policy names classes and packages; {entry!r} is neither")


def _forbidden(module: str, name: str) -> ForbiddenClassError:
    return ForbiddenClassError(
        "the database's class_policy doesn't allow it: add it there if it is harmless, "
        "or look where the record comes from",
        class_name=f"{module}.{name}",
    )
