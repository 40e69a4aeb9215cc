"""The class whose objects are stored: small, as most objects are."""

from typing import Any

from persistent import Persistent


class Item(Persistent):
    """A few attributes and three references to other items: a record of about 200 bytes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.title = f"item number {number}"
        self.price = number / 8
        self.tags = ["small", "blue"]
        self.left: Any = None
        self.right: Any = None
        self.other: Any = None


def make_items(count: int) -> list[Item]:
    """Return items that form a binary tree, each with a reference across it, too."""
    items = [Item(number) for number in range(count)]
    for number, item in enumerate(items):
        left = 2 * number + 1
        item.left = items[left] if left < count else None
        item.right = items[left + 1] if left + 1 < count else None
        item.other = items[number * 7919 % count]
    return items


def traverse(first: Item, most: int = 100_000) -> int:
    """Visit items that are reached from the first one, *most* at most; return how many."""
    count, waiting = 0, [first]
    while waiting and count < most:
        item = waiting.pop()
        count += item.number is not None
        if item.left is not None:
            waiting.append(item.left)
        if item.right is not None:
            waiting.append(item.right)
    return count
