"""The base class of connections."""

from typing import TYPE_CHECKING

from perdure import _native
from perdure.serialize.hooks import ConnectionHooks

if TYPE_CHECKING or _native.native_objects():

    class ConnectionBase(ConnectionHooks, _native.ConnectionBase):
        """Loads a connection's objects natively; base of `perdure.Connection`.

        `setstate(ghost)` and `get(oid)` are native, and call the hooks only for what is unusual.
        """

else:
    from perdure.serialize.standard import StandardConnectionBase

    class ConnectionBase(StandardConnectionBase):
        """Loads a connection's objects in Python: `persistent` isn't its C implementation."""
