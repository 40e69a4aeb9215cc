"""Transaction ids as times.

`TimeStamp` is `persistent`'s: eight bytes that hold a UTC time to well under
a microsecond and sort by it.  The functions here go between it, seconds since
the epoch and `datetime`.
"""

import datetime as dt
import time

from persistent.timestamp import TimeStamp

from perdure.ids import MAX_TID, NO_TID, Tid

__all__ = [
    "Moment",
    "TimeStamp",
    "tid_after",
    "tid_at_datetime",
    "tid_at_time",
    "tid_of",
    "time_of_tid",
]

Moment = Tid | bytes | dt.datetime
"""A tid or a time; one without time zone is taken as UTC."""


_YEARS = range(1900, 5910)
"""The years that tids tell of, up to `MAX_TID`; the first and last ones are not whole."""


def tid_at_time(seconds: float) -> Tid:
    """Return the tid of the moment *seconds* after the epoch (UTC)."""
    fields = time.gmtime(seconds)
    stamp = TimeStamp(*fields[:5], fields[5] + seconds % 1)
    return Tid(stamp.raw())


def tid_at_datetime(moment: dt.datetime) -> Tid:
    """Return the tid of *moment*; one without time zone is taken as UTC.

    What lies before all tids, or behind them, is the least or the greatest of them.
    """
    if moment.year <= _YEARS.start:
        return NO_TID
    if moment.year >= _YEARS.stop:
        return MAX_TID
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.timezone.utc)
    seconds = moment.second + moment.microsecond / 1_000_000
    stamp = TimeStamp(moment.year, moment.month, moment.day, moment.hour, moment.minute, seconds)
    return min(Tid(stamp.raw()), MAX_TID)


def tid_of(moment: Moment) -> Tid:
    """Return a tid as it is, and that of a time; ValueError for bytes that aren't a tid."""
    if isinstance(moment, dt.datetime):
        return tid_at_datetime(moment)
    if len(moment) != 8:
        raise ValueError(f"neither a transaction id of 8 bytes nor a datetime: {moment!r}")
    return Tid(moment)


def tid_after(previous: Tid | None) -> Tid:
    """Return a tid for now that is later than *previous*, whatever the clock says."""
    tid = tid_at_time(time.time())
    if previous is None or tid > previous:
        return tid
    return Tid(TimeStamp(tid).laterThan(TimeStamp(previous)).raw())


def time_of_tid(tid: Tid) -> float:
    """Return the moment of *tid* in seconds since the epoch."""
    return float(TimeStamp(tid).timeTime())
