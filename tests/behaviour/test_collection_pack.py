"""Packing a member of a collection: what only another member refers to stays."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.conftest import OpenDatabase
from tests.behaviour.models import Account

import perdure
from perdure import errors
from perdure.storage import MappingStorage
from perdure.storage.demo import DemoStorage
from perdure.storage.zlib import ZlibStorage


class TakesNoAdvice(MappingStorage):
    """Can't be told how to pack, like many storages of others."""

    def pack(self, t: float, referencesf: Callable[..., Any]) -> None:  # type: ignore[override]
        raise AssertionError("packed all the same")


def _referring(databases: dict[str, Any]) -> tuple[perdure.DB, perdure.DB]:
    """Have `one` refer to an account in `two` that nothing in `two` refers to."""
    one, two = databases["one"], databases["two"]
    with one.transaction() as conn:
        account = Account(1.0)
        conn.get_connection("two").add(account)
        conn.root.account = account
    with one.transaction() as conn:
        conn.root.account.deposit(1.0)
    return one, two


def test_pack_keeps_what_another_member_references(open_db: OpenDatabase) -> None:
    databases: dict[str, Any] = {}
    open_db("One", database_name="one", databases=databases)
    open_db("Two", database_name="two", databases=databases)
    one, two = _referring(databases)
    for db in (two, one):
        # What can't be told to keep such objects isn't packed at all.
        with contextlib.suppress(errors.Unsupported):
            db.pack(time.time() + 1)
    with one.transaction() as conn:
        conn.cacheMinimize()
        assert conn.root.account.cash == 0


def test_pack_of_a_member_still_drops_old_revisions() -> None:
    databases: dict[str, Any] = {}
    for name in ("one", "two"):
        perdure.DB(None, database_name=name, databases=databases)
    one, two = _referring(databases)
    with one.transaction() as conn:
        oid = conn.root.account._p_oid
    assert len(two.history(oid, 10)) == 2
    two.pack(time.time() + 1)
    assert len(two.history(oid, 10)) == 1


def test_pack_of_a_database_that_is_alone_drops_garbage() -> None:
    db = perdure.DB(None)
    with db.transaction() as conn:
        conn.add(Account())
    before = db.objectCount()
    db.pack(time.time() + 1)
    assert db.objectCount() == before - 1


def test_a_member_that_can_not_be_told_to_keep_garbage_is_not_packed() -> None:
    databases: dict[str, Any] = {}
    perdure.DB(None, database_name="one", databases=databases)
    two = perdure.DB(TakesNoAdvice("foreign"), database_name="two", databases=databases)
    with pytest.raises(errors.Unsupported, match=r"foreign.*\(one, two\)"):
        two.pack()


def _garbage(db: perdure.DB) -> Any:
    """Add an object that nothing refers to; return its oid."""
    with db.transaction() as conn:
        account = Account(2.0)
        conn.add(account)
        return account._p_oid


def _exists(db: perdure.DB, oid: Any) -> bool:
    try:
        db.storage.getTid(oid)
    except KeyError:
        return False
    return True


def _collection(folder: Path, *names: str) -> perdure.Collection:
    return perdure.Collection({name: folder / f"{name}.fs" for name in names})


def test_pack_of_a_member_drops_what_no_member_refers_to(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        one, two = _referring(dict(members))
        garbage = _garbage(two)
        two.pack(time.time() + 1)
        assert not _exists(two, garbage)
        with one.transaction() as conn:
            conn.cacheMinimize()
            assert conn.root.account.cash == 0


def test_packing_all_members_drops_circles_between_them(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        with members.transaction() as conn:
            first, second = Account(1.0), Account(2.0)
            conn["one"].add(first)
            conn["two"].add(second)
            first.other, second.other = second, first
        oids = first._p_oid, second._p_oid
        members.pack(time.time() + 1)
        assert not _exists(members["one"], oids[0])
        assert not _exists(members["two"], oids[1])


@pytest.mark.parametrize("layer", [lambda base: base, ZlibStorage])
def test_no_member_is_packed_where_one_can_not_be(
    tmp_path: Path, layer: Callable[[Any], Any]
) -> None:
    members = {"own": tmp_path / "own.fs", "other": layer(TakesNoAdvice("other"))}
    with perdure.Collection(members) as collection:
        for number in range(3):
            with collection.transaction() as conn:
                conn.root.number = number
        before = collection["own"].getSize()
        with pytest.raises(errors.Unsupported, match="other can't be told to pack without"):
            collection.pack(time.time() + 1)
        assert collection["own"].getSize() == before
        collection["own"].pack(time.time() + 1)
        assert collection["own"].getSize() < before


def test_no_member_is_packed_where_one_is_read_only(tmp_path: Path) -> None:
    for name in ("own", "other"):
        with perdure.DB(tmp_path / f"{name}.fs") as db:
            for number in range(3):
                with db.transaction() as conn:
                    conn.root.number = number
    storages = {
        "own": perdure.FileStorage(tmp_path / "own.fs"),
        "other": perdure.FileStorage(tmp_path / "other.fs", read_only=True),
    }
    with perdure.Collection(storages) as collection:
        before = collection["own"].getSize()
        with pytest.raises(errors.ReadOnlyError, match="other"):
            collection.pack(time.time() + 1, gc=False)
        assert collection["own"].getSize() == before


def test_gc_can_be_left_out(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        garbage = _garbage(members["two"])
        members["two"].pack(time.time() + 1, gc=False)
        assert _exists(members["two"], garbage)
        storage = perdure.FileStorage(tmp_path / "three.fs", pack_gc=False)
        three = perdure.DB(storage, database_name="three", databases=members.databases)
        first = _garbage(three)
        three.pack(time.time() + 1)
        assert _exists(three, first)
        second = _garbage(three)
        three.pack(time.time() + 1, gc=True)
        assert not _exists(three, first)
        assert not _exists(three, second)


def test_a_member_is_not_packed_while_another_one_is_closed(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        one, two = _referring(dict(members))
        size = two.getSize()
        one.close()
        with pytest.raises(errors.MissingMemberError, match=r"'one'.*is closed") as refused:
            two.pack(time.time() + 1)
        assert refused.value.database == "one"
        assert two.getSize() == size
        two.pack(time.time() + 1, gc=False)
        assert two.getSize() < size


def test_a_member_is_not_packed_while_another_process_may_change_one(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        _referring(dict(members))
    databases: dict[str, Any] = {}
    storage = perdure.FileStorage(tmp_path / "one.fs", read_only=True)
    one = perdure.DB(storage, database_name="one", databases=databases)
    two = perdure.DB(tmp_path / "two.fs", database_name="two", databases=databases)
    with pytest.raises(errors.MissingMemberError, match=r"'one'.*read-only"):
        two.pack(time.time() + 1)
    one.close()
    two.close()


def test_a_database_that_refers_to_others_is_not_packed_alone(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        _referring(dict(members))
    with perdure.DB(tmp_path / "one.fs") as alone:
        size = alone.getSize()
        with pytest.raises(errors.MissingMemberError, match="'two', which isn't at hand") as told:
            alone.pack(time.time() + 1)
        assert told.value.database == "two"
        assert alone.getSize() == size
        alone.pack(time.time() + 1, gc=False)
        assert alone.getSize() < size


def test_a_member_is_not_packed_without_one_that_a_record_refers_to(tmp_path: Path) -> None:
    with _collection(tmp_path, "one", "two") as members:
        _referring(dict(members))
    refused = pytest.raises(errors.MissingMemberError, match="'two', which isn't at hand")
    with _collection(tmp_path, "one", "three") as others, refused:
        others["one"].pack(time.time() + 1)


def test_what_cannot_be_asked_keeps_garbage_from_being_dropped(tmp_path: Path) -> None:
    databases: dict[str, Any] = {}
    overlay = DemoStorage(base=MappingStorage())
    perdure.DB(overlay, database_name="one", databases=databases)
    with perdure.DB(tmp_path / "two.fs", database_name="two", databases=databases) as two:
        garbage = _garbage(two)
        two.pack(time.time() + 1)
        assert _exists(two, garbage)
        with pytest.raises(errors.Unsupported, match="can't be asked"):
            two.pack(time.time() + 2, gc=True)
