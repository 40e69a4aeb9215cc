"""Which storages commit under the tids that they are given, and what those may be given."""

from typing import Any, Final

from zope.interface import Interface

from perdure.ids import NO_TID

__all__ = ["ITakesTids", "check_record"]


_ID_BYTES: Final = 8


class ITakesTids(Interface):
    """A storage to which all commits come through one object, which may choose their tids.

    ``tpc_begin(transaction, tid)`` has the transaction committed under that tid, or
    fails where it isn't later than the last one. No lock is taken before the vote.
    """

    def commit_after(tid: bytes) -> None:  # noqa: N805 - interfaces have no self
        """Give the transactions from now on later tids than *tid*, where none is given."""


def check_record(oid: Any, serial: Any, data: Any) -> None:
    """Raise TypeError unless these are an oid, a tid (or None) and data; ValueError for no data."""
    for name, each in {"an oid": oid, "a serial": serial or NO_TID}.items():
        if not isinstance(each, bytes) or len(each) != _ID_BYTES:
            raise TypeError(f"{name} has {_ID_BYTES} bytes: {each!r}")
    if not isinstance(data, bytes):
        raise TypeError(f"a record's data are bytes, not {type(data).__name__}")
    if not data:
        raise ValueError("a record can't be empty: an object that is gone has none")
