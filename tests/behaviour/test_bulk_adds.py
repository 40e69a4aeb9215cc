"""Many new objects in one transaction: what is reached is stored, all of it or nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from tests.behaviour.models import Node

import perdure
from perdure import _native
from perdure.blob import Blob
from perdure.connection import commit as committed
from perdure.errors import UnpicklableError
from perdure.ids import NO_TID

COUNT = 500


class Counted(Persistent):
    """Has a state of its own making, and tells how often it was asked for it."""

    asked = 0

    def __getstate__(self) -> dict[str, Any]:
        type(self).asked += 1
        return {"kept": 1}


class Guarded(Persistent):
    """Has its own way of setting attributes."""

    marks: list[str]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"_p_changed", "_p_serial"}:
            MARKS.append(name)
        super().__setattr__(name, value)


MARKS: list[str] = []


def web(count: int = COUNT) -> list[Node]:
    """Nodes that refer to one another, each reached from the first one."""
    nodes = [Node(number=number, text=f"node {number}") for number in range(count)]
    for number, node in enumerate(nodes):
        node.next = nodes[(number + 1) % count]
        node.far = nodes[number * 7 % count]
        node.parts = [{"deep": (nodes[number * 3 % count],)}]
    return nodes


def mixed() -> Node:
    """A node that leads to objects of all sorts."""
    nodes = web()
    nodes[3].tree = OOBTree({f"key {number}": Node(number=number) for number in range(200)})
    nodes[5].counted = Counted()
    nodes[7].large = Node(text="x" * 100_000, then=Node(after="large"))
    nodes[9].complex = Node(value=complex(1, 2), when=range(3), then=Node(after="complex"))
    nodes[11].guarded = Guarded()
    return nodes[0]


def records(database: perdure.DB) -> list[tuple[bytes, bytes]]:
    return [(record.oid, record.data) for each in database.storage.iterator() for record in each]


@pytest.fixture
def file_db(tmp_path: Path) -> Iterator[perdure.DB]:
    storage = perdure.FileStorage(str(tmp_path / "data.fs"), create=True)
    database = perdure.DB(storage, cache_size=100_000)
    yield database
    database.close()


def test_every_reached_object_is_stored(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.first = web()[0]
    conn.transaction_manager.commit()
    with db.transaction() as other:
        node, seen = other.root.first, set()
        while node.number not in seen:
            seen.add(node.number)
            assert node.far.number == node.number * 7 % COUNT
            assert node.parts[0]["deep"][0].number == node.number * 3 % COUNT
            node = node.next
    assert seen == set(range(COUNT))


def test_new_objects_are_up_to_date_and_in_the_cache_after_the_commit(
    file_db: perdure.DB,
) -> None:
    connection = file_db.open()
    nodes = web()
    connection.root.first = nodes[0]
    transaction.commit()
    for node in nodes:
        assert node._p_changed is False
        assert node._p_serial == file_db.lastTransaction()
        assert node._p_jar is connection
        assert connection._cache.get(node._p_oid) is node
        size = len(file_db.storage.load(node._p_oid)[0])
        assert node._p_estimated_size == size // 64 * 64 + 64
    sizes = sum(each._p_estimated_size for _, each in connection._cache.lru_items())
    assert connection._cache.total_estimated_size == sizes
    connection.close()


def test_it_makes_no_difference_how_records_get_into_the_storage(tmp_path: Path) -> None:
    written = []
    for name in "direct", "one by one":
        database = perdure.DB(perdure.FileStorage(str(tmp_path / name), create=True))
        connection = database.open()
        storage = connection._storage
        if name == "one by one":
            storage.store = storage.store  # No longer the class's own: it is called.
        connection.root.first = mixed()
        transaction.commit()
        written.append(records(database))
        connection.close()
        database.close()
    assert written[0] == written[1]
    assert len(written[0]) > COUNT + 200


def test_an_object_is_asked_for_its_state_once(file_db: perdure.DB) -> None:
    connection = file_db.open()
    Counted.asked = 0
    connection.root.first = mixed()
    transaction.commit()
    assert Counted.asked == 1
    connection.close()


def test_a_class_that_watches_its_attributes_is_told_of_the_commit(file_db: perdure.DB) -> None:
    connection = file_db.open()
    MARKS.clear()
    connection.root.first = mixed()
    transaction.commit()
    assert MARKS == ["_p_changed", "_p_serial"]
    connection.close()


def test_a_large_record_among_new_objects_is_warned_of(tmp_path: Path) -> None:
    storage = perdure.FileStorage(str(tmp_path / "data.fs"), create=True)
    database = perdure.DB(storage, large_record_size=50_000)
    connection = database.open()
    connection.root.first = mixed()
    with pytest.warns(UserWarning, match="Node object you're saving is large"):
        transaction.commit()
    assert len(connection.root.first.next.next.next.tree) == 200
    assert max(len(data) for _, data in records(database)) > 100_000
    connection.close()
    database.close()


def test_an_object_that_cannot_be_stored_keeps_all_others_out(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    nodes = web()
    nodes[COUNT // 2].lock = threading.Lock()
    conn.root.first = nodes[0]
    with pytest.raises(UnpicklableError, match="lock"):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    assert {node._p_oid for node in nodes} == {node._p_jar for node in nodes} == {None}
    assert all(vars(node)["number"] == number for number, node in enumerate(nodes))
    del nodes[COUNT // 2].lock
    conn.root.first = nodes[0]
    conn.transaction_manager.commit()
    assert nodes[-1]._p_serial != NO_TID


def test_blobs_among_new_objects_are_stored(tmp_path: Path) -> None:
    storage = perdure.FileStorage(
        str(tmp_path / "data.fs"), create=True, blob_dir=str(tmp_path / "blobs")
    )
    database = perdure.DB(storage)
    connection = database.open()
    nodes = web()
    for number, node in enumerate(nodes[::50]):
        node.blob = Blob(b"blob %d" % number)
    connection.root.first = nodes[0]
    transaction.commit()
    with database.transaction() as other:
        blob = other.get(nodes[50]._p_oid).blob
        with blob.open() as file:
            assert file.read() == b"blob 1"
    connection.close()
    database.close()


def test_other_threads_run_while_many_objects_are_stored(file_db: perdure.DB) -> None:
    connection = file_db.open()
    connection.root.first = web(30_000)[0]
    turns, over = [0], threading.Event()

    def count() -> None:
        while not over.is_set():
            turns[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        before = turns[0]
        transaction.commit()
        assert turns[0] > before
    finally:
        over.set()
        thread.join()
    connection.close()


def test_storages_with_oids_of_their_own_are_asked_for_them(tmp_path: Path) -> None:
    given = []

    class Numbering(perdure.FileStorage):
        def new_oid(self) -> Any:
            oid = super().new_oid()
            given.append(oid)
            return oid

    database = perdure.DB(Numbering(str(tmp_path / "data.fs"), create=True))
    connection = database.open()
    nodes = web()
    connection.root.first = nodes[0]
    transaction.commit()
    assert {node._p_oid for node in nodes} <= set(given)
    connection.close()
    database.close()


def test_the_native_way_is_the_one_that_is_tested(file_db: perdure.DB) -> None:
    connection = file_db.open()
    connection.root.first = web()[0]
    taken = 0

    class Watched(_native.ObjectWriter):
        def take_in(self, waiting: list[Any], intake: Any) -> Any:
            nonlocal taken
            commit = connection._commit_running
            assert commit is not None
            before = len(commit.stored)
            odd = super().take_in(waiting, intake)
            taken += len(commit.stored) - before
            return odd

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(committed, "ObjectWriter", Watched)
        patched.setattr(_native, "ObjectWriter", Watched)
        transaction.commit()
    assert taken > COUNT * 0.9
    connection.close()
