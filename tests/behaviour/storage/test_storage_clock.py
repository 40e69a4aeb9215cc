"""Transaction ids are times, and increase whatever the clock does."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from tests.storing import begun, commit, oid, tid_of

import perdure
from perdure.ids import NO_TID
from perdure.timestamp import TimeStamp

HOUR_S = 3600.0


def test_a_tid_is_the_time_of_the_commit(storage: Any) -> None:
    before = time.time()
    tid = commit(storage, {1: b"x"})
    after = time.time()
    assert before - 1e-3 <= TimeStamp(tid).timeTime() <= after + 1e-3
    assert storage.history(oid(1))[0]["time"] == pytest.approx(TimeStamp(tid).timeTime())


@pytest.mark.ours
def test_a_patched_clock_is_the_clock(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() + 10 * HOUR_S
    monkeypatch.setattr(time, "time", lambda: now)
    tid = commit(storage, {1: b"x"})
    assert TimeStamp(tid).timeTime() == pytest.approx(now, abs=1e-3)


def test_tids_increase_while_the_clock_stands_still(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    tids = [commit(storage, {1: b"%d" % number}) for number in range(20)]
    assert tids == sorted(set(tids))
    assert storage.lastTransaction() == tids[-1]


def test_tids_increase_while_the_clock_goes_backwards(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    tids = []
    for number in range(20):
        monkeypatch.setattr(time, "time", lambda at=now - number * HOUR_S: at)
        tids.append(commit(storage, {1: b"%d" % number}))
    assert tids == sorted(set(tids))
    assert [txn.tid for txn in storage.iterator()] == tids
    assert storage.load(oid(1)) == (b"19", tids[-1])


@pytest.mark.ours
def test_tids_go_on_after_those_of_a_file_from_the_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "data.fs")
    later = time.time() + HOUR_S
    with monkeypatch.context() as future:
        future.setattr(time, "time", lambda: later)
        storage = perdure.FileStorage(path)
        last = commit(storage, {1: b"x"})
        storage.close()
    caplog.clear()
    storage = perdure.FileStorage(path)
    (warning,) = caplog.records
    assert warning.levelno == logging.CRITICAL
    assert "future" in warning.getMessage()
    assert commit(storage, {1: b"y"}) == tid_of(int.from_bytes(last, "big") + 1)
    storage.close()


def test_a_tid_given_at_the_begin_is_taken(storage: Any) -> None:
    commit(storage, {1: b"x"})
    tid = tid_of(int.from_bytes(storage.lastTransaction(), "big") + 1000)
    txn = begun(storage, tid=tid)
    storage.restore(oid(2), tid, b"copied", "", None, txn)
    storage.tpc_vote(txn)
    assert storage.tpc_finish(txn) == tid == storage.lastTransaction()
    assert commit(storage, {3: b"y"}) > tid


@pytest.mark.ours
def test_a_tid_that_is_not_after_the_last_one_is_refused(storage: Any) -> None:
    last = commit(storage, {1: b"x"})
    for wrong in (last, tid_of(1)):
        txn = begun(storage, tid=wrong)
        storage.restore(oid(2), NO_TID, b"copied", "", None, txn)
        with pytest.raises(Exception, match="0x"):
            storage.tpc_vote(txn)
        storage.tpc_abort(txn)
    assert storage.lastTransaction() == last
    assert commit(storage, {1: b"y"}) > last
