"""What a collection promises, held against stock ZODB too, which fails each of it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from tests.behaviour.models import Account

import perdure

Open = Callable[[], dict[str, Any]]

DATABASES: dict[str, Callable[..., Any]] = {"perdure": perdure.DB, "zodb": ZODB.DB}
STORAGES: dict[str, Callable[[str], Any]] = {
    "perdure": perdure.FileStorage,
    "zodb": ZODB.FileStorage.FileStorage,
}


def promised(reason: str) -> pytest.MarkDecorator:
    """Run a test over both libraries; *reason* says why stock ZODB fails it."""
    fails = pytest.mark.xfail(reason=reason, strict=True)
    return pytest.mark.parametrize("library", ["perdure", pytest.param("zodb", marks=fails)])


@pytest.fixture
def open_both(library: str, tmp_path: Path) -> Iterator[Open]:
    """A function that opens the databases `a` and `b`, tied together."""
    with ExitStack() as stack:

        def open_them() -> dict[str, Any]:
            databases: dict[str, Any] = {}
            for name in ("a", "b"):
                storage = STORAGES[library](str(tmp_path / f"{name}.fs"))
                made = DATABASES[library](storage, database_name=name, databases=databases)
                stack.callback(made.close)
            return dict(databases)

        yield open_them


class _BetweenFinishes:
    """A resource whose turn to finish is between those of the two members."""

    def __init__(self, connections: list[Any], then: Callable[[], object]) -> None:
        self._key: str = min(each.sortKey() for each in connections) + "\0"
        self._then = then

    def sortKey(self) -> str:
        return self._key

    def tpc_finish(self, _transaction: Any) -> None:
        self._then()

    def _nothing(self, _transaction: Any) -> None:
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_abort = _nothing


def change_both(databases: dict[str, Any], meanwhile: Callable[[], object]) -> None:
    """Commit to both; *meanwhile* is called between the two finishes."""
    manager = transaction.TransactionManager()
    one = databases["a"].open(manager)
    connections = [one, one.get_connection("b")]
    for each in connections:
        each.root()["x"] = 1
    manager.get().join(_BetweenFinishes(connections, meanwhile))
    manager.commit()
    one.close()


def seen(databases: dict[str, Any]) -> list[Any]:
    """What a new pair of connections sees in the two."""
    manager = transaction.TransactionManager()
    one = databases["a"].open(manager)
    found = [each.root().get("x") for each in (one, one.get_connection("b"))]
    manager.abort()
    one.close()
    return found


DEATH = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.behaviour import test_promises as promises

databases = {}
for name in ("a", "b"):
    storage = promises.STORAGES[sys.argv[1]](str(Path(sys.argv[2]) / f"{name}.fs"))
    promises.DATABASES[sys.argv[1]](storage, database_name=name, databases=databases)
promises.change_both(databases, lambda: os._exit(9))
"""

ROOT = str(Path(__file__).parents[2])


@promised("the members finish one after the other, and nothing ties them together")
def test_a_process_that_dies_between_two_finishes_leaves_no_half_transaction(
    library: str, open_both: Open, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", DEATH, library, str(tmp_path), ROOT]
    assert subprocess.run(command, check=False, timeout=120).returncode == 9
    assert seen(open_both()) in ([None, None], [1, 1])


@promised("each member shows its part as soon as it has finished")
def test_no_reader_sees_half_a_transaction(open_both: Open) -> None:
    databases, views = open_both(), []
    change_both(databases, lambda: views.append(seen(databases)))
    assert views in ([[None, None]], [[1, 1]])
    assert seen(databases) == [1, 1]


@promised("packing follows the references within the member only")
def test_a_pack_keeps_what_only_another_member_refers_to(open_both: Open) -> None:
    databases = open_both()
    manager = transaction.TransactionManager()
    one = databases["a"].open(manager)
    account = Account(3.0)
    one.get_connection("b").add(account)
    one.root()["account"] = account
    manager.commit()
    databases["b"].pack()
    one.cacheMinimize()
    one.get_connection("b").cacheMinimize()
    manager.begin()
    try:
        assert one.root()["account"].balance == account.balance
    finally:
        manager.abort()
        one.close()


HANG = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import transaction
from tests.behaviour import test_promises as promises
from tests.behaviour.models import Account

databases = {}
for name in ("a", "b"):
    storage = promises.STORAGES[sys.argv[1]](str(Path(sys.argv[2]) / f"{name}.fs"))
    promises.DATABASES[sys.argv[1]](storage, database_name=name, databases=databases)
manager = transaction.TransactionManager()
# First from the side of b ...
two = databases["b"].open(manager)
account = Account()
two.get_connection("a").add(account)
two.root()["account"] = account
manager.commit()
two.close()
# ... then from that of a.
one = databases["a"].open(manager)
one.root()["x"] = 1
one.get_connection("b").root()["account"].balance = 7.0
committing = threading.Thread(target=manager.commit, daemon=True)
committing.start()
# Who hangs does so for ever; who does not may be slow on a busy machine.
committing.join(15 if sys.argv[1] == "zodb" else 100)
os._exit(3 if committing.is_alive() else 0)
"""


@promised("the set comes to have two connections to one member, which wait for one another")
def test_a_pool_gives_whole_sets_whichever_member_is_opened_first(
    library: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HANG, library, str(tmp_path), ROOT]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
