"""Time stamps: the times that transaction ids are made from."""

import time

import pytest

from perdure import TimeStamp


def test_a_time_stamp_tells_its_parts() -> None:
    stamp = TimeStamp(2026, 5, 1, 12, 30, 15.25)
    assert (stamp.year(), stamp.month(), stamp.day()) == (2026, 5, 1)
    assert (stamp.hour(), stamp.minute()) == (12, 30)
    assert stamp.second() == pytest.approx(15.25, abs=1e-6)


def test_a_time_stamp_is_that_of_utc() -> None:
    assert TimeStamp(1970, 1, 1, 0, 0, 0.0).timeTime() == 0
    assert TimeStamp(*time.gmtime(1_000_000_000)[:6]).timeTime() == pytest.approx(1e9, abs=1e-6)


def test_the_eight_bytes_make_the_same_time_stamp() -> None:
    stamp = TimeStamp(2026, 5, 1, 12, 30, 15.25)
    assert len(stamp.raw()) == 8
    assert TimeStamp(stamp.raw()) == stamp
    assert TimeStamp(stamp.raw()).timeTime() == stamp.timeTime()


def test_time_stamps_are_ordered_and_hashed_by_their_time() -> None:
    stamps = [TimeStamp(2026, month, 1, 0, 0, 0.0) for month in (3, 1, 2)]
    assert [stamp.month() for stamp in sorted(stamps)] == [1, 2, 3]
    assert sorted(stamps, key=lambda stamp: stamp.raw()) == sorted(stamps)
    assert len({*stamps, TimeStamp(2026, 1, 1, 0, 0, 0.0)}) == 3


def test_microseconds_are_told_apart() -> None:
    first = TimeStamp(2026, 5, 1, 12, 30, 15.000001)
    second = TimeStamp(2026, 5, 1, 12, 30, 15.000002)
    assert first < second
    assert first.raw() < second.raw()


def test_a_later_time_stamp_is_itself_or_the_moment_after() -> None:
    early, late = TimeStamp(2026, 5, 1, 0, 0, 0.0), TimeStamp(2026, 5, 2, 0, 0, 0.0)
    assert late.laterThan(early) is late
    moved = early.laterThan(late)
    assert moved > late
    assert int.from_bytes(moved.raw(), "big") == int.from_bytes(late.raw(), "big") + 1
    assert early.laterThan(early) > early
