"""Where a data file has the current record of each object, as a mapping."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from perdure.ids import Oid

if TYPE_CHECKING:
    from perdure import _native

__all__ = ["ObjectIndex"]

_FIRST = Oid(b"\0" * 8)
_LAST = Oid(b"\xff" * 8)


class ObjectIndex(Mapping[Oid, int]):
    """The oids of a storage, in order, with the positions of their current records.

    It is a view: it shows what the storage has now, and can't be changed.
    """

    def __init__(self, native: "_native.Storage") -> None:
        self._native = native

    def __getitem__(self, oid: Oid) -> int:
        position = self._native.position(oid)
        if position is None:
            raise KeyError(oid)
        return position

    def __len__(self) -> int:
        return self._native.object_count()

    def __iter__(self) -> Iterator[Oid]:
        following: Oid | None = _FIRST
        while following is not None:
            found = self._native.next_record(following)
            if found is None:
                return
            yield found[0]
            following = found[3]

    iterkeys = __iter__

    def iteritems(self) -> Iterator[tuple[Oid, int]]:
        """Iterate over pairs of oid and position, in the order of the oids."""
        return iter(self.items())

    def itervalues(self) -> Iterator[int]:
        """Iterate over the positions, in the order of the oids."""
        return iter(self.values())

    def has_key(self, oid: Oid) -> bool:
        """Tell whether the storage has the object."""
        return oid in self

    def minKey(self, oid: Oid = _FIRST) -> Oid:
        """Return the first oid from *oid* on; ValueError for none."""
        found = self._native.next_record(oid)
        if found is None:
            raise ValueError(f"there is no object from {oid!r} on")
        return found[0]

    def maxKey(self, oid: Oid = _LAST) -> Oid:
        """Return the last oid up to *oid*; ValueError for none."""
        last = None
        for known in self:
            if known > oid:
                break
            last = known
        if last is None:
            raise ValueError(f"there is no object up to {oid!r}")
        return last
