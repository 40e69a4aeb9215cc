"""Which past state `open(at=..., before=...)` means."""

from perdure.ids import Tid
from perdure.timestamp import Moment, TimeStamp, tid_of

__all__ = ["Moment", "tid_before"]


def tid_before(at: Moment | None, before: Moment | None) -> Tid | None:
    """Return the tid that the wanted state lies before; None: the newest state.

    Raises ValueError if both are given, or for bytes that aren't a tid.
    """
    if at is not None:
        if before is not None:
            raise ValueError("can only pass zero or one of `at` and `before`")
        stamp = TimeStamp(tid_of(at))
        return Tid(stamp.laterThan(stamp).raw())
    return None if before is None else tid_of(before)
