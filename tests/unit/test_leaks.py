"""Loading and storing leave nothing behind, however often."""

import gc
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import transaction
from persistent import Persistent

import perdure
from perdure.errors import UnpicklableError

ROUNDS = int(os.environ.get("PERDURE_CAMPAIGN", "1")) * 2
PER_ROUND = 1_000
BLOCKS_MAX = PER_ROUND // 5
"""How many more blocks of memory may be in use afterwards."""


class Leaf(Persistent):
    """Holds a bit of everything that records mostly hold."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.text = f"leaf {number}"
        self.parts: list[Any] = [1.5, (number, None), {"key": b"bytes"}]
        self.other: Any = None


def leaves() -> list[Leaf]:
    made = [Leaf(number) for number in range(PER_ROUND)]
    for number, leaf in enumerate(made):
        leaf.other = made[(number + 1) % PER_ROUND]
        leaf.parts.append(made[number // 2])
    return made


def empty_method_cache() -> None:
    clear = getattr(sys, "_clear_internal_caches", None)
    (sys._clear_type_cache if clear is None else clear)()


def leaks(work: Callable[[], None]) -> str:
    """Tell what rounds of *work* leave behind; "" for nothing.

    What is left behind once may be anybody's: threads of earlier tests may be ending.
    A leak is left behind every time.
    """
    found = growth(work)
    for _ in range(3):
        if found:
            found = growth(work)
    return found


def growth(work: Callable[[], None]) -> str:
    """Tell how many blocks of memory and references to what is shared rounds of *work* add."""

    def in_use() -> list[int]:
        gc.collect()
        # Its empty places refer to None, the others to names.
        empty_method_cache()
        shared = Leaf, None, True, transaction.manager
        return [sys.getallocatedblocks(), *map(sys.getrefcount, shared)]

    for _ in range(3):
        work()
    before = in_use()
    for _ in range(ROUNDS):
        work()
    blocks, *references = [now - then for now, then in zip(in_use(), before, strict=True)]
    if blocks < BLOCKS_MAX and all(abs(more) < PER_ROUND // 10 for more in references):
        return ""
    return f"{blocks} blocks, {references} references"


def test_loading_again_and_again_takes_no_more_memory() -> None:
    database = perdure.DB(None)
    connection = database.open()
    connection.root.first = leaves()[0]
    transaction.commit()

    def load_all() -> None:
        connection.cacheMinimize()
        leaf = connection.root.first
        for _ in range(PER_ROUND):
            leaf = leaf.other
            assert leaf.parts[1][0] == leaf.number

    assert leaks(load_all) == ""
    connection.close()
    database.close()


def test_storing_again_and_again_takes_no_more_memory_than_the_storage() -> None:
    def store_all() -> None:
        database = perdure.DB(None)
        connection = database.open()
        connection.root.first = leaves()[0]
        transaction.commit()
        for _, leaf in connection._cache.lru_items():
            if isinstance(leaf, Leaf):
                leaf.number = -leaf.number
        transaction.commit()
        connection.close()
        database.close()

    assert leaks(store_all) == ""


def test_new_objects_of_failed_commits_are_let_go() -> None:
    database = perdure.DB(None)
    connection = database.open()

    def fail() -> None:
        made = leaves()
        made[-1].parts.append(lambda: None)
        connection.root.first = made[0]
        try:
            transaction.commit()
        except UnpicklableError:
            transaction.abort()
        else:
            raise AssertionError("a function of no module was stored")

    assert leaks(fail) == ""
    connection.close()
    database.close()


def test_a_connection_that_is_dropped_after_a_bulk_add_is_collected() -> None:
    database = perdure.DB(None)
    connection = database.open()
    connection.root.first = leaves()[0]
    transaction.commit()
    leaf = weakref.ref(connection.root.first)
    alive = weakref.ref(connection)
    database.close()
    del connection, database
    gc.collect()
    assert alive() is None
    assert leaf() is None
