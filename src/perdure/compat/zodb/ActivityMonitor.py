"""How much connections load and store, over time."""

import threading
import time
from collections import deque
from typing import Any, NamedTuple

__all__ = ["ActivityMonitor"]


class _Entry(NamedTuple):
    time: float
    loads: int
    stores: int


class ActivityMonitor:
    """Keeps what each connection had loaded and stored when it was closed.

    ``DB.setActivityMonitor`` takes one. It remembers *history_length* seconds.
    """

    def __init__(self, history_length: float = 3600) -> None:
        self.history_length = history_length
        self.log: deque[_Entry] = deque()
        self._lock = threading.Lock()

    def closedConnection(self, conn: Any) -> None:
        """Take note of what *conn*, which is being closed, loaded and stored."""
        now = time.time()
        self.log.append(_Entry(now, *conn.getTransferCounts(True)))
        self.trim(now)

    def trim(self, now: float) -> None:
        """Forget what is older than the history's length at the time *now*."""
        with self._lock:
            while self.log and self.log[0].time < now - self.history_length:
                self.log.popleft()

    def setHistoryLength(self, history_length: float) -> None:
        """Remember *history_length* seconds from now on."""
        self.history_length = history_length
        self.trim(time.time())

    def getHistoryLength(self) -> float:
        """Return how many seconds are remembered."""
        return self.history_length

    def getActivityAnalysis(
        self, start: float = 0, end: float = 0, divisions: int = 10
    ) -> list[dict[str, float]]:
        """Return the activity from *start* to *end*, as *divisions* parts of that time.

        Each part has its ``start`` and ``end`` and how many ``connections`` were
        closed in it, with how many ``loads`` and ``stores``. By default the parts
        cover the whole history.
        """
        now = time.time()
        start = start or now - self.history_length
        end = end or now
        length = (end - start) / divisions
        parts: list[dict[str, float]] = [
            {
                "start": start + length * number,
                "end": start + length * (number + 1),
                "loads": 0,
                "stores": 0,
                "connections": 0,
            }
            for number in range(divisions)
        ]
        for entry in list(self.log):
            if start <= entry.time <= end:
                part = parts[min(int((entry.time - start) / length), divisions - 1)]
                part["connections"] += 1
                part["loads"] += entry.loads
                part["stores"] += entry.stores
        return parts
