"""One file, written by perdure and by stock ZODB in turns, is the same to both."""

import random
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from tests.interop import filepeers
from tests.interop.filepeers import OURS, PEERS, THEIRS, Peer

import perdure
from perdure.connection.metadata import TransactionMetaData
from perdure.ids import NO_TID

EXTENSION = {"kind": "import", "count": 3, "tags": ["a", "b"], "nested": {"x": (1, None)}}


def same_to_both(path: Path) -> dict[str, Any]:
    """Return what both read in a file, after comparing."""
    ours = filepeers.picture(path, OURS)
    assert ours == filepeers.picture(path, THEIRS)
    return ours


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.fs"


def test_what_perdure_writes_stock_reads_the_same(path: Path) -> None:
    storage = perdure.FileStorage(str(path))
    filepeers.commit(storage, {0: b"root", 1: b"one"}, user="ada", description="first")
    filepeers.commit(storage, {1: b"one again"}, user="jürgen", description="größer")
    filepeers.commit(storage, {2: b"\0" * 100_000}, extension=EXTENSION)
    filepeers.commit(storage, {})
    filepeers.commit(storage, {3: b"short-lived"})
    filepeers.commit(storage, {0: b"root again"}, delete=[3])
    storage.close()
    found = same_to_both(path)
    assert [len(txn["records"]) for txn in found["transactions"]] == [2, 1, 1, 0, 1, 2]
    assert found["transactions"][2]["extension"] == EXTENSION
    assert found["transactions"][1]["user"] == "jürgen"


def test_what_perdure_undoes_is_undone_for_stock(path: Path) -> None:
    storage = perdure.FileStorage(str(path))
    filepeers.commit(storage, {0: b"root", 1: b"one"})
    changed = filepeers.commit(storage, {1: b"changed"})
    created = filepeers.commit(storage, {2: b"created"})
    redone = filepeers.undo(storage, changed)
    filepeers.undo(storage, created)
    filepeers.undo(storage, redone)
    storage.close()
    found = same_to_both(path)
    assert found["transactions"][3]["records"][0]["data_txn"] is not None
    assert found["transactions"][4]["records"][0]["sha256"] is None


def test_what_stock_undoes_is_undone_for_perdure_and_can_be_redone(path: Path) -> None:
    storage = THEIRS.open(str(path))
    filepeers.commit(storage, {0: b"root", 1: b"one"}, peer=THEIRS)
    changed = filepeers.commit(storage, {1: b"changed"}, peer=THEIRS)
    undone = filepeers.undo(storage, changed, peer=THEIRS)
    storage.close()
    ours = perdure.FileStorage(str(path))
    assert ours.load(filepeers.oid(1))[0] == b"one"
    filepeers.undo(ours, undone)
    assert ours.load(filepeers.oid(1))[0] == b"changed"
    ours.close()
    same_to_both(path)


def one_turn(path: Path, peer: Peer, turn: int, expected: dict[int, bytes]) -> None:
    """Commit, change, delete and undo as one of the two; keep *expected* up to date."""
    chance = random.Random(turn)
    storage = peer.open(str(path))
    for number, data in expected.items():
        assert storage.load(filepeers.oid(number))[0] == data
    for step in range(5):
        numbers = [*expected, *range(10 * turn, 10 * turn + 5)]
        records = {
            chance.choice(numbers): f"{peer} {turn} {step} ".encode() * chance.randrange(1, 30)
            for _ in range(chance.randrange(1, 6))
        }
        filepeers.commit(
            storage, records, peer=peer, description=f"turn {turn}", extension={"turn": turn}
        )
        expected.update(records)
    gone = chance.choice(sorted(expected))
    filepeers.commit(storage, {}, peer=peer, delete=[gone])
    del expected[gone]
    undone = filepeers.commit(storage, {chance.choice(sorted(expected)): b"undone"}, peer=peer)
    filepeers.undo(storage, undone, peer=peer)
    storage.close()


@pytest.mark.parametrize("first", PEERS, ids=str)
def test_a_file_passed_back_and_forth_ten_times_stays_whole(first: Peer, path: Path) -> None:
    second = THEIRS if first is OURS else OURS
    expected: dict[int, bytes] = {}
    for turn in range(20):
        one_turn(path, first if turn % 2 == 0 else second, turn, expected)
        found = same_to_both(path)
        assert set(found["current"]) == {filepeers.oid(number).hex() for number in expected}
        assert len(found["transactions"]) == 8 * (turn + 1)


def commit_objects(database: Any, turn: int) -> None:
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    root = connection.root()
    if "tree" not in root:
        root["tree"] = OOBTree()
    tree = root["tree"]
    for number in range(50):
        tree[f"{turn}-{number}"] = OOBTree({"turn": turn, "number": number})
    if turn:
        del tree[f"{turn - 1}-7"]
        tree[f"{turn - 1}-8"]["seen"] = True
    manager.commit()
    assert len(tree) == 50 * (turn + 1) - turn
    assert [tree[f"{past}-8"]["seen"] for past in range(turn)] == [True] * turn
    connection.close()
    database.close()


def test_object_graphs_are_written_in_turns_by_both_databases(path: Path) -> None:
    for turn in range(10):
        if turn % 2:
            commit_objects(perdure.DB(perdure.FileStorage(str(path))), turn)
        else:
            commit_objects(ZODB.DB(ZODB.FileStorage.FileStorage(str(path))), turn)
    same_to_both(path)


def test_both_databases_write_the_same_records_for_the_same_objects(tmp_path: Path) -> None:
    ours = perdure.FileStorage(str(tmp_path / "ours.fs"))
    theirs = ZODB.FileStorage.FileStorage(str(tmp_path / "theirs.fs"))
    for database in (perdure.DB(ours), ZODB.DB(theirs)):
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        connection.root()["tree"] = OOBTree({str(number): number / 2 for number in range(100)})
        manager.commit()
        connection.close()
    ours_found = [[r["sha256"] for r in t["records"]] for t in filepeers.transactions_in(ours)]
    theirs_found = [[r["sha256"] for r in t["records"]] for t in filepeers.transactions_in(theirs)]
    assert ours_found == theirs_found
    ours.close()
    theirs.close()


def test_stock_packs_what_perdure_wrote_and_perdure_goes_on(path: Path) -> None:
    database = perdure.DB(perdure.FileStorage(str(path)))
    with database.transaction() as connection:
        connection.root()["tree"] = OOBTree({number: number for number in range(100)})
    with database.transaction() as connection:
        connection.root()["tree"] = OOBTree({"only": 1})
    database.close()
    packing = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    packing.pack()
    assert len(packing.storage) == 2
    packing.close()
    same_to_both(path)
    database = perdure.DB(perdure.FileStorage(str(path)))
    with database.transaction() as connection:
        assert dict(connection.root()["tree"]) == {"only": 1}
        connection.root()["tree"]["again"] = 2
    database.close()
    same_to_both(path)


def test_perdure_cuts_what_stock_had_voted_when_it_died(path: Path) -> None:
    storage = THEIRS.open(str(path))
    committed = filepeers.commit(storage, {0: b"root"}, peer=THEIRS)
    txn = THEIRS.metadata("", "voted", None)
    storage.tpc_begin(txn)
    storage.store(filepeers.oid(1), NO_TID, b"lost", "", txn)
    storage.tpc_vote(txn)
    left_behind = path.read_bytes()
    storage.tpc_abort(txn)
    storage.close()
    path.write_bytes(left_behind)
    ours = perdure.FileStorage(str(path))
    assert [each.tid for each in ours.iterator()] == [committed]
    ours.close()
    same_to_both(path)


def test_stock_cuts_what_perdure_had_voted_when_it_died(path: Path) -> None:
    storage = perdure.FileStorage(str(path))
    committed = filepeers.commit(storage, {0: b"root"})
    txn = TransactionMetaData("", "voted", None)
    storage.tpc_begin(txn)
    storage.store(filepeers.oid(1), NO_TID, b"lost", "", txn)
    storage.tpc_vote(txn)
    left_behind = path.read_bytes()
    storage.tpc_abort(txn)
    storage.close()
    assert len(left_behind) > path.stat().st_size
    path.write_bytes(left_behind)
    theirs = THEIRS.open(str(path))
    assert [each.tid for each in theirs.iterator()] == [committed]
    theirs.close()
    same_to_both(path)
