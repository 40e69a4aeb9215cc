"""Which past state `open(at=..., before=...)` means."""

from datetime import datetime

from perdure.ids import Tid
from perdure.timestamp import TimeStamp, tid_at_datetime

__all__ = ["Moment", "tid_before"]

Moment = Tid | bytes | datetime
"""A tid or a time; one without time zone is taken as UTC."""


def tid_before(at: Moment | None, before: Moment | None) -> Tid | None:
    """Return the tid that the wanted state lies before; None: the newest state.

    Raises ValueError if both are given, or for bytes that aren't a tid.
    """
    if at is not None:
        if before is not None:
            raise ValueError("can only pass zero or one of `at` and `before`")
        stamp = TimeStamp(_tid(at))
        return Tid(stamp.laterThan(stamp).raw())
    return None if before is None else _tid(before)


def _tid(moment: Moment) -> Tid:
    if isinstance(moment, datetime):
        return tid_at_datetime(moment)
    if len(moment) != 8:
        raise ValueError(f"neither a transaction id of 8 bytes nor a datetime: {moment!r}")
    return Tid(moment)
