"""Does a recorded history keep what snapshot isolation promises?

Every state of an object has a serial, the id of the transaction that wrote it, and in one member ids
say in which order transactions became visible. So nothing has to be guessed: a transaction saw, in
each member, everything up to some moment that lies between the newest serial that it read and the
first one that it should have read and didn't. Transactions of several members are seen whole, so one
member's moment narrows the others'. Between independent transactions of different members the order
is that of becoming visible, which all readers have to agree on.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Event", "violations"]

_NEVER = 1 << 64


@dataclass(frozen=True)
class Event:
    """A transaction, as the session that ran it saw it.

    Ids are integers; objects are named `member:name`.
    """

    session: str
    """Its transactions came one after the other, in one process."""
    reads: Mapping[str, int]
    """The serials that it saw."""
    writes: frozenset[str] = frozenset()
    tid: int | None = None
    """Its id where it was acknowledged and wrote something."""
    known: Mapping[str, int] = field(default_factory=dict)
    """For each member the newest id that was acknowledged when it began: it has to see that."""
    at: int | None = None
    """The moment it asked for, if it looked at the past."""


def violations(events: Iterable[Event], final: Mapping[str, int]) -> list[str]:
    """Return what in the history is against the rules; *final* are the serials found at its end."""
    history = _History(list(events), final)
    found = [
        f"{name} ends at {serial}, and {later} was seen or acknowledged"
        for name, serial in final.items()
        if (later := history.after(name, serial)) < _NEVER
    ]
    seen: dict[str, dict[str, int]] = {}
    moments = []
    for event in history.events:
        low, high = history.moments(event, seen.get(event.session, {}))
        found += history.problems(event, low, high)
        if event.at is None:
            seen[event.session] = low
            moments.append((low, high))
    return found + _forks(moments)


class _History:
    def __init__(self, events: list[Event], final: Mapping[str, int]) -> None:
        self.events = events
        self._serials: dict[str, list[int]] = {}
        self._joint: dict[tuple[str, str], list[int]] = {}
        for event in events:
            for name, serial in event.reads.items():
                self._add(name, serial)
            if event.tid is not None:
                self._add_written(event.writes, event.tid)
        for name, serial in final.items():
            self._add(name, serial)

    def _add(self, name: str, serial: int) -> None:
        chain = self._serials.setdefault(name, [])
        place = bisect_left(chain, serial)
        if place == len(chain) or chain[place] != serial:
            chain.insert(place, serial)

    def _add_written(self, names: frozenset[str], tid: int) -> None:
        members = {_member(name) for name in names}
        for name in names:
            self._add(name, tid)
        for one in members:
            for other in members - {one}:
                insort(self._joint.setdefault((one, other), []), tid)

    def after(self, name: str, serial: int) -> int:
        """The next serial of an object."""
        chain = self._serials[name]
        place = bisect_right(chain, serial)
        return chain[place] if place < len(chain) else _NEVER

    def before(self, name: str, tid: int) -> int | None:
        """The serial that was current before a transaction wrote the object."""
        chain = self._serials[name]
        place = bisect_left(chain, tid)
        return chain[place - 1] if place else None

    def moments(
        self, event: Event, seen: Mapping[str, int]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return for each member the earliest moment that it saw, and the first it didn't."""
        low: dict[str, int] = {}
        high: dict[str, int] = {}
        for name, serial in event.reads.items():
            member = _member(name)
            low[member] = max(low.get(member, 0), serial)
            high[member] = min(high.get(member, _NEVER), self.after(name, serial))
        if event.at is not None:
            return {member: max(low[member], event.at) for member in low}, high
        for known in (event.known, seen):
            for member, tid in known.items():
                low[member] = max(low.get(member, 0), tid)
        return self._narrowed(low), high

    def _narrowed(self, low: dict[str, int]) -> dict[str, int]:
        """What was seen of a transaction in one member was seen in all."""
        moved = True
        while moved:
            moved = False
            for (one, other), tids in self._joint.items():
                place = bisect_right(tids, low.get(one, 0))
                if place and low.get(other, 0) < tids[place - 1]:
                    low[other], moved = tids[place - 1], True
        return low

    def problems(
        self, event: Event, low: Mapping[str, int], high: Mapping[str, int]
    ) -> Iterable[str]:
        """Yield what is wrong with one transaction."""
        what = f"{event.session} that knew {dict(event.known)}"
        for member, first_unseen in high.items():
            too_new = event.at is not None and low[member] > event.at
            if too_new or low[member] >= first_unseen:
                yield (
                    f"no snapshot: {what} saw {low[member]} in {member} and not {first_unseen}: "
                    f"{dict(event.reads)}"
                )
        for name in event.writes if event.tid is not None else ():
            before, read = self.before(name, event.tid or 0), event.reads.get(name)
            if read is not None and before != read:
                yield f"lost update: {what} wrote {name} over {before}, but had read {read}"
            if (event.tid or 0) <= low.get(_member(name), 0):
                yield f"time went backwards: {what} saw {dict(low)} and wrote {event.tid}"


def _member(name: str) -> str:
    return name.partition(":")[0]


def _forks(moments: list[tuple[dict[str, int], dict[str, int]]]) -> list[str]:
    """Find readers of which each saw, in one member, more than the other."""
    members = sorted({member for _, high in moments for member in high})
    pairs = [(one, other) for one in members for other in members if one < other]
    return [problem for pair in pairs for problem in _forks_between(*pair, moments)]


def _forks_between(
    one: str, other: str, moments: list[tuple[dict[str, int], dict[str, int]]]
) -> Iterable[str]:
    both = [each for each in moments if one in each[1] and other in each[1]]
    by_end = sorted((high[one], low[other]) for low, high in both)
    ends = [end for end, _ in by_end]
    most = 0
    newest = [most := max(most, begin) for _, begin in by_end]
    for low, high in both:
        earlier = bisect_right(ends, low[one])
        if earlier and newest[earlier - 1] >= high[other]:
            yield f"readers disagree: one saw {low[one]} in {one} before {high[other]} in {other}"
