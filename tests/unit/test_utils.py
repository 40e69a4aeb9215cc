"""Ids, time stamps and the small helpers."""

import datetime as dt
import io
import pickle
import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import _native, timestamp, utils
from perdure.ids import MAX_TID, NO_TID, Oid, Tid


def test_integers_and_ids_convert_both_ways() -> None:
    assert utils.p64(258) == b"\0\0\0\0\0\0\1\2"
    assert utils.u64(utils.p64(2**64 - 1)) == 2**64 - 1
    with pytest.raises(ValueError, match="-1"):
        utils.p64(-1)
    with pytest.raises(ValueError, match="8 bytes"):
        utils.u64(b"short")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0x00"), (1, "0x01"), (256, "0x0100"), (2**40, "0x010000000000")]
)
def test_oids_are_shown_short(number: int, text: str) -> None:
    oid = Oid(utils.p64(number))
    assert utils.oid_repr(oid) == text
    assert utils.repr_to_oid(text) == oid


def test_what_is_no_oid_is_shown_as_it_is() -> None:
    assert utils.oid_repr(None) == "None"
    assert utils.readable_tid_repr(b"x") == "b'x'"


def test_new_tids_increase_even_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = utils.newTid(None)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert utils.newTid(first) > first
    assert utils.newTid(None) < first


def test_tids_are_times() -> None:
    moment = dt.datetime(2020, 2, 3, 4, 5, 6, 500_000)
    tid = timestamp.tid_at_datetime(moment)
    aware = moment.replace(tzinfo=dt.timezone.utc)
    assert timestamp.tid_at_datetime(aware) == tid
    assert timestamp.time_of_tid(tid) == pytest.approx(aware.timestamp(), abs=1e-6)
    assert "2020-02-03 04:05:06.500000" in utils.readable_tid_repr(tid)


@pytest.mark.parametrize(
    ("moment", "tid"),
    [
        ("9999-12-31T23:59:59", MAX_TID),
        ("9999-12-31T23:59:59-14:00", MAX_TID),
        ("5909-12-31T00:00:00", MAX_TID),
        ("1899-01-01T00:00:00", NO_TID),
        ("0001-01-01T00:00:00+14:00", NO_TID),
    ],
)
def test_a_time_beyond_all_tids_is_the_last_or_first_of_them(moment: str, tid: bytes) -> None:
    assert timestamp.tid_at_datetime(dt.datetime.fromisoformat(moment)) == tid


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(high=st.integers(0x037E0000, 0x09000000), low=st.integers(0, 2**32 - 1))
def test_a_tid_is_the_same_time_natively_to_the_last_bit(high: int, low: int) -> None:
    # Every date has its minutes of a month of 31 days; not every such number is a date.
    day = high // 1440 % 31
    high -= max(0, day - 27) * 1440
    tid = Tid(utils.p64(high << 32 | low))
    assert _native.time_of_tid(tid) == timestamp.time_of_tid(tid)


def test_at_and_before_are_neighbours() -> None:
    tid = Tid(b"\x03\xe0" + b"\0" * 6)
    assert utils.before2at(utils.at2before(tid)) == tid
    assert utils.at2before(tid) > tid
    assert tid < MAX_TID


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (dt.date, ("datetime", "date")),
        ((dt.date, (1, 2)), ("datetime", "date")),
        ((("some.where", "Thing"), None), ("some.where", "Thing")),
        (None, ("", "")),
    ],
)
def test_the_class_of_a_record_is_read_without_importing_it(
    described: Any, expected: tuple[str, str]
) -> None:
    data = pickle.dumps(described, 3) + pickle.dumps({}, 3)
    assert utils.get_pickle_metadata(data) == expected


def test_garbage_has_no_class() -> None:
    assert utils.get_pickle_metadata(b"\xff\xff") == ("", "")
    assert utils.get_pickle_metadata(b"") == ("", "")


def test_copying_stops_at_the_length() -> None:
    target = io.BytesIO()
    utils.cp(io.BytesIO(b"abcdef"), target, 4, bufsize=3)
    assert target.getvalue() == b"abcd"


def test_locked_methods_hold_the_lock_and_check() -> None:
    class Thing:
        def __init__(self) -> None:
            self._lock = threading.RLock()
            self.open = True

        def is_open(self) -> bool:
            """The thing is open"""
            return self.open

        @utils.locked
        def held(self, extra: int) -> tuple[bool, int]:
            """Whether the lock is held."""
            return self._lock._is_owned(), extra  # type: ignore[attr-defined]

        @utils.locked(is_open)
        def checked(self) -> str:
            return "fine"

    thing = Thing()
    assert thing.held(3) == (True, 3)
    assert thing.checked() == "fine"
    thing.open = False
    with pytest.raises(AssertionError, match="The thing is open"):
        thing.checked()
