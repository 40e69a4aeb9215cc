"""The log that views catch up from."""

import pytest

from perdure import invalidations
from perdure.ids import NO_TID, Oid, Tid
from perdure.invalidations import InvalidationLog
from perdure.utils import p64


def oid(number: int) -> Oid:
    return Oid(p64(number))


def tid(number: int) -> Tid:
    return Tid(p64(number))


def test_a_reader_is_told_everything_once() -> None:
    log = InvalidationLog()
    start = log.end
    log.append(tid(1), [oid(1), oid(2)])
    log.append(tid(2), [oid(3)])
    news = log.since(start, "reader")
    assert news.changed == [oid(1), oid(2), oid(3)]
    assert news.last == tid(2)
    assert log.since(news.position, "reader").changed == []


def test_nothing_is_news_in_an_empty_log() -> None:
    log = InvalidationLog()
    assert log.since(log.end, "reader") == ([], NO_TID, 0)


def test_an_author_is_told_only_what_it_does_not_know() -> None:
    log = InvalidationLog()
    log.append(tid(1), [oid(1), oid(2)], author="me", author_oids=[oid(2)])
    assert log.since(0, "me").changed == [oid(2)]
    assert log.since(0, "other").changed == [oid(1), oid(2)]


def test_who_was_away_for_too_long_is_told_that_anything_may_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invalidations, "OIDS_KEPT_MAX", 20)
    log = InvalidationLog()
    positions = []
    for number in range(30):
        positions.append(log.end)
        log.append(tid(number + 1), [oid(number)])
    assert log.since(positions[0], "reader").changed is None
    news = log.since(positions[-3], "reader")
    assert news.changed == [oid(27), oid(28), oid(29)]
    assert news.last == tid(30)


def test_one_transaction_too_large_to_keep_is_announced_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invalidations, "OIDS_KEPT_MAX", 20)
    log = InvalidationLog()
    log.append(tid(1), [oid(number) for number in range(50)])
    news = log.since(0, "reader")
    assert news.changed is None
    assert news.last == tid(1)
    assert log.since(news.position, "reader").changed == []


def test_after_forgetting_everybody_is_told_that_anything_may_have_changed() -> None:
    log = InvalidationLog()
    log.append(tid(1), [oid(1)])
    position = log.end
    log.forget()
    news = log.since(position, "reader")
    assert news.changed is None
    assert log.since(news.position, "reader").changed == []
