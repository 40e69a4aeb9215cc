"""How the storages below a layer say that there is no such object."""

import sys

from perdure.errors import POSKeyError

__all__ = ["missing_object"]


def missing_object() -> tuple[type[BaseException], ...]:
    """Return what to catch: perdure's POSKeyError, and stock ZODB's where it is loaded.

    A storage of stock ZODB may be below perdure's layers, and raises its own errors.
    """
    stock = getattr(sys.modules.get("ZODB.POSException"), "POSKeyError", POSKeyError)
    return (POSKeyError, stock)
