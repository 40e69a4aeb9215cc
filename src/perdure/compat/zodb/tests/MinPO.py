"""A small persistent class."""

import functools
from typing import Any

from persistent import Persistent

__all__ = ["MinPO"]


@functools.total_ordering
class MinPO(Persistent):
    """A persistent object that is its *value*, as far as comparing goes."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MinPO) and bool(self.value == other.value)

    def __lt__(self, other: "MinPO") -> bool:
        return bool(self.value < other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"MinPO({self.value})"
