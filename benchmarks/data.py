"""The data files that are measured, written by perdure in the format that both read."""

from pathlib import Path
from typing import Any

import transaction
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree

import perdure
from benchmarks.job import FIRST, SECOND, second_of
from benchmarks.model import make_items

__all__ = ["BUILDERS", "build"]


def nothing(_root: Any, _count: int) -> None:
    """Just the root."""


def items(root: Any, count: int) -> None:
    """Items that are reached from the first one, and a list of some of them."""
    made = make_items(count)
    root["first"] = made[0]
    root["some"] = made[:: max(1, count // 10_000)]


def int_tree(root: Any, count: int) -> None:
    """A BTree with integers as keys."""
    root["tree"] = LOBTree({number * 3: number for number in range(count)})


def str_tree(root: Any, count: int) -> None:
    """A BTree with strings as keys."""
    root["tree"] = OOBTree({f"key {number * 3:09}": number for number in range(count)})


def revisions(root: Any, count: int) -> None:
    """Items, then as many again of which half are garbage at once; and changes of some."""
    root["first"] = make_items(count // 2)[0]
    root["garbage"] = make_items(count - count // 2)[0]
    transaction.commit()
    del root["garbage"]
    for number in range(100):
        root["first"].title = f"revision {number}"
        transaction.commit()


def collection(root: Any, count: int) -> None:
    """Items in two databases that refer to each other; half of them are garbage in the end."""
    second = root._p_jar.get_connection(SECOND)
    for name in ("first", "garbage"):
        here, there = make_items(count // 4), make_items(count // 4)
        for item, other in zip(here, there, strict=True):
            root._p_jar.add(item)
            second.add(other)
            item.other, other.other = other, item
        root[name], second.root()[name] = here[0], there[0]
    transaction.commit()
    del root["garbage"], second.root()["garbage"]


BUILDERS = {
    each.__name__: each for each in (nothing, items, int_tree, str_tree, revisions, collection)
}


def build(name: str, path: Path, count: int) -> None:
    """Write the data file *name* with *count* objects or keys."""
    paths = {FIRST: path, SECOND: second_of(path)} if name == "collection" else {FIRST: path}
    with perdure.Collection(paths, pack_keep_old=False) as databases:
        connection = databases.open()
        BUILDERS[name](connection.root(), count)
        transaction.commit()
        connection.close()
        if name == "collection":
            # What an old revision refers to is no garbage to stock's tool.
            databases.pack(gc=False)
