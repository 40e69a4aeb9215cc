"""What a connection shows when the newest state can't be found out for a while."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import transaction
from persistent.mapping import PersistentMapping
from tests.behaviour.models import Account, Node
from ZODB.MappingStorage import MappingStorage as ForeignStorage

import perdure
from perdure import errors
from perdure.connection.metadata import TransactionMetaData
from perdure.ids import NO_TID, ROOT_OID, Oid, p64
from perdure.persistentclass import PersistentMetaClass
from perdure.storage import MappingStorage
from perdure.storage.file import FileStorage

LOG_OIDS_MAX = 1 << 18
"""How many changed objects the log of changes remembers."""


class Server(ForeignStorage):
    """A storage that can be away, as one behind a network."""

    is_away = False

    def lastTransaction(self) -> bytes:
        if self.is_away:
            raise ConnectionError("the server is away")
        found: bytes = super().lastTransaction()
        return found


@contextmanager
def away(*servers: Server) -> Iterator[None]:
    for server in servers:
        server.is_away = True
    try:
        yield
    finally:
        for server in servers:
            server.is_away = False


class Members:
    """Members `own` and `far` of a collection, each with an account, and who looks at both.

    `far` comes last, or first, where the members are told to move on.
    """

    def __init__(self, *, far_first: bool) -> None:
        self.server = Server("far")
        storages = {"own": MappingStorage("own"), "far": self.server}
        names = ["far", "own"] if far_first else ["own", "far"]
        self.collection = perdure.Collection({name: storages[name] for name in names})
        self.other = self.collection.open(transaction.TransactionManager())
        for name in names:
            self.other[name].root()["account"] = Account(1)
        self.other.transaction_manager.commit()
        self.tm = transaction.TransactionManager()
        self.conn = self.collection.open(self.tm)
        self.leader = names[0]
        assert self.balances() == (1, 1)

    def balances(self) -> tuple[float, float]:
        return (
            self.conn["own"].root()["account"].balance,
            self.conn["far"].root()["account"].balance,
        )

    def change(self, balance: float = 2) -> None:
        """Change both accounts, in another connection."""
        for name in self.collection:
            self.other[name].root()["account"].balance = balance
        self.other.transaction_manager.commit()


@pytest.fixture(params=[False, True], ids=["far-last", "far-first"])
def members(request: pytest.FixtureRequest) -> Iterator[Members]:
    made = Members(far_first=request.param)
    yield made
    made.tm.abort()
    made.other.transaction_manager.abort()
    made.collection.close()


def test_what_changed_is_seen_though_another_member_could_not_move_on(members: Members) -> None:
    members.change()
    with away(members.server), pytest.raises(ConnectionError, match="away"):
        members.tm.begin()
    members.tm.begin()
    assert members.balances() == (2, 2)


def test_nothing_is_read_until_all_members_have_moved_on(members: Members) -> None:
    account = members.conn["own"].root()["account"]
    members.change()
    with away(members.server), pytest.raises(ConnectionError):
        members.tm.begin()
    for name in members.collection:
        with pytest.raises(errors.ConnectionStateError, match=r"could not be found .* away"):
            members.conn[name].root()["account"]
    with pytest.raises(errors.ConnectionStateError, match="begin a new one"):
        account.deposit(1)
    with pytest.raises(errors.ConnectionStateError):
        members.conn["own"].add(Node())
    members.tm.abort()
    assert members.balances() == (2, 2)


def test_what_changed_is_seen_after_close_and_open_though_nobody_could_move_on(
    members: Members,
) -> None:
    members.change()
    with away(members.server), pytest.raises(ConnectionError):
        members.tm.begin()
    with away(members.server):
        members.tm.abort()
        members.conn.close()
    members.conn = members.collection.open(members.tm)
    assert members.balances() == (2, 2)


def test_a_commit_after_which_the_newest_state_is_unknown_is_no_failure(
    members: Members, caplog: pytest.LogCaptureFixture
) -> None:
    members.conn["own"].root()["account"].balance = 5
    with away(members.server), caplog.at_level(logging.ERROR, "perdure.connection"):
        members.tm.commit()
    assert "could not move on" in caplog.text
    members.other.transaction_manager.begin()
    assert members.other["own"].root()["account"].balance == 5
    with pytest.raises(errors.ConnectionStateError):
        members.balances()
    members.tm.begin()
    assert members.balances() == (5, 1)


def test_a_failing_commit_raises_its_own_error_though_the_newest_state_is_unknown(
    members: Members,
) -> None:
    members.conn["own"].root()["account"].balance = 5
    members.change()
    with away(members.server), pytest.raises(errors.ConflictError):
        members.tm.commit()
    members.tm.abort()
    assert members.balances() == (2, 2)


def test_a_commit_is_no_failure_where_a_view_can_not_let_go(members: Members) -> None:
    def fail() -> None:
        raise ConnectionError("the server is away")

    members.conn["own"].root()["account"].balance = 5
    view = members.conn["far"]._normal_storage
    view.afterCompletion = fail
    members.tm.commit()
    del view.afterCompletion
    assert members.balances() == (5, 1)


def test_a_connection_that_could_not_be_opened_is_in_nobodys_way(members: Members) -> None:
    members.conn.close()
    members.change()
    with away(members.server), pytest.raises(ConnectionError):
        members.collection.open(members.tm)
    members.tm.begin()
    for name, database in members.collection.items():
        assert list(database.pool) == [members.other[name]]
    members.conn = members.collection.open(members.tm)
    assert members.balances() == (2, 2)


def test_a_block_that_could_not_begin_leaves_no_connection_in_use() -> None:
    class Behind(Server):
        def sync(self) -> None:
            if self.is_away:
                raise ConnectionError("the server is away")

        def lastTransaction(self) -> bytes:
            found: bytes = ForeignStorage.lastTransaction(self)
            return found

    server = Behind("far")
    with perdure.DB(server) as db:
        (before,) = db.pool
        with away(server), pytest.raises(ConnectionError), db.transaction():
            raise AssertionError("the block has begun")
        assert list(db.pool) == [before]
        assert [idle for _since, idle in db.pool.available] == [before]
        with db.transaction() as conn:
            assert conn is before
            conn.root()["x"] = 1


def test_a_member_that_could_not_join_is_asked_again(tmp_path: Path) -> None:
    server = Server("far")
    own = perdure.DB(tmp_path / "own.fs", database_name="own")
    perdure.DB(server, database_name="far", databases=own.databases)
    conn = own.open(transaction.TransactionManager())
    with away(server), pytest.raises(ConnectionError):
        conn.get_connection("far")
    assert list(conn.connections) == ["own"]
    conn.get_connection("far").root()["x"] = 1
    conn.transaction_manager.commit()
    conn.close()
    for database in list(own.databases.values()):
        database.close()


def test_what_changed_is_seen_though_the_file_could_not_tell(tmp_path: Path) -> None:
    with perdure.DB(tmp_path / "data.fs") as db:
        tm, others = transaction.TransactionManager(), transaction.TransactionManager()
        root = db.open(tm).root()
        root["x"] = 1
        tm.commit()
        moment = db.storage.getSize()
        view = db._mvcc_storage.new_instance()
        snapshot = view.snapshot
        db.open(others).root()["x"] = 2
        others.commit()
        outgrow_the_log(db.storage)
        with unreadable_at(tmp_path / "data.fs", moment):
            with pytest.raises(errors.POSError):
                view.poll_invalidations()
            with pytest.raises(errors.POSError):
                tm.begin()
        assert view.snapshot == snapshot
        assert ROOT_OID in view.poll_invalidations()
        assert view.snapshot == db.lastTransaction()
        tm.begin()
        assert root["x"] == 2


def outgrow_the_log(storage: FileStorage) -> None:
    record, _serial = storage.load(ROOT_OID)
    made = TransactionMetaData()
    storage.tpc_begin(made)
    for number in range(1000, 1000 + LOG_OIDS_MAX + 1):
        storage.store(Oid(p64(number)), NO_TID, record, "", made)
    storage.tpc_vote(made)
    storage.tpc_finish(made)


@contextmanager
def unreadable_at(path: Path, position: int) -> Iterator[None]:
    """Have the transaction at a position be damaged for a while."""
    with path.open("r+b", buffering=0) as file:
        file.seek(position)
        before = file.read(16)
        file.seek(position)
        file.write(b"\xff" * 16)
        try:
            yield
        finally:
            file.seek(position)
            file.write(before)


def test_a_persistent_class_has_its_newest_state_after_that(members: Members) -> None:
    made = PersistentMetaClass("Stored", (object,), {"__module__": "", "answer": 42})
    members.conn["own"].root()["class"] = made
    members.tm.commit()
    members.other.transaction_manager.begin()
    members.other["own"].root()["class"].answer = 43
    members.other.transaction_manager.commit()
    with away(members.server), pytest.raises(ConnectionError):
        members.tm.begin()
    members.tm.begin()
    assert members.conn["own"].root()["class"] is made
    assert made.answer == 43


def test_an_interrupt_between_moving_on_and_forgetting_loses_nothing(tmp_path: Path) -> None:
    with perdure.DB(tmp_path / "data.fs") as db:
        tm, others = transaction.TransactionManager(), transaction.TransactionManager()
        conn = db.open(tm)
        root = conn.root()
        root["inner"] = PersistentMapping(x=1)
        tm.commit()
        db.open(others).root()["inner"]["x"] = 2
        others.commit()

        def interrupted(_changed: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(conn, "_invalidate", interrupted)
            with pytest.raises(KeyboardInterrupt):
                tm.begin()
        tm.begin()
        assert root["inner"]["x"] == 2
