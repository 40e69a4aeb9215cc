"""The class whose objects are stored: small, as most objects are."""

from typing import Any

from persistent import Persistent


class Item(Persistent):
    """A few attributes, and a reference to another item."""

    def __init__(self, number: int, other: Any) -> None:
        self.number = number
        self.title = f"item number {number}"
        self.tags = ["small", "blue", number % 7]
        self.price = number / 8
        self.other = other
