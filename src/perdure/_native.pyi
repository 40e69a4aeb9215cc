"""The classes that Rust provides (see `crates/native`)."""

from typing import Any

from typing_extensions import Self, disjoint_base

__all__ = ["ConnectionBase", "native_objects"]

# The object path (`crates/native/src/objects`).

def native_objects() -> bool:
    """Return whether the installed `persistent` is one that native connections work with."""

@disjoint_base
class ConnectionBase:
    """Loads a connection's objects: base of connections.

    Its subclass provides the hooks (`perdure.serialize.hooks.ConnectionHooks`).
    """

    _cache: Any
    _storage: Any
    _load_count: int
    opened: float | None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def setstate(self, obj: Any) -> None:
        """Load the state of the ghost *obj* (called by `persistent` when it is needed).

        Raises ConnectionStateError when the connection is closed, POSKeyError when the object's
        record is gone, StateLoadError when it can't be read.
        """

    def get(self, oid: bytes) -> Any:
        """Return the object at *oid*: from the cache, just added, or as a new ghost.

        Raises ConnectionStateError when the connection is closed, POSKeyError when there is no
        such object.
        """

    def __getitem__(self, key: bytes, /) -> Any: ...
