"""A database that one thread closes while another one uses it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
from transaction.interfaces import IDataManager
from zope.interface import implementer

import perdure
from perdure import errors


class Meeting:
    """Where a thread stops until the other one has done its part."""

    def __init__(self) -> None:
        self._arrived, self._done = threading.Event(), threading.Event()

    def stop_here(self) -> None:
        self._arrived.set()
        assert self._done.wait(60)

    def meanwhile(self, action: Callable[[], object]) -> None:
        assert self._arrived.wait(60)
        try:
            action()
        finally:
            self._done.set()


@implementer(IDataManager)
class Stopper:
    """A resource that comes first in each step of a commit, and stops in one of them."""

    transaction_manager: Any = None

    def __init__(self, step: str, meeting: Meeting) -> None:
        self._step, self._meeting = step, meeting

    def sortKey(self) -> str:
        return ""

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        if name not in {"abort", "commit", "tpc_abort", "tpc_begin", "tpc_finish", "tpc_vote"}:
            raise AttributeError(name)

        def step(_transaction: Any) -> None:
            if name == self._step:
                self._meeting.stop_here()

        return step


def closed_while(path: Path, work: Callable[[perdure.DB, Meeting], object]) -> BaseException | None:
    """Close a database while a thread stops in *work* with it; return what that raised."""
    db = perdure.DB(str(path))
    with db.transaction() as connection:
        connection.root.x = "before"
    meeting = Meeting()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work(db, meeting)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    meeting.meanwhile(db.close)
    thread.join(60)
    assert not thread.is_alive()
    return raised[0] if raised else None


def kept(path: Path) -> Any:
    with perdure.DB(str(path)) as db, db.transaction() as connection:
        return connection.root.x


@pytest.mark.parametrize("own_manager", [False, True])
@pytest.mark.parametrize("step", ["tpc_begin", "commit", "tpc_vote", "tpc_finish"])
def test_a_commit_in_a_database_that_is_closed_meanwhile_fails_and_leaves_nothing(
    tmp_path: Path, step: str, own_manager: bool
) -> None:
    def work(db: perdure.DB, meeting: Meeting) -> None:
        manager = transaction.TransactionManager() if own_manager else transaction.manager
        connection = db.open(manager if own_manager else None)
        manager.get().join(Stopper(step, meeting))
        connection.root.x = "after"
        try:
            manager.commit()
        finally:
            manager.abort()

    raised = closed_while(tmp_path / "Data.fs", work)
    assert isinstance(raised, (errors.ConnectionStateError, errors.StorageError)), repr(raised)
    assert "closed" in str(raised)
    assert kept(tmp_path / "Data.fs") == "before"


def test_a_change_in_a_database_that_was_closed_meanwhile_is_not_taken_for_committed(
    tmp_path: Path,
) -> None:
    def work(db: perdure.DB, meeting: Meeting) -> None:
        with transaction.manager:
            db.open().root.x = "after"
            meeting.stop_here()

    raised = closed_while(tmp_path / "Data.fs", work)
    assert isinstance(raised, errors.ConnectionStateError)
    assert kept(tmp_path / "Data.fs") == "before"


def test_a_change_after_a_savepoint_in_a_database_that_was_closed_meanwhile_fails(
    tmp_path: Path,
) -> None:
    def work(db: perdure.DB, meeting: Meeting) -> None:
        connection = db.open()
        try:
            with transaction.manager:
                connection.root.x = "after"
                transaction.savepoint()
                meeting.stop_here()
                connection.root.x = "later"
                transaction.savepoint()
        finally:
            connection.close()

    raised = closed_while(tmp_path / "Data.fs", work)
    assert isinstance(raised, errors.ConnectionStateError)
    assert kept(tmp_path / "Data.fs") == "before"


def test_a_connection_and_its_database_can_be_closed_by_two_threads(tmp_path: Path) -> None:
    def work(db: perdure.DB, meeting: Meeting) -> None:
        connection = db.open()
        connection.onCloseCallback(meeting.stop_here)
        connection.close()

    assert closed_while(tmp_path / "Data.fs", work) is None


def test_what_a_thread_that_has_ended_left_in_its_transaction_is_aborted(tmp_path: Path) -> None:
    db = perdure.DB(str(tmp_path / "Data.fs"))
    manager = transaction.TransactionManager()
    steps: list[str] = []

    class Told(Stopper):
        def abort(self, _transaction: Any) -> None:
            steps.append("abort")

    def work() -> None:
        db.open(manager).root.x = 1
        manager.get().join(Told("", Meeting()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    db.close()
    assert steps == ["abort"]
