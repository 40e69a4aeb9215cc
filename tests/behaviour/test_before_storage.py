"""An unchanging view of a storage that changes."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.FileStorage
from tests.storing import commit, oid

from perdure.db import DB
from perdure.errors import POSKeyError, ReadOnlyError
from perdure.ids import MAX_TID, Oid, Tid, p64, u64
from perdure.interfaces import IStorageCurrentRecordIteration
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.before import BeforeStorage
from perdure.storage.demo import DemoStorage
from perdure.timestamp import TimeStamp, tid_at_datetime

ROOT = Oid(p64(0))


@pytest.fixture(params=["perdure-file", "perdure-mapping", "stock-file"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A storage whose root has a, 0 at first, set to 1, 2 and 3 one after the other."""
    path = str(tmp_path / "data.fs")
    make: dict[str, Callable[[], Any]] = {
        "perdure-file": lambda: FileStorage(path),
        "perdure-mapping": MappingStorage,
        "stock-file": lambda: ZODB.FileStorage.FileStorage(path),
    }
    made = make[request.param]()
    yield made
    made.close()


@pytest.fixture
def db(base: Any) -> Any:
    made = DB(base)
    for number in range(4):
        with made.transaction() as connection:
            connection.root()["a"] = number
    yield made
    made.close()


def tids(storage: Any) -> list[Tid]:
    return [txn.tid for txn in storage.iterator()]


def value_at(view: BeforeStorage) -> Any:
    db = DB(view)
    connection = db.open(transaction.TransactionManager())
    try:
        return connection.root().get("a")
    finally:
        connection.close()


def test_it_shows_what_was_committed_before_the_moment(db: DB) -> None:
    _, *written = tids(db.storage)
    for number, tid in enumerate(written):
        assert value_at(BeforeStorage(db.storage, Tid(p64(u64(tid) + 1)))) == number
    assert value_at(BeforeStorage(db.storage, written[1])) == 0


def test_without_a_moment_it_shows_what_is_there_when_it_is_made(db: DB) -> None:
    view = BeforeStorage(db.storage)
    with db.transaction() as connection:
        connection.root()["a"] = "later"
    assert value_at(view) == 3
    assert view.lastTransaction() >= tids(db.storage)[-2]
    assert view.lastTransaction() < tids(db.storage)[-1]


@pytest.mark.parametrize(
    ("moment", "seen"),
    [
        ("2026-11-21", "2026-11-21 00:00:00"),
        ("2026-11-21T10", "2026-11-21 10:00:00"),
        ("2026-11-21T10:30", "2026-11-21 10:30:00"),
        ("2026-11-21T10:30:05", "2026-11-21 10:30:05"),
        ("2026-11-21T10:30:05.500", "2026-11-21 10:30:05.5"),
        (dt.datetime(2026, 11, 21, 10, 30), "2026-11-21 10:30:00"),
        (
            dt.datetime(2026, 11, 21, 10, 30, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            "2026-11-21 08:30:00",
        ),
    ],
)
def test_the_moment_may_be_a_time_or_its_text(moment: Any, seen: str) -> None:
    view = BeforeStorage(MappingStorage("base"), moment)
    assert view.before == tid_at_datetime(dt.datetime.fromisoformat(seen.replace(".5", ".500")))
    assert view.getName() == f"base before {TimeStamp(view.before)}"


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", b"short"])
def test_what_is_no_moment_is_refused(moment: Any) -> None:
    with pytest.raises(ValueError, match=r"moment|tid"):
        BeforeStorage(MappingStorage(), moment)


def test_a_revision_that_was_replaced_later_is_the_current_one(db: DB) -> None:
    _, zero, one, two, three = tids(db.storage)
    view = BeforeStorage(db.storage, three)
    data, serial = view.load(ROOT)
    assert serial == two
    assert view.getTid(ROOT) == two
    assert view.loadBefore(ROOT, MAX_TID) == (data, two, None)
    found = view.loadBefore(ROOT, two)
    assert found is not None
    assert found[1:] == (one, two)
    assert view.loadSerial(ROOT, zero) == db.storage.loadSerial(ROOT, zero)
    with pytest.raises(POSKeyError):
        view.loadSerial(ROOT, three)
    assert [entry["tid"] for entry in view.history(ROOT, 2)] == [two, one]
    assert len(view.history(ROOT, 9)) == 4


def test_iterating_ends_before_the_moment(db: DB) -> None:
    found = tids(db.storage)
    view = BeforeStorage(db.storage, found[3])
    assert tids(view) == found[:3]
    assert [txn.tid for txn in view.iterator(found[1], found[4])] == found[1:3]


def test_nothing_can_be_written(db: DB) -> None:
    view = BeforeStorage(db.storage)
    assert view.isReadOnly()
    for write in (
        view.new_oid,
        lambda: view.tpc_begin(None),
        lambda: view.store(ROOT, MAX_TID, b"", "", None),
        lambda: view.tpc_vote(None),
        lambda: view.tpc_finish(None),
        lambda: view.pack(0.0, lambda data: []),
    ):
        with pytest.raises(ReadOnlyError, match="view of the past"):
            write()
    view.tpc_abort(None)


def test_a_connection_to_it_is_read_only(db: DB) -> None:
    view = DB(BeforeStorage(db.storage))
    manager = transaction.TransactionManager()
    connection = view.open(manager)
    assert connection.isReadOnly()
    connection.root()["a"] = "new"
    with pytest.raises(ReadOnlyError):
        manager.commit()
    manager.abort()
    assert connection.root()["a"] == 3
    connection.close()


def test_closing_it_closes_the_base() -> None:
    base = MappingStorage()
    BeforeStorage(base).close()
    with pytest.raises(Exception, match="closed"):
        DB(base)


def current(storage: Any) -> dict[Oid, tuple[Tid, bytes]]:
    """What `record_iternext` gives of a storage, all of it."""
    found: dict[Oid, tuple[Tid, bytes]] = {}
    following: Any = None
    while True:
        oid, tid, data, following = storage.record_iternext(following)
        assert oid not in found
        assert not found or oid > max(found)
        found[oid] = tid, data
        if following is None:
            return found


def test_its_current_records_are_those_of_the_moment(base: Any) -> None:
    serial = commit(base, {1: b"old", 3: b"old"})
    view = BeforeStorage(base)
    expected = current(base)
    assert current(view) == expected == {oid(each): (serial, b"old") for each in (1, 3)}
    commit(base, {2: b"later"})
    commit(base, {}, delete=[3])
    commit(base, {1: b"new"})
    assert current(view) == expected
    commit(base, {}, delete=[1])
    assert current(view) == expected
    with pytest.raises(ValueError, match="no object"):
        BeforeStorage(base, serial).record_iternext()


def test_an_overlay_over_it_has_its_current_records(base: Any) -> None:
    first = commit(base, {1: b"one"})
    demo = DemoStorage(base=BeforeStorage(base))
    commit(base, {2: b"later"})
    commit(base, {}, delete=[1])
    assert current(demo) == {oid(1): (first, b"one")}
    assert IStorageCurrentRecordIteration.providedBy(demo)
    added = commit(demo, {7: b"added"})
    assert current(demo) == {oid(1): (first, b"one"), oid(7): (added, b"added")}
