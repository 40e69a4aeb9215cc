"""Fetching ahead where each load is a journey: what a loop over siblings will load next."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from perdure.ids import Oid
from perdure.serialize import referencesf

__all__ = ["ReadAhead"]

logger = logging.getLogger("perdure.mvcc")

FAMILIES_MAX = 64
"""How many records' references are remembered."""
SIBLINGS_MIN, SIBLINGS_MAX = 4, 5_000
"""With fewer there is nothing to fetch ahead; what comes after as many is not remembered."""
STEP_MAX = 3
"""How far on the next load may be to belong to a loop (what is in the cache is not loaded)."""
LOOP_MIN = 2
"""After how many steps it is one."""
WIDTH_FIRST, WIDTH_MAX = 8, 128
"""How many records are asked for at first and at most."""


class _Family:
    """What one record refers to, in order, and how far a loop over it has come."""

    def __init__(self, oids: Sequence[Oid]) -> None:
        self.oids = oids
        self._last = -STEP_MAX - 1
        self._steps = 0
        self._asked = 0
        self._width = WIDTH_FIRST

    def next_after(self, place: int) -> Sequence[Oid]:
        """Take note that the one at *place* was loaded; return what to ask for now."""
        is_step = 0 < place - self._last <= STEP_MAX
        self._steps = self._steps + 1 if is_step else 0
        self._last = place
        if not is_step:
            self._asked, self._width = 0, WIDTH_FIRST
        if self._steps < LOOP_MIN or self._asked - place > self._width // 2:
            return ()
        begin = max(place + 1, self._asked)
        self._asked = begin + self._width
        self._width = min(self._width * 2, WIDTH_MAX)
        return self.oids[begin : self._asked]


class ReadAhead:
    """Notices loops over objects that one record refers to, and has the next ones fetched.

    Such a loop loads one object after another (and perhaps others in between, which each of them
    leads to), and waits each time. *fetch* is called with the oids of some that are likely to
    come next, more of them the longer the loop goes on; it only has to begin to fetch them.
    """

    def __init__(self, fetch: Callable[[Sequence[Oid]], object]) -> None:
        self._fetch = fetch
        self._families: OrderedDict[Oid, _Family] = OrderedDict()
        self._places: dict[Oid, tuple[Oid, int]] = {}
        """By oid: the record that refers to it, and its place among the references."""

    def loaded(self, oid: Oid, data: bytes) -> None:
        """Take note of a record that was loaded; what fetching runs into is only logged."""
        try:
            self._remember(oid, data)
            oids = self._next_after(oid)
            if oids:
                self._fetch(oids)
        except Exception:
            # If it matters, loading or reading the record will tell.
            logger.debug("could not fetch ahead of %r", oid, exc_info=True)

    def forget(self) -> None:
        """Begin anew: the snapshot has moved on."""
        self._families.clear()
        self._places.clear()

    def _next_after(self, oid: Oid) -> Sequence[Oid]:
        owner, place = self._places.get(oid, (None, 0))
        family = None if owner is None else self._families.get(owner)
        if owner is None or family is None:
            return ()
        self._families.move_to_end(owner)
        return family.next_after(place)

    def _remember(self, oid: Oid, data: bytes) -> None:
        oids = list(dict.fromkeys(referencesf(data)))[:SIBLINGS_MAX]
        if len(oids) < SIBLINGS_MIN or oid in self._families:
            return
        self._families[oid] = _Family(oids)
        for place, sibling in enumerate(oids):
            self._places.setdefault(sibling, (oid, place))
        if len(self._families) > FAMILIES_MAX:
            gone, family = self._families.popitem(last=False)
            for sibling in family.oids:
                if self._places.get(sibling, (None, 0))[0] == gone:
                    del self._places[sibling]
