"""`DemoStorage2`: an overlay whose new oids can't meet one of the base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.config
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from tests.storing import commit, oid

from perdure.config import storageFromString
from perdure.db import DB
from perdure.errors import StorageError
from perdure.ids import p64, u64
from perdure.interfaces import IStorageUndoable
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage, DemoStorage2

SECTION = """
    %import zc.demostorage2
    <demostorage2>
       <filestorage base>
          path base.fs
       </filestorage>
       <filestorage changes>
          path changes.fs
       </filestorage>
    </demostorage2>
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["perdure", "stock"])
def open_file(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a file storage: perdure's, or stock's."""
    return FileStorage if request.param == "perdure" else ZODB.FileStorage.FileStorage


@pytest.fixture(params=["perdure", "stock"])
def database(request: pytest.FixtureRequest) -> Any:
    return DB if request.param == "perdure" else ZODB.DB


@pytest.fixture
def base(open_file: Callable[..., Any]) -> Any:
    db = DB(open_file("base.fs"))
    with db.transaction() as connection:
        connection.root()["1"] = PersistentMapping({"a": 1, "b": 2})
    db.close()
    return open_file("base.fs", read_only=True)


@pytest.fixture
def demo2(base: Any, open_file: Callable[..., Any]) -> Any:
    storage = DemoStorage2(base, open_file("changes.fs"))
    yield storage
    storage.close()


def test_a_configuration_describes_it() -> None:
    FileStorage("base.fs").close()
    storage = storageFromString(SECTION)
    assert repr(storage) == "<DemoStorage2: DemoStorage2(base.fs, changes.fs)>"
    assert storage.getName() == "DemoStorage2(base.fs, changes.fs)"
    storage.close()


def test_it_keeps_the_base_and_shows_both(
    demo2: Any, base: Any, database: Any, open_file: Callable[..., Any]
) -> None:
    size = Path("base.fs").stat().st_size
    changes = demo2.changes
    assert demo2.lastTransaction() == base.lastTransaction()
    db = database(demo2)
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    assert sorted(connection.root()["1"].items()) == [("a", 1), ("b", 2)]
    connection.root()["2"] = PersistentMapping({"a": 3, "b": 4})
    manager.commit()
    connection.root()["2"]["c"] = 5
    manager.commit()
    assert Path("base.fs").stat().st_size == size
    assert len(changes) == 2
    assert demo2.lastTransaction() > base.lastTransaction()
    assert demo2.lastTransaction() == changes.lastTransaction()
    assert demo2.load(p64(0), "") == changes.load(p64(0), "")
    assert demo2.load(p64(0), "") != base.load(p64(0), "")
    assert demo2.load(p64(1), "") == base.load(p64(1), "")
    for layer in (base, changes):
        serial = layer.getTid(p64(0))
        assert demo2.loadSerial(p64(0), serial) == layer.loadSerial(p64(0), serial)
    assert u64(connection.root()["2"]._p_oid) == 2**63
    connection.close()


def test_what_it_says_of_itself_is_what_its_layers_say(demo2: Any) -> None:
    changes = demo2.changes
    assert demo2.getName() == f"DemoStorage2({demo2.base.getName()}, {changes.getName()})"
    assert demo2.getName().endswith("base.fs, changes.fs)")
    assert repr(demo2) == f"<DemoStorage2: {demo2.getName()}>"
    assert demo2.sortKey() == changes.sortKey()
    assert demo2.getSize() == changes.getSize()
    commit(demo2, {1: b"changed"})
    assert demo2.getSize() == changes.getSize() > 4
    assert len(demo2) == len(changes) == 1


def test_its_methods_for_undoing_are_the_changes(demo2: Any) -> None:
    names = ("supportsUndo", "undo", "undoLog", "undoInfo")
    assert [getattr(demo2, name) == getattr(demo2.changes, name) for name in names] == [True] * 4
    assert demo2.supportsUndo()
    assert IStorageUndoable.providedBy(demo2)


def test_new_oids_are_given_out_in_sequence(demo2: Any) -> None:
    assert [u64(demo2.new_oid()) - 2**63 for _ in range(3)] == [0, 1, 2]
    commit(demo2, {2**63 + 7: b"data"})
    assert u64(demo2.new_oid()) == 2**63 + 8


def test_it_goes_on_numbering_when_it_is_opened_again(
    demo2: Any, open_file: Callable[..., Any]
) -> None:
    commit(demo2, {u64(demo2.new_oid()): b"data"})
    demo2.close()
    again = DemoStorage2(open_file("base.fs", read_only=True), open_file("changes.fs"))
    assert u64(again.new_oid()) > 2**63
    assert again.load(oid(2**63))[0] == b"data"
    again.close()


def test_over_another_it_goes_on_above_its_base(demo2: Any, tmp_path: Path) -> None:
    key = u64(demo2.new_oid())
    commit(demo2, {key: b"data"})
    above = DemoStorage2(demo2, MappingStorage())
    assert u64(above.new_oid()) == key + 1
    commit(above, {key + 1: b"above"})
    assert above.load(oid(key))[0] == b"data"
    third = DemoStorage2(above, MappingStorage())
    assert u64(third.new_oid()) == key + 2
    # A layer in between doesn't hide where the base has come to.
    in_between = DemoStorage2(DemoStorage(base=above), MappingStorage())
    assert u64(in_between.new_oid()) == key + 2
    third.close()


def test_over_one_that_is_only_read_it_goes_on_above_its_base(
    demo2: Any, open_file: Callable[..., Any]
) -> None:
    commit(demo2, {u64(demo2.new_oid()): b"one", u64(demo2.new_oid()): b"two"})
    demo2.close()
    files = [open_file(name, read_only=True) for name in ("base.fs", "changes.fs")]
    above = DemoStorage2(DemoStorage2(*files), MappingStorage())
    assert u64(above.new_oid()) == 2**63 + 2
    above.close()


def test_it_closes_both_layers() -> None:
    base, changes = MappingStorage(), MappingStorage()
    DemoStorage2(base, changes).close()
    for layer in (base, changes):
        with pytest.raises((ValueError, StorageError)):
            commit(layer, {1: b"data"})
