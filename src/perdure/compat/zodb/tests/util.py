"""Small things that tests and examples written for ZODB build on."""

import time
from typing import Any

from persistent import Persistent

from ..MappingStorage import DB

__all__ = ["DB", "P", "pack"]


class P(Persistent):
    """A persistent object with a name."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"P({self.name})"


def pack(db: Any) -> None:
    """Pack *db* to the present."""
    db.pack(time.time() + 1)
