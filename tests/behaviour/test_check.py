"""Checks find what is wrong, say where it is and what leads there, and change nothing."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Node
from tests.behaviour.storages import StorageKind
from tests.storing import oid, undo

import perdure
from perdure.connection.metadata import TransactionMetaData
from perdure.errors import NotADatabase
from perdure.ids import NO_TID, p64

DATA = Path(__file__).parents[1] / "data"
WHOLE = ["basic", "blobs", "multi_a", "multi_b", "packed", "undo"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_of_stock_are_found_to_be_so(name: str) -> None:
    report = perdure.check(DATA / f"{name}.fs")
    assert report.ok
    assert report.findings == []
    assert report.transactions > 0


def test_a_check_tells_how_much_it_read() -> None:
    report = perdure.check(DATA / "basic.fs")
    with closing(perdure.FileStorage(str(DATA / "basic.fs"), read_only=True)) as storage:
        assert report.objects == len(storage)
        assert report.transactions == len(list(storage.iterator()))
        assert report.bytes_read == storage.getSize()
    assert "nothing is wrong" in str(report)


def test_a_new_database_is_whole_in_any_storage(db: Any, conn: Any, tm: Any) -> None:
    conn.root.node = Node(other=Node())
    tm.commit()
    assert perdure.check(db).ok


def test_an_unreadable_record_is_found_with_its_path_from_the_root() -> None:
    report = perdure.check(DATA / "damaged_middle.fs")
    (finding,) = report.findings
    assert finding.kind == "unreadable"
    assert finding.class_name == "BTrees.OOBTree.OOBucket"
    assert finding.position == 82126
    assert [step.class_name for step in finding.path] == [
        "persistent.mapping.PersistentMapping",
        "persistent.mapping.PersistentMapping",
        "BTrees.OOBTree.OOBTree",
        "BTrees.OOBTree.OOBucket",
    ]
    assert "0x00 PersistentMapping > 0x01" in str(finding)


@pytest.mark.parametrize(
    ("name", "kind", "position"),
    [
        ("truncated", "damaged", 163543),
        ("garbage_tail", "damaged", 164860),
        ("voted_tail", "unfinished", 164199),
        ("zeroed_in_last", "unreadable", 164314),
    ],
)
def test_damage_is_found_where_it_is(name: str, kind: str, position: int) -> None:
    (finding,) = perdure.check(DATA / f"{name}.fs").findings
    assert (finding.kind, finding.position) == (kind, position)


def test_damage_in_the_middle_hides_nothing_behind_it(tmp_path: Path) -> None:
    content = bytearray((DATA / "basic.fs").read_bytes())
    with closing(perdure.FileStorage(str(DATA / "basic.fs"), read_only=True)) as storage:
        start = list(storage._native.transactions())[3][5]
    content[start + 9 : start + 14] = b"\xff" * 5
    path = tmp_path / "Data.fs"
    path.write_bytes(content)
    report = perdure.check(path)
    assert report.findings[0].kind == "damaged"
    assert report.findings[0].position == start
    assert report.transactions == 24
    assert all(finding.kind != "damaged" for finding in report.findings[1:])


def store(storage: Any, number: int, data: bytes) -> None:
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid(number), NO_TID, data, "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)


def referring(*numbers: int) -> bytes:
    references = b"".join(b"C\x08" + p64(number) + b"Q" for number in numbers)
    return b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03(" + references + b"t."


def test_a_reference_to_nothing_names_who_refers_to_it(kind: StorageKind, tmp_path: Path) -> None:
    with kind.opened(tmp_path, "Data") as storage:
        store(storage, 0, referring(1))
        store(storage, 1, referring(0, 2))
        report = perdure.check(storage)
        (finding,) = report.findings
        assert (finding.kind, finding.oid, finding.target) == ("missing", oid(1), oid(2))
        assert [step.oid for step in finding.path] == [oid(0), oid(1)]
        storage.close()


def test_a_reference_to_nothing_is_found_before_and_behind_damage(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    with closing(perdure.FileStorage(str(path))) as storage:
        store(storage, 1, referring(7))
        start = storage.getSize()
        store(storage, 2, referring(8))
        store(storage, 0, referring(1, 9))
    content = bytearray(path.read_bytes())
    content[start + 8] ^= 0xFF
    path.write_bytes(content)
    found = [(each.kind, each.oid, each.target) for each in perdure.check(path).findings]
    assert found[0][0] == "damaged"
    assert found[1:3] == [("missing", oid(1), oid(7)), ("missing", oid(0), oid(9))]


def test_an_old_revision_may_refer_to_what_is_gone(conn: Any, db: Any, tm: Any) -> None:
    conn.root.node = Node()
    tm.commit()
    del conn.root.node
    tm.commit()
    assert perdure.check(db).ok


def test_what_refers_to_an_object_whose_creation_was_undone_is_found() -> None:
    storage = perdure.MappingStorage()
    store(storage, 0, referring(1))
    store(storage, 1, referring())
    assert perdure.check(storage).ok
    undo(storage, storage.lastTransaction())
    report = perdure.check(storage)
    (finding,) = report.findings
    assert (finding.oid, finding.target, report.objects) == (oid(0), oid(1), 1)


def test_weak_references_may_lead_nowhere(tmp_path: Path) -> None:
    from persistent.wref import WeakRef

    db = perdure.DB(None)
    with db.transaction() as conn:
        conn.root.node = Node()
        conn.root.weak = WeakRef(conn.root.node)
    with db.transaction() as conn:
        del conn.root.node
    db.pack()
    assert perdure.check(db).ok
    db.close()


def test_a_file_is_not_changed_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    shutil.copy(DATA / "garbage_tail.fs", path)
    before = path.read_bytes()
    perdure.check(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_database_is_refused() -> None:
    with pytest.raises(NotADatabase):
        perdure.check(DATA / "not_a_database.fs")
    with pytest.raises(FileNotFoundError):
        perdure.check(DATA / "none.fs")


def test_members_of_a_collection_are_checked_against_each_other() -> None:
    members = {"a": DATA / "multi_a.fs", "b": DATA / "multi_b.fs"}
    reports = perdure.check_collection(members)
    assert all(report.ok for report in reports.values())
    assert reports["a"].references_to_others == []
    assert {each.database for each in perdure.check(members["a"]).references_to_others} == {"b"}
    alone = perdure.check_collection({"a": DATA / "multi_a.fs"})
    assert "isn't in the collection" in alone["a"].findings[0].problem
    assert alone["a"].references_to_others == perdure.check(members["a"]).references_to_others


def test_who_refers_to_an_object(conn: Any, db: Any, tm: transaction.TransactionManager) -> None:
    conn.root.node = node = Node()
    conn.root.other = other = Node(node=node)
    tm.commit()
    assert perdure.refers_to(db, node._p_oid) == sorted([oid(0), other._p_oid])
    other.node = None
    tm.commit()
    assert perdure.refers_to(db, node._p_oid) == [oid(0)]


def test_the_index_of_references_is_kept_and_used_until_something_changes(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    shutil.copy(DATA / "basic.fs", path)
    found = perdure.refers_to(path, oid(0xCB))
    kept = path.with_name("Data.fs.refs")
    stat = kept.stat()
    assert found
    assert perdure.refers_to(path, oid(0xCB)) == found
    assert kept.stat().st_ino == stat.st_ino
    with closing(perdure.FileStorage(str(path))) as storage:
        store(storage, 0xFFFF, referring(0xCB))
        assert perdure.refers_to(storage, oid(0xCB)) == [*found, oid(0xFFFF)]
    kept.write_bytes(b"something else")
    assert perdure.refers_to(path, oid(0xCB)) == [*found, oid(0xFFFF)]


def test_an_index_of_references_with_any_changed_byte_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    shutil.copy(DATA / "basic.fs", path)
    found = perdure.refers_to(path, oid(0xCB))
    kept = path.with_name("Data.fs.refs")
    content = kept.read_bytes()
    for at in range(0, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1
        kept.write_bytes(changed)
        assert perdure.refers_to(path, oid(0xCB)) == found, at
        assert kept.read_bytes() == content, at


def test_a_changed_byte_that_breaks_no_structure_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    db = perdure.DB(str(path))
    for number in range(20):
        with db.transaction() as conn:
            conn.root.text = f"the text number {number}" * 10_000
    assert perdure.check(db).verified == 21
    db.close()
    assert perdure.check(path).ok
    content = bytearray(path.read_bytes())
    content[content.index(b"the text number 3the")] ^= 0x20
    path.write_bytes(content)
    report = perdure.check(path)
    (finding,) = report.findings
    assert finding.kind == "checksum"
    assert finding.position is not None
    assert report.verified == 20
    assert finding.oid == oid(0)
    assert finding.class_name == "persistent.mapping.PersistentMapping"
    assert str(finding).endswith("reached by 0x00 PersistentMapping")


@pytest.mark.parametrize("together", [False, True])
def test_a_changed_byte_is_told_with_whose_it_is_and_what_leads_there(
    tmp_path: Path, together: bool
) -> None:
    path = tmp_path / "Data.fs"
    db = perdure.DB(str(path))
    with db.transaction() as conn:
        conn.root.shelf = Node(book=Node(title="The Trial"), other=Node(title="The Castle"))
    for number in range(200):
        with db.transaction() as conn:
            conn.root.text = f"the text number {number}" * 1_000
    db.close()
    content = bytearray(path.read_bytes())
    content[content.index(b"The Castle")] ^= 0x20
    path.write_bytes(content)
    checked = perdure.check_collection({"a": path})["a"] if together else perdure.check(path)
    (finding,) = checked.findings
    assert finding.kind == "checksum"
    assert finding.class_name == "tests.behaviour.models.Node"
    names = [step.class_name.rpartition(".")[2] for step in finding.path]
    assert names == ["PersistentMapping", "Node", "Node"]
    assert finding.path[-1].oid == finding.oid
