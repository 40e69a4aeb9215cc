"""Many changed objects in one transaction: all of them are stored, of whatever kind they are."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent import Persistent
from tests.behaviour.models import Counter, Node

import perdure
from perdure import _native
from perdure.blob import Blob
from perdure.connection import commit as committed
from perdure.errors import ConflictError, UnpicklableError

COUNT = 200


class Meddling(Persistent):
    """Changes another object while it is asked for its state."""

    def __init__(self) -> None:
        self.number = 0
        self.others: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        for other in self.others:
            other.number = self.number
        return {"number": self.number, "others": self.others}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[perdure.DB]:
    storage = perdure.FileStorage(
        str(tmp_path / "data.fs"), create=True, blob_dir=str(tmp_path / "blobs")
    )
    opened = perdure.DB(storage, cache_size=10_000, large_record_size=50_000)
    with opened.transaction() as connection:
        connection.root.nodes = [Node(number=number) for number in range(COUNT)]
        connection.root.meddling = Meddling()
        connection.root.counter = Counter()
        connection.root.blob = Blob(b"before")
    yield opened
    transaction.abort()
    opened.close()


def change_all_sorts(connection: perdure.Connection) -> None:
    """Change objects, some of which lead to new ones."""
    nodes = connection.root.nodes
    for number, node in enumerate(nodes):
        node.number = number + 1000
        if number % 30 == 0:
            node.new = Node(number=-1, then=Node(number=-2))
        if number % 70 == 0:
            connection.root.counter.increase()
    meddling = connection.root.meddling
    meddling.others = [nodes[0], nodes[-1]]
    meddling.number = 7
    with connection.root.blob.open("w") as file:
        file.write(b"after")
    nodes[-1]._p_changed = True


def test_every_changed_object_is_stored(database: perdure.DB) -> None:
    connection = database.open()
    change_all_sorts(connection)
    transaction.commit()
    changed = [connection.root.counter, connection.root.meddling, *connection.root.nodes]
    assert {each._p_changed for each in changed} == {False}
    assert {each._p_serial for each in changed} == {database.lastTransaction()}
    connection.close()
    with database.transaction() as other:
        nodes = other.root.nodes
        assert [node.number for node in nodes[1:-1]] == list(range(1001, 999 + COUNT))
        assert [node.new.then.number for node in nodes[::30]] == [-2] * 7
        assert other.root.counter.value == 3
        assert other.root.meddling.number == 7
        with other.root.blob.open() as file:
            assert file.read() == b"after"


def test_it_makes_no_difference_how_changes_get_into_the_storage(tmp_path: Path) -> None:
    written = []
    for name in "direct", "one by one":
        opened = perdure.DB(perdure.FileStorage(str(tmp_path / name), create=True))
        connection = opened.open()
        nodes = connection.root.nodes = [Node(number=number) for number in range(COUNT)]
        connection.root.meddling = Meddling()
        transaction.commit()
        storage = connection._storage
        if name == "one by one":
            storage.store = storage.store  # No longer the class's own: it is called.
        for node in nodes[::-3]:
            node.number += 1
            node.new = Node(then=Node())
        connection.root.meddling.others = [nodes[1], nodes[2]]
        nodes[50]._p_changed = False
        transaction.commit()
        each = list(opened.storage.iterator())[-1]
        written.append([(record.oid, record.data) for record in each])
        connection.close()
        opened.close()
    assert sorted(written[0]) == sorted(written[1])
    assert len(written[0]) > COUNT // 3 * 3


def test_a_change_that_was_taken_back_by_hand_is_not_stored(database: perdure.DB) -> None:
    connection = database.open()
    nodes = connection.root.nodes
    for node in nodes[:10]:
        node.number = -1
    nodes[5]._p_changed = False
    transaction.commit()
    connection.cacheMinimize()
    connection.close()
    with database.transaction() as other:
        assert [node.number for node in other.root.nodes[:10]].count(-1) == 9


def test_a_large_record_among_changes_is_warned_of_and_stored(database: perdure.DB) -> None:
    connection = database.open()
    nodes = connection.root.nodes
    for node in nodes[:10]:
        node.number = -1
    nodes[5].text, nodes[5].new = "x" * 100_000, Node(number=-2)
    with pytest.warns(UserWarning, match="Node object you're saving is large"):
        transaction.commit()
    connection.close()
    with database.transaction() as other:
        assert len(other.root.nodes[5].text) == 100_000
        assert other.root.nodes[5].new.number == -2
        assert {node.number for node in other.root.nodes[:10]} == {-1}


def test_a_change_that_cannot_be_stored_keeps_all_others_out(database: perdure.DB) -> None:
    connection = database.open()
    nodes = connection.root.nodes
    for node in nodes[:10]:
        node.number = -1
    nodes[5].lock = threading.Lock()
    with pytest.raises(UnpicklableError, match="lock"):
        transaction.commit()
    transaction.abort()
    assert [node.number for node in nodes[:10]] == list(range(10))
    connection.close()


def test_conflicts_of_many_changes_are_found(database: perdure.DB) -> None:
    connection = database.open()
    nodes = connection.root.nodes
    for node in nodes[:10]:
        node.number = -1
    with database.transaction() as other:
        other.root.nodes[7].number = -2
    with pytest.raises(ConflictError) as caught:
        transaction.commit()
    assert caught.value.oid == nodes[7]._p_oid
    transaction.abort()
    assert [node.number for node in nodes[:10]] == [0, 1, 2, 3, 4, 5, 6, -2, 8, 9]
    connection.close()


def test_the_native_way_is_the_one_that_is_tested(database: perdure.DB) -> None:
    connection = database.open()
    change_all_sorts(connection)
    taken = 0

    class Watched(_native.ObjectWriter):
        def take_over(self, registered: list[Any], *arguments: Any) -> Any:
            nonlocal taken
            commit = connection._commit_running
            assert commit is not None
            before = len(commit.stored)
            result = super().take_over(registered, *arguments)
            taken += len(commit.stored) - before
            return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(committed, "ObjectWriter", Watched)
        patched.setattr(_native, "ObjectWriter", Watched)
        transaction.commit()
    assert taken > COUNT * 0.9
    connection.close()
