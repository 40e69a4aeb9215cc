"""`detect_unflagged_changes`: changes inside plain values that nobody announced are found."""

from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from persistent.mapping import PersistentMapping

import perdure
from perdure.errors import UnflaggedChangeError


@pytest.fixture
def manager() -> Any:
    return transaction.TransactionManager()


@pytest.fixture
def connection(manager: Any) -> Iterator[Any]:
    database = perdure.DB(None, detect_unflagged_changes=True)
    connection = database.open(manager)
    connection.root.thing = PersistentMapping(names=["a"])
    manager.commit()
    yield connection
    manager.abort()
    connection.close()
    database.close()


def test_an_unannounced_change_is_found_though_nothing_else_changed(
    connection: Any, manager: Any
) -> None:
    connection.root.thing["names"].append("b")
    with pytest.raises(UnflaggedChangeError, match="PersistentMapping"):
        manager.commit()


def test_aborting_is_no_commit(connection: Any, manager: Any) -> None:
    connection.root.thing["names"].append("b")
    manager.abort()
    connection.close()
    assert connection.opened is None


def test_an_announced_change_is_stored(connection: Any, manager: Any) -> None:
    connection.root.thing["names"].append("b")
    connection.root.thing._p_changed = True
    manager.commit()
    connection.cacheMinimize()
    assert connection.root.thing["names"] == ["a", "b"]


def test_transactions_without_changes_leave_no_trace(connection: Any, manager: Any) -> None:
    before = connection.db().lastTransaction()
    assert connection.root.thing["names"] == ["a"]
    manager.commit()
    assert connection.db().lastTransaction() == before
