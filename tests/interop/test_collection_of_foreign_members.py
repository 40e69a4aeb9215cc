"""Members whose storages are not perdure's: RelStorage on SQLite, a ZEO client, stock's file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Node
from tests.behaviour.storages import STORAGES

import perdure
from perdure.errors import ConflictError, Unsupported
from perdure.mvcc import InstanceView, MVCCView
from perdure.storage.view import EngineView

FOREIGN = {
    kind.name: kind for kind in STORAGES if kind.name in {"relstorage-sqlite", "zeo", "zodb-file"}
}


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[perdure.Collection]:
    """One member of perdure's, one in SQLite, one behind a ZEO server."""
    with contextlib.ExitStack() as stack:
        members: dict[str, Any] = {
            "own": tmp_path / "own.fs",
            "sql": stack.enter_context(FOREIGN["relstorage-sqlite"].opened(tmp_path, "sql")),
            "zeo": stack.enter_context(FOREIGN["zeo"].opened(tmp_path, "zeo")),
        }
        with perdure.Collection(members) as made:
            yield made


def fill(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        for name in collection:
            node = Node(name=name)
            conn[name].add(node)
            conn[name].root.node = node
        conn.root.sql, conn.root.zeo = conn["sql"].root.node, conn["zeo"].root.node
        conn["sql"].root.own = conn.root.node


def numbers(collection: perdure.Collection) -> list[int | None]:
    with collection.transaction() as conn:
        return [getattr(conn[name].root.node, "number", None) for name in collection]


def test_a_transaction_over_all_of_them_is_committed_and_read_again(
    collection: perdure.Collection,
) -> None:
    fill(collection)
    with collection.transaction() as conn:
        conn.cacheMinimize()
        assert conn.root.sql.name == "sql"
        assert conn.root.zeo.name == "zeo"
        assert conn.root.sql._p_jar is conn["sql"]
        assert conn["sql"].root.own is conn.root.node


def test_they_vote_and_finish_in_the_order_of_their_sort_keys(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(collection)
    steps: list[tuple[str, str]] = []

    def noted(cls: type, name: str) -> None:
        before = getattr(cls, name)

        def step(self: Any, *arguments: Any, **options: Any) -> Any:
            steps.append((name, self.sortKey()))
            return before(self, *arguments, **options)

        monkeypatch.setattr(cls, name, step)

    for cls in (EngineView, MVCCView, InstanceView):
        for name in ("tpc_vote", "tpc_finish"):
            noted(cls, name)
    with collection.transaction() as conn:
        for name in collection:
            conn[name].root.node.number = 1
    keys = sorted(database._mvcc_storage.sortKey() for database in collection.values())
    assert len(set(keys)) == 3
    assert steps == [(step, key) for step in ("tpc_vote", "tpc_finish") for key in keys]


def test_no_member_is_packed_where_one_can_not_be_told_what_to_keep(
    collection: perdure.Collection,
) -> None:
    fill(collection)
    fill(collection)
    before = collection["own"].getSize()
    with pytest.raises(Unsupported, match="can't be told to pack without"):
        collection.pack()
    assert collection["own"].getSize() == before


@pytest.mark.parametrize("failing", ["own", "sql", "zeo"])
def test_a_conflict_in_one_changes_none(collection: perdure.Collection, failing: str) -> None:
    fill(collection)
    manager = transaction.TransactionManager()
    conn = collection.open(manager)
    for name in collection:
        conn[name].root.node.number = 1
    with collection.transaction() as other:
        other[failing].root.node.number = 2
    with pytest.raises(ConflictError):
        manager.commit()
    manager.abort()
    conn.close()
    assert numbers(collection) == [2 if name == failing else None for name in collection]


def test_a_resource_that_votes_no_changes_none(collection: perdure.Collection) -> None:
    class Refusing:
        def sortKey(self) -> str:
            return "~~~ behind all others"

        def tpc_vote(self, _transaction: Any) -> None:
            raise RuntimeError("no")

        def nothing(self, _transaction: Any) -> None:
            pass

        abort = tpc_begin = commit = tpc_finish = tpc_abort = nothing

    fill(collection)
    manager = transaction.TransactionManager()
    conn = collection.open(manager)
    for name in collection:
        conn[name].root.node.number = 1
    manager.get().join(Refusing())
    with pytest.raises(RuntimeError, match="no"):
        manager.commit()
    manager.abort()
    conn.close()
    assert numbers(collection) == [None, None, None]


def test_what_is_promised_is_told_at_run_time(collection: perdure.Collection) -> None:
    guarantees = collection.guarantees()
    missing = guarantees.missing()
    for promise in ("atomic_over_crashes", "one_tid", "one_snapshot"):
        assert not getattr(guarantees, promise)
        assert missing[promise] == ["sql", "zeo"]
    assert guarantees.references
    own, sql, zeo = (guarantees.members[name] for name in ("own", "sql", "zeo"))
    assert (own.joint, own.durable, own.atomic_over_crashes, own.backup) == (True,) * 4
    assert (sql.joint, sql.durable, sql.atomic_over_crashes, sql.gc) == (False, None, False, False)
    assert (zeo.joint, zeo.undo, zeo.backup) == (False, False, False)
    assert sql.storage == "relstorage.storage.RelStorage"
    text = str(guarantees)
    assert "atomic over crashes: no (sql, zeo)" in text
    assert "  zeo: ZEO.ClientStorage.ClientStorage, two-phase commit only" in text


def test_what_is_not_promised_is_refused_not_guessed(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    fill(collection)
    assert {"gc", "undo", "backup", "repair"} <= set(collection.guarantees().missing())
    with pytest.raises(Unsupported):
        collection.gc()
    with pytest.raises(Unsupported):
        collection.undo(b"AAAAAAAAAAA=")
    # The log can be read all the same.
    assert {name for entry in collection.undoLog() for name in entry["members"]} >= {"own", "sql"}
    with pytest.raises(Unsupported, match="'sql'"):
        collection.backup(tmp_path / "backup")


def test_checks_and_references_see_all_of_them(collection: perdure.Collection) -> None:
    fill(collection)
    assert all(report.ok for report in collection.check().values())
    with collection.transaction() as conn:
        oid = conn["sql"].root.node._p_oid
    references = collection.references()
    assert {place.member for place in references.referrers("sql", oid)} == {"own", "sql"}
    assert references.path("sql", oid)
    assert references.dangling() == []


def test_all_of_them_are_copied(collection: perdure.Collection, tmp_path: Path) -> None:
    fill(collection)
    collection.copy(tmp_path / "copy")
    files = {name: tmp_path / "copy" / f"{name}.fs" for name in collection}
    with perdure.Collection(files) as copies:
        assert all(report.ok for report in copies.check().values())
        assert copies.guarantees().atomic_over_crashes
        with copies.transaction() as conn:
            assert [conn.root.sql.name, conn.root.zeo.name] == ["sql", "zeo"]


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_collection_of_foreign_members_alone_works(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        members = {
            name: stack.enter_context(FOREIGN[kind].opened(tmp_path, name)) for name in ("a", "b")
        }
        with perdure.Collection(members) as collection:
            with collection.transaction() as conn:
                conn["b"].root.there = there = Node(n=1)
                conn["b"].add(there)
                conn.root.there = there
            with collection.transaction() as conn:
                conn.cacheMinimize()
                assert conn.root.there is conn["b"].root.there
                assert conn.root.there.n == 1
            assert not collection.guarantees().atomic_over_crashes
