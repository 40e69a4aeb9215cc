"""How many connections and objects a database keeps."""

import sys
from typing import Final

OBJECTS_MAX: Final = (1 << 31) - 1
"""The greatest number of objects that a cache of `persistent` can be told."""

__all__ = ["CachePolicy"]


class CachePolicy:
    """What a connection's object cache shrinks to between transactions.

    *objects_max* objects that aren't ghosts, and *bytes_max* as their estimated size
    together; 0: no limit. More than a cache can be told is taken for as much as it can.
    """

    def __init__(self, objects_max: int, bytes_max: int) -> None:
        self.objects_max = objects_max
        self.bytes_max = bytes_max

    @property
    def objects_max(self) -> int:
        """How many objects are kept."""
        return self._objects_max

    @objects_max.setter
    def objects_max(self, count: int) -> None:
        self._objects_max = min(count, OBJECTS_MAX)

    @property
    def bytes_max(self) -> int:
        """As how large they may be estimated together; 0: no limit."""
        return self._bytes_max

    @bytes_max.setter
    def bytes_max(self, size: int) -> None:
        self._bytes_max = min(size, sys.maxsize)
