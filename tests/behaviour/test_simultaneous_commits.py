"""Commits that meet one another while an earlier one is not yet durable."""

import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from tests.storing import begun, oid

import perdure
from perdure.demo import Counter
from perdure.errors import ConflictError, ReadConflictError
from perdure.ids import NO_TID, Tid

PATIENCE_S = 30


def counter(value: int) -> bytes:
    return pickle.dumps(Counter, 3) + pickle.dumps({"value": value}, 3)


def plain(value: int) -> bytes:
    return pickle.dumps(OOBTree, 3) + pickle.dumps(value, 3)


@pytest.fixture(params=["file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    kinds: dict[str, Callable[[], Any]] = {
        "file": lambda: perdure.FileStorage(str(tmp_path / "data.fs")),
        "memory": perdure.MappingStorage,
    }
    made = kinds[request.param]()
    yield made
    made.close()


def store(storage: Any, data: bytes, serial: Tid) -> Any:
    txn = begun(storage)
    storage.store(oid(1), serial, data, "", txn)
    return txn


def commit(storage: Any, data: bytes, serial: Tid, before_visible: Any = None) -> Tid:
    txn = store(storage, data, serial)
    storage.tpc_vote(txn)
    tid: Tid = storage.tpc_finish(txn, before_visible)
    return tid


def test_a_conflict_with_a_commit_that_nobody_sees_yet_is_resolved(storage: Any) -> None:
    first = commit(storage, counter(10), NO_TID)
    later = store(storage, counter(13), first)

    def while_invisible(tid: Tid) -> None:
        assert storage.lastTransaction() == first
        assert storage.tpc_vote(later) == [oid(1)]

    commit(storage, counter(15), first, while_invisible)
    storage.tpc_finish(later)
    assert pickle.loads(storage.load(oid(1))[0][len(pickle.dumps(Counter, 3)) :]) == {"value": 18}


def _check_read(storage: Any, serial: Tid) -> Any:
    txn = begun(storage)
    storage.checkCurrentSerialInTransaction(oid(1), serial, txn)
    return txn


def _store_plain(storage: Any, serial: Tid) -> Any:
    return store(storage, plain(3), serial)


@pytest.mark.parametrize(
    ("prepare", "error"), [(_store_plain, ConflictError), (_check_read, ReadConflictError)]
)
def test_a_conflict_is_told_when_who_tries_again_can_see_what_was_in_the_way(
    storage: Any, prepare: Callable[[Any, Tid], Any], error: type[Exception]
) -> None:
    first = commit(storage, plain(1), NO_TID)
    later = prepare(storage, first)
    voting, told = threading.Event(), threading.Event()
    seen: list[Tid] = []

    def vote() -> None:
        voting.set()
        with pytest.raises(error):
            storage.tpc_vote(later)
        seen.append(storage.lastTransaction())
        told.set()
        storage.tpc_abort(later)

    thread = threading.Thread(target=vote)

    def while_invisible(tid: Tid) -> None:
        thread.start()
        assert voting.wait(PATIENCE_S)
        assert not told.wait(0.1)

    second = commit(storage, plain(2), first, while_invisible)
    thread.join(PATIENCE_S)
    assert seen == [second]


def test_threads_that_raise_one_counter_and_fill_one_tree_lose_nothing(tmp_path: Path) -> None:
    db = perdure.DB(str(tmp_path / "data.fs"))
    with db.transaction() as connection:
        connection.root.counter = Counter()
        connection.root.tree = OOBTree()

    def work(key: int) -> None:
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        for number in range(50):
            for attempt in manager.attempts(5):
                with attempt:
                    connection.root.counter.add()
                    connection.root.tree[key, number] = number
        connection.close()

    threads = [threading.Thread(target=work, args=(key,)) for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    with db.transaction() as connection:
        assert connection.root.counter.value == len(connection.root.tree) == 200
    db.close()
