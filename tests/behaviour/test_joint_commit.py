"""One transaction over several databases: one tid, all or nothing, one snapshot."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.Length import Length
from click.testing import CliRunner
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from tests.layers import encrypting

import perdure
from perdure import indoubt
from perdure.blob import BlobStorage
from perdure.cli import main
from perdure.errors import (
    CommitOutcomeUnknown,
    ConflictError,
    InDoubtError,
    StorageError,
    Unsupported,
)
from perdure.storage import FileStorage, MappingStorage
from perdure.storage._sealing import EXACTLY, header_of
from perdure.storage.zlib import ZlibStorage


def made(kind: str, path: Path) -> Any:
    if kind == "memory":
        return MappingStorage(path.stem)
    storage = FileStorage(path)
    return LAYERS[path.stem](storage) if kind == "layers" else storage


LAYERS: dict[str, Callable[[Any], Any]] = {
    "a": ZlibStorage,
    "b": encrypting,
    "c": lambda base: ZlibStorage(encrypting(BlobStorage(f"{base.getName()}.blobs", base))),
}


@pytest.fixture(params=["file", "memory", "layers"])
def members(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, perdure.DB]]:
    databases: dict[str, perdure.DB] = {}
    for name in ("a", "b", "c"):
        storage = made(request.param, tmp_path / f"{name}.fs")
        perdure.DB(storage, database_name=name, databases=databases)
    yield databases
    for database in list(databases.values()):
        database.close()


def open_in(members: Any, name: str = "a") -> Any:
    return members[name].open(transaction.TransactionManager())


def root_of(connection: Any, name: str) -> Any:
    return connection.get_connection(name).root()


def test_all_members_get_the_same_tid(members: dict[str, perdure.DB]) -> None:
    connection = open_in(members)
    for name in members:
        root_of(connection, name)["x"] = 1
    connection.transaction_manager.commit()
    assert len({database.lastTransaction() for database in members.values()}) == 1
    assert {root_of(connection, name)._p_serial for name in members} == {
        members["a"].lastTransaction()
    }


def test_a_member_that_nothing_was_changed_in_gets_no_transaction(
    members: dict[str, perdure.DB],
) -> None:
    before = members["c"].lastTransaction()
    connection = open_in(members)
    root_of(connection, "a")["x"] = root_of(connection, "b")["x"] = 1
    root_of(connection, "c").get("x")
    connection.transaction_manager.commit()
    assert members["c"].lastTransaction() == before


def test_a_conflict_in_one_member_leaves_all_as_they_were(members: dict[str, perdure.DB]) -> None:
    first, second = open_in(members), open_in(members)
    root_of(second, "b").get("x")
    root_of(first, "b")["x"] = "first"
    first.transaction_manager.commit()
    tids = {name: database.lastTransaction() for name, database in members.items()}
    for name in members:
        root_of(second, name)["x"] = "second"
    with pytest.raises(ConflictError):
        second.transaction_manager.commit()
    second.transaction_manager.abort()
    assert {name: database.lastTransaction() for name, database in members.items()} == tids
    root_of(second, "a")["y"] = root_of(second, "b")["y"] = 1
    second.transaction_manager.commit()
    assert root_of(second, "b")["x"] == "first"


def test_a_conflict_names_the_member_that_has_it(members: dict[str, perdure.DB]) -> None:
    first, second = open_in(members), open_in(members)
    for name in members:
        root_of(first, name)["list"] = PersistentList()
    first.transaction_manager.commit()
    second.transaction_manager.begin()
    for name in members:
        root_of(second, name)["x"] = 1
    root_of(second, "b")["list"].append(2)
    root_of(first, "b")["list"].append(1)
    first.transaction_manager.commit()
    with pytest.raises(ConflictError) as raised:
        second.transaction_manager.commit()
    second.transaction_manager.abort()
    assert raised.value.database == "b"
    assert raised.value.class_name == "persistent.list.PersistentList"
    assert list(root_of(second, "b")["list"]) == [1]


def test_conflicts_are_merged_in_a_joint_commit(members: dict[str, perdure.DB]) -> None:
    first, second = open_in(members), open_in(members)
    for name in ("a", "b"):
        root_of(first, name)["count"] = Length(0)
    first.transaction_manager.commit()
    second.transaction_manager.begin()
    for connection in (first, second):
        for name in ("a", "b"):
            root_of(connection, name)["count"].change(5)
    first.transaction_manager.commit()
    second.transaction_manager.commit()
    assert [root_of(second, name)["count"]() for name in ("a", "b")] == [10, 10]


def test_another_resource_that_refuses_aborts_all_members(
    members: dict[str, perdure.DB],
) -> None:
    class Refuses:
        """A resource that fails its vote, which is the last one."""

        def __init__(self, manager: Any) -> None:
            self.transaction_manager = manager

        def sortKey(self) -> str:
            return "~~~"

        def abort(self, transaction: Any) -> None: ...
        def tpc_begin(self, transaction: Any) -> None: ...
        def commit(self, transaction: Any) -> None: ...
        def tpc_vote(self, transaction: Any) -> None:
            raise RuntimeError("no")

        def tpc_finish(self, transaction: Any) -> None: ...
        def tpc_abort(self, transaction: Any) -> None: ...

    connection = open_in(members)
    manager = connection.transaction_manager
    tids = {name: database.lastTransaction() for name, database in members.items()}
    for name in members:
        root_of(connection, name)["x"] = 1
    manager.get().join(Refuses(manager))
    with pytest.raises(RuntimeError, match="no"):
        manager.commit()
    manager.abort()
    assert {name: database.lastTransaction() for name, database in members.items()} == tids
    root_of(connection, "a")["x"] = 2
    manager.commit()
    assert "x" not in root_of(connection, "b")


def test_read_current_holds_over_members(members: dict[str, perdure.DB]) -> None:
    first, second = open_in(members), open_in(members)
    root_of(first, "b")["limit"] = 1
    first.transaction_manager.commit()
    second.transaction_manager.begin()
    other = second.get_connection("b")
    assert other.root()["limit"] == 1
    other.readCurrent(other.root())
    root_of(second, "a")["used"] = 1
    root_of(first, "b")["limit"] = 0
    first.transaction_manager.commit()
    with pytest.raises(perdure.errors.ReadConflictError):
        second.transaction_manager.commit()
    second.transaction_manager.abort()
    assert "used" not in root_of(second, "a")


def test_a_joint_commit_waits_for_a_member_that_is_at_work(
    members: dict[str, perdure.DB],
) -> None:
    arrived, may_go_on = threading.Event(), threading.Event()

    class Waits:
        """A resource that votes last, and takes its time."""

        def sortKey(self) -> str:
            return "~~~"

        def abort(self, transaction: Any) -> None: ...

        tpc_begin = commit = tpc_finish = tpc_abort = abort

        def tpc_vote(self, transaction: Any) -> None:
            arrived.set()
            may_go_on.wait(60)

    first, second = open_in(members), open_in(members)
    root_of(first, "b")["first"] = PersistentMapping()
    first.transaction_manager.commit()
    second.transaction_manager.begin()
    root_of(first, "b")["first"]["x"] = 1
    first.transaction_manager.get().join(Waits())
    for name in members:
        root_of(second, name)["second"] = 1
    with ThreadPoolExecutor() as pool:
        holder = pool.submit(first.transaction_manager.commit)
        arrived.wait(60)
        waiter = pool.submit(second.transaction_manager.commit)
        assert not waiter.done()
        may_go_on.set()
        holder.result(60)
        waiter.result(60)
    third = open_in(members)
    assert [root_of(third, name)["second"] for name in members] == [1, 1, 1]
    assert root_of(third, "b")["first"]["x"] == 1
    assert members["a"].lastTransaction() > root_of(third, "b")["first"]._p_serial


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the open file there")
def test_a_member_that_was_only_read_goes_on_where_the_deciding_one_fails(
    tmp_path: Path,
) -> None:
    class TakesTheFileAway:
        """A resource that votes last, and has what is written to a file fail from then on."""

        def sortKey(self) -> str:
            return "~~~"

        def abort(self, transaction: Any) -> None: ...

        tpc_begin = commit = tpc_finish = tpc_abort = abort

        def tpc_vote(self, transaction: Any) -> None:
            path = tmp_path / "b.fs"
            read_only = os.open(path, os.O_RDONLY)
            for descriptor in list(Path("/proc/self/fd").iterdir()):
                with contextlib.suppress(OSError):
                    if descriptor.readlink() == path:
                        os.dup2(read_only, int(descriptor.name))
            os.close(read_only)

    databases: dict[str, perdure.DB] = {}
    for name in ("a", "b", "c"):
        perdure.DB(FileStorage(tmp_path / f"{name}.fs"), database_name=name, databases=databases)
    connection = open_in(databases)
    for name in ("b", "c"):
        root_of(connection, name)["x"] = 1
    connection.readCurrent(connection.root())
    connection.transaction_manager.get().join(TakesTheFileAway())
    with pytest.raises(CommitOutcomeUnknown):
        connection.transaction_manager.commit()
    connection.transaction_manager.abort()
    another = open_in(databases, "a")
    another.root()["y"] = 1
    another.transaction_manager.commit()
    for database in list(databases.values()):
        with contextlib.suppress(StorageError):
            database.close()


def test_a_member_opened_later_is_read_as_of_the_beginning(
    members: dict[str, perdure.DB],
) -> None:
    writer, reader = open_in(members), open_in(members)
    for name in ("a", "b"):
        root_of(writer, name)["x"] = 1
    writer.transaction_manager.commit()
    reader.transaction_manager.begin()
    assert root_of(reader, "a")["x"] == 1
    for name in ("a", "b"):
        root_of(writer, name)["x"] = 2
    writer.transaction_manager.commit()
    assert root_of(reader, "b")["x"] == 1
    reader.transaction_manager.begin()
    assert [root_of(reader, name)["x"] for name in ("a", "b")] == [2, 2]


def test_a_pooled_connection_goes_back_to_an_older_snapshot(
    members: dict[str, perdure.DB],
) -> None:
    writer, reader = open_in(members), open_in(members)
    root_of(writer, "a")["x"] = root_of(writer, "b")["x"] = 1
    writer.transaction_manager.commit()
    reader.transaction_manager.begin()
    root_of(writer, "a")["x"] = root_of(writer, "b")["x"] = 2
    writer.transaction_manager.commit()
    alone = open_in(members, "b")
    assert alone.root()["x"] == 2
    alone.close()
    assert [root_of(reader, name)["x"] for name in ("a", "b")] == [1, 1]


def test_the_past_has_a_joint_transaction_in_all_members_or_in_none(
    members: dict[str, perdure.DB],
) -> None:
    writer = open_in(members)
    tids = []
    for number in range(3):
        for name in members:
            root_of(writer, name)["x"] = number
        writer.transaction_manager.commit()
        tids.append(members["b"].lastTransaction())
    for number, tid in enumerate(tids):
        past = members["c"].open(transaction.TransactionManager(), at=tid)
        assert [root_of(past, name)["x"] for name in members] == [number] * 3
        past.close()


class Waits:
    """A resource that votes last, and waits there."""

    def __init__(self) -> None:
        self.reached, self.proceed = threading.Event(), threading.Event()

    def sortKey(self) -> str:
        return "~~~"

    def abort(self, transaction: Any) -> None: ...
    def tpc_begin(self, transaction: Any) -> None: ...
    def commit(self, transaction: Any) -> None: ...
    def tpc_vote(self, transaction: Any) -> None:
        self.reached.set()
        self.proceed.wait()

    def tpc_finish(self, transaction: Any) -> None: ...
    def tpc_abort(self, transaction: Any) -> None: ...


@pytest.mark.parametrize("slow", ["a", "b"])
def test_the_past_has_what_a_member_was_still_finishing(
    members: dict[str, perdure.DB], slow: str
) -> None:
    waiting = Waits()
    for name in ("a", "b"):
        with members[name].transaction() as conn:
            conn.root()["x"] = "old"

    def write_slowly() -> None:
        connection = open_in(members, slow)
        connection.root()["x"] = "new"
        connection.transaction_manager.get().join(waiting)
        connection.transaction_manager.commit()

    def look(moment: Any) -> str:
        past = members["c"].open(transaction.TransactionManager(), at=moment)
        try:
            return str(root_of(past, slow)["x"])
        finally:
            past.close()

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(write_slowly)
        waiting.reached.wait()
        quick = "b" if slow == "a" else "a"
        with members[quick].transaction() as conn:
            conn.root()["x"] = "quick"
        moment = members[quick].lastTransaction()
        first = pool.submit(look, moment)
        # Where nobody waits, it has looked by now; where it does, it can't have.
        wait([first], timeout=0.2)
        waiting.proceed.set()
        writer.result()
        assert members[slow].lastTransaction() < moment
        assert [first.result(), look(moment)] == ["new", "new"]


def test_no_reader_sees_half_a_transaction(members: dict[str, perdure.DB]) -> None:
    rounds, done = 80, threading.Event()
    setting_up = open_in(members)
    for name in members:
        root_of(setting_up, name)["x"] = PersistentMapping(number=-1)
    setting_up.transaction_manager.commit()
    names = list(members)

    def write(first: str) -> None:
        connection = open_in(members, first)
        for number in range(rounds):
            for attempt in connection.transaction_manager.attempts(1000):
                with attempt:
                    for name in names:
                        root_of(connection, name)["x"]["number"] = (first, number)

    def read(first: str) -> int:
        connection, seen = open_in(members, first), 0
        while not done.is_set():
            connection.transaction_manager.begin()
            assert len({str(root_of(connection, name)["x"]["number"]) for name in names}) == 1
            seen += 1
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, name) for name in ("a", "c")]
        writers = [pool.submit(write, name) for name in ("a", "b")]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


def test_undo_over_members_is_part_of_one_transaction(members: dict[str, perdure.DB]) -> None:
    connection = open_in(members)
    for number in (1, 2):
        root_of(connection, "a")["x"] = root_of(connection, "b")["x"] = number
        connection.transaction_manager.commit()
    manager = connection.transaction_manager
    for name in ("a", "b"):
        database = members[name]
        database.undo(database.undoLog(0, 1)[0]["id"], manager.get())
    manager.commit()
    assert [root_of(connection, name)["x"] for name in ("a", "b")] == [1, 1]
    assert members["a"].lastTransaction() == members["b"].lastTransaction()


def test_encrypted_records_are_tied_to_the_tid_that_all_members_get(tmp_path: Path) -> None:
    members = {name: made("layers", tmp_path / f"{name}.fs") for name in "ab"}
    with perdure.Collection(members) as collection:
        first, second = collection.open(transaction.TransactionManager()), open_in(collection)
        for name in "ab":
            root_of(first, name)["count"] = Length(0)
        first.transaction_manager.commit()
        second.transaction_manager.begin()
        for connection in (first, second):
            for name in "ab":
                root_of(connection, name)["count"].change(5)
            connection.transaction_manager.commit()  # the second merges
        tid = collection["a"].lastTransaction()
        assert root_of(second, "b")["count"]() == 10
    with contextlib.closing(FileStorage(tmp_path / "b.fs", read_only=True)) as below:
        kept = [record for written in below.iterator() for record in written]
    headers = [header_of(record.data or b"") for record in kept]
    assert kept[-1].tid == tid
    assert [(each.kind, each.revision) for each in headers if each is not None] == [
        (EXACTLY, record.tid) for record in kept
    ]


def test_a_blob_under_a_layer_is_committed_with_the_other_members(
    tmp_path: Path,
) -> None:
    members = {name: made("layers", tmp_path / f"{name}.fs") for name in "ac"}
    with perdure.Collection(members) as collection:
        conn = collection.open(transaction.TransactionManager())
        root_of(conn, "a")["picture"] = perdure.Blob(b"of a")
        with pytest.raises(Unsupported):
            conn.transaction_manager.commit()
        conn.transaction_manager.abort()
        root_of(conn, "a")["x"] = 1
        root_of(conn, "c")["picture"] = perdure.Blob(b"of c")
        conn.transaction_manager.commit()
        conn.cacheMinimize()
        with root_of(conn, "c")["picture"].open() as file:
            assert file.read() == b"of c"
        assert collection["a"].lastTransaction() == collection["c"].lastTransaction()


def test_one_transaction_is_undone_in_all_members_under_layers(
    members: dict[str, perdure.DB],
) -> None:
    connection = open_in(members)
    for number in (1, 2):
        for name in members:
            root_of(connection, name)["x"] = number
        connection.transaction_manager.commit()
    collection = perdure.Collection(members)
    collection.undo(collection.undoLog(0, 1)[0]["id"], connection.transaction_manager.get())
    connection.transaction_manager.commit()
    assert [root_of(connection, name)["x"] for name in members] == [1, 1, 1]
    assert len({database.lastTransaction() for database in members.values()}) == 1


PROGRAM = """
import os, sys, transaction, perdure
from perdure import _native
from perdure.storage import FileStorage
when, folder = sys.argv[1:]
databases = {}
for name in "ab":
    perdure.DB(FileStorage(f"{folder}/{name}.fs"), database_name=name, databases=databases)
connection = databases["a"].open()
for name in "ab":
    connection.get_connection(name).root()["x"] = "old"
transaction.commit()
for name in "ab":
    connection.get_connection(name).root()["x"] = "new"
finish = _native.Gate.finish_together
class Dies:
    def sortKey(self): return "~"
    def abort(self, t): pass
    tpc_begin = commit = tpc_finish = tpc_abort = abort
    def tpc_vote(self, t):
        os._exit(7)
if when == "voted":
    transaction.get().join(Dies())
transaction.commit()
os._exit(7)
"""


def crash(folder: Path, when: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, when, str(folder)], check=False, capture_output=True
    )
    assert run.returncode == 7, run.stderr.decode()


def reopened(folder: Path, name: str) -> Any:
    storage = FileStorage(folder / f"{name}.fs")
    database = perdure.DB(storage)
    root = dict(database.open(transaction.TransactionManager()).root())
    database.close()
    return root["x"]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_what_was_voted_and_not_decided_is_dropped_everywhere(tmp_path: Path, order: str) -> None:
    crash(tmp_path, "voted")
    assert all(indoubt.find(tmp_path / f"{name}.fs") for name in "ab")
    assert [reopened(tmp_path, name) for name in order] == ["old", "old"]


def make_undecided(folder: Path, *, decided: bool) -> None:
    """Bring member b into the state between the decision and its own finish."""
    crash(folder, "voted")
    if decided:
        indoubt.resolve(folder / "a.fs", commit=True)


@pytest.mark.parametrize("decided", [True, False])
def test_the_deciding_member_is_asked(tmp_path: Path, decided: bool) -> None:
    make_undecided(tmp_path, decided=decided)
    expected = "new" if decided else "old"
    assert [reopened(tmp_path, name) for name in "ba"] == [expected, expected]


def test_members_that_moved_together_find_one_another(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    make_undecided(before, decided=True)
    before.rename(after)
    assert reopened(after, "b") == "new"


def test_without_the_deciding_member_nothing_is_guessed(tmp_path: Path) -> None:
    make_undecided(tmp_path, decided=True)
    (tmp_path / "a.fs").rename(tmp_path / "elsewhere.fs")
    size = (tmp_path / "b.fs").stat().st_size
    with pytest.raises(InDoubtError, match=r"a\.fs") as caught:
        FileStorage(tmp_path / "b.fs")
    assert "indoubt resolve --commit" in str(caught.value)
    assert str(caught.value).count("No such file") == 1
    (finding,) = perdure.check(tmp_path / "b.fs").findings
    assert "bytes are not committed" in finding.problem
    assert f"{tmp_path / 'a.fs'} decides" in finding.problem
    assert (tmp_path / "b.fs").stat().st_size == size
    reader = FileStorage(tmp_path / "b.fs", read_only=True)
    assert len(list(reader.iterator())) == 2
    reader.close()
    (tmp_path / "elsewhere.fs").rename(tmp_path / "a.fs")
    assert reopened(tmp_path, "b") == "new"


@pytest.mark.parametrize("commit", [True, False])
def test_an_operator_can_settle_it(tmp_path: Path, commit: bool) -> None:
    make_undecided(tmp_path, decided=True)
    (tmp_path / "a.fs").unlink()
    indoubt.resolve(tmp_path / "b.fs", commit=commit)
    assert indoubt.find(tmp_path / "b.fs") is None
    assert reopened(tmp_path, "b") == ("new" if commit else "old")


def test_a_packed_decider_that_may_have_forgotten_is_not_believed(tmp_path: Path) -> None:
    make_undecided(tmp_path, decided=True)
    storage = FileStorage(tmp_path / "a.fs")
    database = perdure.DB(storage)
    manager = transaction.TransactionManager()
    database.open(manager).root()["x"] = "newest"
    manager.commit()
    database.pack()
    database.close()
    with pytest.raises(InDoubtError, match="packed"):
        FileStorage(tmp_path / "b.fs")


def lose_status(path: Path) -> None:
    """Do to the last transaction what a power loss may to a status that wasn't synced."""
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:], "big")
    assert data[start + 16 : start + 17] == b" "
    path.write_bytes(data[: start + 16] + b"c" + data[start + 17 :])


def test_a_deciding_file_that_was_begun_anew_takes_nothing_from_the_others(tmp_path: Path) -> None:
    crash(tmp_path, "finished")
    lose_status(tmp_path / "b.fs")
    unmounted = tmp_path / "unmounted"
    unmounted.mkdir()
    for file in tmp_path.glob("a.fs*"):
        file.rename(unmounted / file.name)
    paths = {name: tmp_path / f"{name}.fs" for name in "ab"}
    with pytest.raises(InDoubtError, match="another file"):
        perdure.Collection(paths)
    for file in tmp_path.glob("a.fs*"):
        file.unlink()
    for file in unmounted.glob("a.fs*"):
        file.rename(tmp_path / file.name)
    with perdure.Collection(paths) as collection:
        connection = collection.open(transaction.TransactionManager())
        assert [connection[name].root()["x"] for name in "ab"] == ["new", "new"]


def test_a_finished_joint_commit_leaves_nothing_to_clean_up(tmp_path: Path) -> None:
    crash(tmp_path, "finished")
    for name in "ab":
        assert indoubt.find(tmp_path / f"{name}.fs") is None
        assert reopened(tmp_path, name) == "new"
        assert not list(tmp_path.glob("*.tr*"))


def test_stock_reads_a_voted_member_as_it_was_before(tmp_path: Path) -> None:
    import ZODB.FileStorage

    crash(tmp_path, "voted")
    stock = ZODB.FileStorage.FileStorage(str(tmp_path / "b.fs"))
    assert len(list(stock.iterator())) == 2
    stock.close()


def test_the_command_line_tells_and_settles(tmp_path: Path) -> None:
    run = CliRunner()
    make_undecided(tmp_path, decided=True)
    file = str(tmp_path / "b.fs")
    (tmp_path / "a.fs").unlink()
    listed = run.invoke(main, ["indoubt", "list", file])
    assert listed.exit_code == 0
    assert f"{tmp_path / 'a.fs'} decides" in listed.output
    (told,) = json.loads(run.invoke(main, ["indoubt", "list", "--json", file]).stdout)
    assert f"transaction 0x{told['tid']} " in listed.output
    gone = run.invoke(main, ["indoubt", "list", str(tmp_path / "a.fs")])
    assert (gone.exit_code, "a.fs: No such file" in gone.output) == (1, True)
    (tmp_path / "a.fs.lock").unlink()
    nothing = run.invoke(main, ["indoubt", "resolve", "--abort", str(tmp_path / "a.fs")])
    assert (nothing.exit_code, (tmp_path / "a.fs.lock").exists()) == (1, False)
    unsaid = run.invoke(main, ["indoubt", "resolve", file])
    assert (unsaid.exit_code, "give --commit or --abort" in unsaid.output) == (2, True)
    settled = run.invoke(main, ["indoubt", "resolve", "--commit", file])
    assert settled.exit_code == 0, settled.output
    assert reopened(tmp_path, "b") == "new"
    again = run.invoke(main, ["indoubt", "resolve", "--abort", file])
    assert again.exit_code == 1
    assert "no transaction in doubt" in again.output
    assert run.invoke(main, ["indoubt", "list", file]).output == "nothing is in doubt\n"
