"""ZEO's server over perdure's file storage, and clients of both to it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZEO
import ZODB
import ZODB.POSException
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from tests.interop import filepeers
from tests.interop.programs import TIMEOUT_S
from tests.storing import oid

import perdure

SERVER = """
import sys
import ZEO.StorageServer
import perdure
storage = perdure.FileStorage(sys.argv[1])
server = ZEO.StorageServer.StorageServer(("127.0.0.1", 0), {"1": storage})
print(server.acceptor.addr[1], flush=True)
server.loop()
"""
Address = tuple[str, int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.fs"


@pytest.fixture
def address(path: Path) -> Iterator[Address]:
    """Where ZEO serves a file storage of perdure's, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield "127.0.0.1", int(process.stdout.readline())
    process.terminate()
    process.wait(TIMEOUT_S)
    process.stdout.close()
    # Nothing that clients were told is lost with the server, and stock reads it the same.
    assert filepeers.picture(path, filepeers.OURS) == filepeers.picture(path, filepeers.THEIRS)


def client(address: Address) -> Any:
    """Return a client that waits for what the server has to tell before each transaction."""
    return ZEO.client(address, server_sync=True)


def test_clients_commit_load_and_see_each_others_changes(
    address: Address,
) -> None:
    one, two = ZODB.DB(client(address)), perdure.DB(client(address))
    with one.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=1)
        connection.root()["length"] = Length()
    with two.transaction() as connection:
        assert connection.root()["a"]["n"] == 1
        connection.root()["a"]["n"] = 2
    with one.transaction() as connection:
        assert connection.root()["a"]["n"] == 2
    assert one.lastTransaction() == two.lastTransaction()
    one.close()
    two.close()


def test_conflicts_are_resolved_or_raised_through_the_server(
    address: Address,
) -> None:
    database = ZODB.DB(client(address))
    managers = [transaction.TransactionManager() for _ in range(2)]
    roots = [database.open(manager).root() for manager in managers]
    roots[0]["length"], roots[0]["a"] = Length(), PersistentMapping()
    managers[0].commit()
    managers[1].begin()
    for root in roots:
        root["length"].change(5)
    for manager in managers:
        manager.commit()
    for manager in managers:
        manager.begin()
    assert [root["length"]() for root in roots] == [10, 10]
    for number, root in enumerate(roots):
        root["a"]["n"] = number
    managers[0].commit()
    with pytest.raises(ZODB.POSException.ConflictError):
        managers[1].commit()
    for manager in managers:
        manager.abort()
    database.close()


def test_the_server_undoes_packs_and_tells_history(
    address: Address,
) -> None:
    database = ZODB.DB(client(address))
    with database.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=1)
    with database.transaction() as connection:
        connection.root()["a"]["n"] = 2
    database.undo(database.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with database.transaction() as connection:
        assert connection.root()["a"]["n"] == 1
        assert len(database.history(oid(1), 10)) == 3
        del connection.root()["a"]
    database.pack()
    statuses = [txn.status for txn in database.storage.iterator()]
    assert statuses[0] == "p"
    database.close()


def test_a_missing_object_is_stocks_error_at_the_client(
    address: Address,
) -> None:
    storage = client(address)
    with pytest.raises(ZODB.POSException.POSKeyError):
        storage.loadBefore(oid(99), b"\x7f" + b"\xff" * 7)
    storage.close()


def test_a_loop_over_siblings_has_the_next_ones_fetched_from_the_server(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 200
    database = perdure.DB(client(address))
    with database.transaction() as connection:
        connection.root()["all"] = [PersistentMapping(n=number) for number in range(count)]
    database.close()
    storage = ZEO.client(address, server_sync=True)
    fetched: list[bytes] = []
    fetch = storage.prefetch

    def noted(oids: Any, tid: bytes) -> None:
        fetched.extend(oids)
        fetch(oids, tid)

    monkeypatch.setattr(storage, "prefetch", noted)
    database = perdure.DB(storage)
    connection = database.open()
    everything = connection.root()["all"]
    assert [each["n"] for each in everything] == list(range(count))
    assert fetched == [each._p_oid for each in everything[3:]]
    connection.cacheMinimize()
    connection.prefetch(everything)
    assert fetched[count - 3 :] == [each._p_oid for each in everything]
    assert sum(each["n"] for each in everything) == sum(range(count))
    database.close()
