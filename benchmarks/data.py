"""The data files that are measured, written by perdure in the format that both read."""

from pathlib import Path
from typing import Any

import transaction
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree

import perdure
from benchmarks.job import FIRST, SECOND, second_of
from benchmarks.model import Item, make_items

__all__ = ["BUILDERS", "build"]

_AT_ONCE = 1_000_000
"""More objects than this are made and committed in several transactions."""


def nothing(_root: Any, _count: int) -> None:
    """Just the root."""


def items(root: Any, count: int) -> None:
    """Items that are reached from the first one, and a list of some of them."""
    if count > _AT_ONCE:
        _many_items(root, count)
        return
    made = make_items(count)
    root["first"] = made[0]
    root["some"] = made[:: max(1, count // 10_000)]


def _many_items(root: Any, count: int) -> None:
    """Make the same tree from its end, since only what is there can be referred to by oid."""
    connection, oids, step = root._p_jar, [b""] * count, max(1, count // 10_000)

    def ghost(number: int) -> Any:
        return connection.get(oids[number]) if number < count else None

    for end in range(count, 0, -_AT_ONCE // 10):
        batch = range(end - 1, max(0, end - _AT_ONCE // 10) - 1, -1)
        for number in batch:
            item = Item(number)
            item.left, item.right = ghost(2 * number + 1), ghost(2 * number + 2)
            item.other = ghost(number + 1 + number * 7919 % max(1, count - number - 1))
            connection.add(item)
            oids[number] = item._p_oid
        transaction.commit()
        connection.cacheMinimize()
    root["first"], root["some"] = ghost(0), [ghost(number) for number in range(0, count, step)]


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


def pair(root: Any, count: int) -> None:
    """Items in two databases, and in each a list of some."""
    for each in (root, root._p_jar.get_connection(SECOND).root()):
        items(each, count // 2)


BUILDERS = {
    each.__name__: each
    for each in (nothing, items, int_tree, str_tree, revisions, collection, pair)
}


def build(name: str, path: Path, count: int) -> None:
    """Write the data file *name* with *count* objects or keys."""
    paths = (
        {FIRST: path, SECOND: second_of(path)} if name in {"collection", "pair"} else {FIRST: path}
    )
    with perdure.Collection(paths, pack_keep_old=False) as databases:
        connection = databases.open()
        BUILDERS[name](connection.root(), count)
        transaction.commit()
        connection.close()
        if name == "collection":
            # What an old revision refers to is no garbage to stock's tool.
            databases.pack(gc=False)
