"""Loaded objects count as old for Python's collector, and are collected all the same."""

import gc
import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from persistent import Persistent

import perdure
from perdure import _native
from perdure.serialize import ConnectionBase

COUNT = 300
FULL_COLLECTIONS_DURING_LOADS = 20
"""More than a connection that is loading may keep its objects from."""

keeps_apart = pytest.mark.skipif(
    not issubclass(ConnectionBase, _native.ConnectionBase)
    or sys.implementation.name != "cpython"
    or sys.version_info >= (3, 14),
    reason="this Python's collector is left as it is",
)


class Node(Persistent):
    """Refers to the next one, and holds what can close a cycle."""

    next: Any = None
    extra: Any = None

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts: list[Any] = [number]
        self.names: dict[str, Any] = {"list": [number]}


class Plain:
    """Can be looked at weakly."""


class Loud:
    """Says when it goes."""

    def __del__(self) -> None:
        sys.stdout.write("gone\n")


class Collecting(Persistent):
    """Has everything collected while it is loaded."""

    child: Any = None

    def __setstate__(self, state: Any) -> None:
        gc.collect()
        super().__setstate__(state)


def store_nodes(database: perdure.DB) -> None:
    with database.transaction() as connection:
        nodes = [Node(number) for number in range(COUNT)]
        for node, following in itertools.pairwise(nodes):
            node.next = following
        connection.root.first = nodes[0]
    database.cacheMinimize()


@pytest.fixture
def database() -> Iterator[perdure.DB]:
    database = perdure.DB(None)
    store_nodes(database)
    yield database
    transaction.abort()
    database.close()


def store_collecting(database: perdure.DB) -> None:
    with database.transaction() as connection:
        last: Any = connection.root.first
        for _ in range(FULL_COLLECTIONS_DURING_LOADS):
            collecting = Collecting()
            collecting.child, last = last, collecting
        connection.root.last = last
    database.cacheMinimize()


def load_all(connection: perdure.Connection) -> list[Node]:
    found = [connection.root.first]
    while found[-1].next is not None:
        found.append(found[-1].next)
    assert [node.parts for node in found] == [[number] for number in range(COUNT)]
    return found


def addresses(objects: list[Any]) -> set[int]:
    return {id(each) for each in objects}


def everything_in(nodes: list[Node]) -> set[int]:
    return addresses([part for node in nodes for part in (node, vars(node), node.parts)])


@keeps_apart
def test_loaded_objects_are_not_among_the_young(database: perdure.DB) -> None:
    gc.collect()
    nodes = load_all(database.open())
    young = addresses(gc.get_objects(0)) | addresses(gc.get_objects(1))
    assert all(map(gc.is_tracked, nodes))
    assert not young & everything_in(nodes[1:])


def test_a_full_collection_makes_loaded_objects_known(database: perdure.DB) -> None:
    nodes = load_all(database.open())
    gc.collect()
    assert everything_in(nodes) <= addresses(gc.get_objects())
    owners = gc.get_referrers(nodes[1].parts)
    assert any(owner is nodes[1] or owner is vars(nodes[1]) for owner in owners)


def test_a_connection_that_is_dropped_without_being_closed_is_collected(
    database: perdure.DB,
) -> None:
    connection = database.open(transaction.TransactionManager())
    nodes = load_all(connection)
    alive: list[Any] = [weakref.ref(each) for each in (connection, *nodes)]
    del connection, nodes
    gc.collect()
    assert not [each for each in alive if each() is not None]


def test_a_dropped_connection_is_collected_without_being_asked_for(database: perdure.DB) -> None:
    connection = database.open(transaction.TransactionManager())
    nodes = load_all(connection)
    alive = weakref.ref(connection)
    del connection, nodes
    kept: list[Any] = []
    thresholds = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        for _ in range(100_000):
            kept.append([[] for _ in range(100)])
            if alive() is None:
                break
    finally:
        gc.set_threshold(*thresholds)
    assert alive() is None


def close_cycles(node: Node) -> "weakref.ref[Plain]":
    plain = Plain()
    for container in node.parts, node.names["list"]:
        container += [container, plain]
    node.names |= {"self": node.names, "plain": plain}
    node.__dict__["extra"] = [node.__dict__, plain]
    return weakref.ref(plain)


def test_cycles_that_loaded_objects_have_left_are_collected(database: perdure.DB) -> None:
    connection = database.open()
    nodes = load_all(connection)
    gone = [close_cycles(node) for node in nodes]
    for node in nodes:
        node._p_invalidate()
    gc.collect()
    assert not [each for each in gone if each() is not None]
    assert len(load_all(connection)) == COUNT


def test_attributes_that_outlive_their_connection_stay_and_are_collected(
    database: perdure.DB,
) -> None:
    connection = database.open(transaction.TransactionManager())
    kept = [node.__dict__ for node in load_all(connection)]
    for attributes in kept:
        attributes.pop("next", None)
    alive = weakref.ref(connection)
    del connection
    gc.collect()
    assert alive() is None
    assert [attributes["parts"] for attributes in kept] == [[number] for number in range(COUNT)]
    plain = Plain()
    gone = weakref.ref(plain)
    for attributes in kept:
        attributes["extra"] = [attributes, plain]
    del kept, attributes, plain
    gc.collect()
    assert gone() is None


def test_a_collection_in_the_middle_of_a_load_loses_nothing(database: perdure.DB) -> None:
    store_collecting(database)
    connection = database.open(transaction.TransactionManager())
    nodes = load_all(connection)
    obj = connection.root.last
    while isinstance(obj, Collecting):
        obj = obj.child
    assert obj is nodes[0]
    # Even a connection that did nothing but load gave its objects back by now.
    assert addresses(nodes[1:]) <= addresses(gc.get_objects())
    alive = weakref.ref(connection)
    del connection, nodes, obj
    gc.collect()
    assert alive() is None


def test_a_connection_that_meets_an_emptied_list_of_callbacks_is_collected(
    database: perdure.DB,
) -> None:
    before = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        connection = perdure.Connection(database)
        connection.open(transaction.TransactionManager())
        nodes = load_all(connection)
        alive = weakref.ref(connection)
        del connection, nodes
        gc.collect()
        assert alive() is None
    finally:
        gc.callbacks[:] = before


def test_objects_are_finalised_when_the_program_ends() -> None:
    program = """
import perdure, transaction
from tests.unit.test_tenure import Loud, Node
database = perdure.DB(None)
with database.transaction() as connection:
    connection.root.node = Node(1)
    connection.root.node.extra = [Loud()]
del connection
database.cacheMinimize()
node = database.open().root.node
node.extra.append(node)
print("loaded")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["gone", "loaded", "gone"]
    assert done.stderr == ""


def test_threads_load_while_another_one_collects(database: perdure.DB) -> None:
    failures: list[BaseException] = []
    done = threading.Event()

    def load() -> None:
        try:
            connection = database.open(transaction.TransactionManager())
            for _ in range(10):
                load_all(connection)
                connection.cacheMinimize()
            connection.close()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    def collect() -> None:
        while not done.is_set():
            gc.collect()

    collector = threading.Thread(target=collect)
    loaders = [threading.Thread(target=load) for _ in range(3)]
    for thread in (collector, *loaders):
        thread.start()
    for thread in loaders:
        thread.join()
    done.set()
    collector.join()
    assert not failures
