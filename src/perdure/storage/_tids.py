"""Which storages commit under the tids that they are given."""

from zope.interface import Interface

__all__ = ["ITakesTids"]


class ITakesTids(Interface):
    """A storage to which all commits come through one object, which may choose their tids.

    ``tpc_begin(transaction, tid)`` has the transaction committed under that tid, or
    fails where it isn't later than the last one.
    """
