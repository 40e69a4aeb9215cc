"""The base class of connections."""

from perdure import _native
from perdure.serialize.hooks import ConnectionHooks


class ConnectionBase(ConnectionHooks, _native.ConnectionBase):
    """Loads a connection's objects natively; base of `perdure.Connection`.

    `setstate(ghost)` and `get(oid)` are native, and call the hooks only for what is unusual.
    """
