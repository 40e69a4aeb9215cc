"""Time stamps, the meaning of transaction ids."""

from persistent.timestamp import TimeStamp

__all__ = ["TimeStamp"]
