"""An interrupt at any step of a commit after the transaction has become permanent."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import transaction
from persistent.mapping import PersistentMapping

import perdure

STEPS_MAX = 500


class Interrupt:
    """Raises KeyboardInterrupt at a step after the transaction has become permanent."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.is_permanent = False

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "return" and frame.f_code.co_name == "tpc_finish":
            # What comes now is for `transaction` to care about.
            sys.setprofile(None)
            return
        if event == "c_return" and getattr(called, "__name__", "") == "commit":
            self.is_permanent = True
        self.at -= self.is_permanent
        if self.at == 0:
            sys.setprofile(None)
            raise KeyboardInterrupt


@pytest.fixture
def database(tmp_path: Path) -> Iterator[perdure.DB]:
    with perdure.DB(tmp_path / "Data.fs") as database:
        yield database


def interrupted(at: int, commit: Callable[[], None]) -> bool:
    """Commit with an interrupt; tell whether there was one."""
    before = sys.getprofile()
    sys.setprofile(Interrupt(at))
    try:
        commit()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(before)
    return False


def test_what_is_permanent_stays_and_memory_agrees_with_it(database: perdure.DB) -> None:
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    root = connection.root()
    at = 0
    while True:
        at += 1
        assert at < STEPS_MAX
        root["new"] = new = PersistentMapping(number=at)
        root["number"] = at
        was_interrupted = interrupted(at, manager.commit)
        manager.abort()
        with database.transaction() as other:
            assert other.root()["number"] == other.root()["new"]["number"] == at
        assert root["number"] == at
        if not was_interrupted:
            break
        # The new object is the one that the database has, and can be changed.
        assert root["new"] is new
        assert new._p_jar is connection
        new["number"] = -at
        manager.commit()
        with database.transaction() as other:
            assert other.root()["new"]["number"] == -at
    assert at > 5
    connection.close()


def test_one_of_several_resources_still_gets_both_phases(database: perdure.DB) -> None:
    seen = []

    class Observer:
        """Votes after the connection, and refuses."""

        transaction_manager = manager = transaction.TransactionManager()

        def sortKey(self) -> str:
            return "~"

        def tpc_vote(self, _transaction: Any) -> None:
            with database.transaction() as other:
                seen.append(dict(other.root()))
            raise ValueError("no")

        def nothing(self, _transaction: Any) -> None:
            """Do nothing."""

        abort = tpc_begin = commit = tpc_finish = tpc_abort = nothing

    connection = database.open(Observer.manager)
    connection.root()["number"] = 1
    Observer.manager.get().join(Observer())
    with pytest.raises(ValueError, match="no"):
        Observer.manager.commit()
    assert seen == [{}]
    Observer.manager.abort()
    assert dict(connection.root()) == {}
    connection.close()


def test_phases_called_by_hand_can_be_aborted_after_the_vote(database: perdure.DB) -> None:
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    connection.root()["number"] = 1
    by_hand = manager.get()
    connection.tpc_begin(by_hand)
    connection.commit(by_hand)
    connection.tpc_vote(by_hand)
    connection.tpc_abort(by_hand)
    manager.abort()
    assert dict(connection.root()) == {}
    with database.transaction() as other:
        assert dict(other.root()) == {}
    connection.close()
