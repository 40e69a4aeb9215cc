"""From objects to records: what both writers, the native one and the standard one, write."""

from typing import TYPE_CHECKING, Any

from perdure._lazy import importing_late
from perdure.broken import PersistentBroken
from perdure.ids import Oid

if TYPE_CHECKING:
    from perdure.serialize.standard_writer import StandardObjectWriter

__all__ = ["StandardObjectWriter", "describe", "reference"]

# The native writer does nearly all.
__getattr__ = importing_late(
    __name__, {"StandardObjectWriter": "perdure.serialize.standard_writer"}
)


def reference(oid: Oid, cls: type) -> Any:
    """Return the reference to an object of the same database."""
    # A class with __getnewargs__ needs arguments that may change: they are in the record only.
    return oid if hasattr(cls, "__getnewargs__") else (oid, cls)


def describe(obj: Any) -> Any:
    """Return the class description of an object's record."""
    # `__class__` may be a proxy's answer; the type is what has to be made again.
    cls: Any = type(obj)
    arguments = getattr(obj, "__getnewargs__", None)
    if isinstance(obj, PersistentBroken) and not obj.__getnewargs__():
        return cls
    if isinstance(getattr(cls, "_p_oid", 0), (bytes, type(None))) and cls.__module__:
        # Instances of persistent classes name theirs, so that copies don't share it.
        named = cls.__module__, cls.__name__
        return named, None if arguments is None else arguments()
    return cls if arguments is None else (cls, arguments())
