"""The log of what was changed by whom, from which every view catches up.

A commit costs the same however many connections are open: it appends one
entry, and each view reads on from where it was when its next transaction
begins.  A view that was away for too long is told that anything may have
changed.
"""

import threading
from collections.abc import Iterable
from typing import Final, NamedTuple

from perdure.ids import NO_TID, Oid, Tid

OIDS_KEPT_MAX: Final = 500_000
"""How many changed oids are remembered for views that have been away."""


class _Entry(NamedTuple):
    tid: Tid
    oids: list[Oid]
    author: object
    author_oids: list[Oid]


class News(NamedTuple):
    """What happened since a position."""

    changed: list[Oid] | None
    """The objects that others changed; None: any object may have changed."""
    last: Tid
    """The newest transaction in the log."""
    position: int
    """Where to read on."""


class InvalidationLog:
    """Which transaction changed which objects, in order."""

    def __init__(self) -> None:
        # Guards all below; nothing else is locked while it is held.
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._dropped = 0
        self._oids_kept = 0
        self._last = NO_TID

    @property
    def end(self) -> int:
        """The position behind the newest entry."""
        return self._dropped + len(self._entries)

    def append(
        self,
        tid: Tid,
        oids: Iterable[Oid],
        author: object = None,
        author_oids: Iterable[Oid] = (),
    ) -> None:
        """Note that *tid* changed *oids*; to *author*, only *author_oids* are news."""
        entry = _Entry(tid, list(oids), author, list(author_oids))
        with self._lock:
            self._entries.append(entry)
            self._last = max(self._last, tid)
            self._oids_kept += len(entry.oids) + 1
            if self._oids_kept > OIDS_KEPT_MAX:
                self._drop_half()

    def _drop_half(self) -> None:
        while self._oids_kept > OIDS_KEPT_MAX // 2 and self._entries:
            half = len(self._entries) // 2 + 1
            self._oids_kept -= sum(len(entry.oids) + 1 for entry in self._entries[:half])
            del self._entries[:half]
            self._dropped += half

    def forget(self) -> None:
        """Make everybody take it that anything may have changed."""
        with self._lock:
            self._dropped += len(self._entries) + 1
            self._entries.clear()
            self._oids_kept = 0

    def since(self, position: int, reader: object) -> News:
        """Return what *reader*, who has read up to *position*, doesn't know yet."""
        with self._lock:
            end = self._dropped + len(self._entries)
            if position == end:
                return News([], self._last, end)
            if position < self._dropped:
                return News(None, self._last, end)
            entries = self._entries[position - self._dropped :]
            last = self._last
        changed: list[Oid] = []
        for entry in entries:
            changed += entry.author_oids if entry.author is reader else entry.oids
        return News(changed, last, end)
