"""What a connection has in place of its storage when its database was closed."""

from typing import Any, NoReturn

from perdure.errors import ConnectionStateError

__all__ = ["ClosedStorage"]


class ClosedStorage:
    """A storage that answers everything with ConnectionStateError.

    The thread that uses a connection may be anywhere in it when another one closes the
    database; whatever it does next, it must not be taken for done.
    """

    def __init__(self, database_name: str) -> None:
        self._database_name = database_name

    def sortKey(self) -> str:
        """Return a sort key: resources are sorted before they can fail in an orderly way."""
        return ""

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing: what was stored was forgotten when the storage was closed."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ConnectionStateError(
            f"The database connection is closed (to {self._database_name!r}): "
            "the database was closed while it was in use"
        )
