"""Loops over siblings are noticed, and what comes next is asked for."""

from collections.abc import Sequence

import pytest
from persistent import Persistent
from tests.property.records import NativeConnection, Records, Thing, numbered

from perdure.ids import Oid
from perdure.mvcc.readahead import FAMILIES_MAX, WIDTH_FIRST, WIDTH_MAX, ReadAhead
from perdure.serialize import ObjectWriter

COUNT = 1000
OWNER = numbered(1)
LEAF = b"c__main__\nLeaf\n.N."


def record_of(numbers: Sequence[int]) -> bytes:
    """Return the record of an object that refers to these."""
    connection = NativeConnection(Records())
    things: list[Persistent] = []
    for number in numbers:
        thing = Thing()
        thing._p_oid, thing._p_jar = numbered(number), connection
        things.append(thing)
    owner = Thing(things)
    owner._p_oid, owner._p_jar = OWNER, connection
    record: bytes = ObjectWriter(connection).serialize(owner)
    return record


SIBLINGS = [numbered(1000 + number) for number in range(COUNT)]
PARENT = record_of(range(1000, 1000 + COUNT))


@pytest.fixture
def asked() -> list[Oid]:
    return []


@pytest.fixture
def ahead(asked: list[Oid]) -> ReadAhead:
    return ReadAhead(asked.extend)


def test_a_loop_has_each_of_the_next_ones_fetched_once_and_in_time(
    ahead: ReadAhead, asked: list[Oid]
) -> None:
    ahead.loaded(OWNER, PARENT)
    unforeseen = []
    for sibling in SIBLINGS:
        if sibling not in asked:
            unforeseen.append(sibling)
        ahead.loaded(sibling, LEAF)
    assert unforeseen == SIBLINGS[:3]
    assert asked == SIBLINGS[3:]


def test_a_loop_that_loads_others_in_between_is_one(ahead: ReadAhead, asked: list[Oid]) -> None:
    ahead.loaded(OWNER, PARENT)
    children = record_of(range(5))
    for sibling in SIBLINGS[:100]:
        ahead.loaded(sibling, children)
        for child in range(5):
            ahead.loaded(numbered(child), LEAF)
    assert set(asked) >= set(SIBLINGS[3:100])


def test_a_loop_is_one_though_some_are_in_the_cache(ahead: ReadAhead, asked: list[Oid]) -> None:
    ahead.loaded(OWNER, PARENT)
    for sibling in SIBLINGS[:100:3]:
        ahead.loaded(sibling, LEAF)
    assert set(asked) >= set(SIBLINGS[9:100])


def test_more_is_fetched_the_longer_a_loop_goes_on(ahead: ReadAhead) -> None:
    widths: list[int] = []
    ahead = ReadAhead(lambda oids: widths.append(len(oids)))
    ahead.loaded(OWNER, PARENT)
    for sibling in SIBLINGS[:600]:
        ahead.loaded(sibling, LEAF)
    assert widths[0] == WIDTH_FIRST
    assert widths == sorted(widths)
    assert widths[-1] == WIDTH_MAX


def test_jumping_about_fetches_nothing(ahead: ReadAhead, asked: list[Oid]) -> None:
    ahead.loaded(OWNER, PARENT)
    for number in range(0, COUNT * 7, 7):
        ahead.loaded(SIBLINGS[number * 13 % COUNT], LEAF)
    assert not asked


def test_few_siblings_and_records_of_others_making_fetch_nothing(
    ahead: ReadAhead, asked: list[Oid]
) -> None:
    ahead.loaded(OWNER, record_of([1000, 1001, 1002]))
    ahead.loaded(numbered(2), b"no record at all")
    for sibling in SIBLINGS[:3]:
        ahead.loaded(sibling, LEAF)
    assert not asked


def test_a_new_snapshot_begins_anew(ahead: ReadAhead, asked: list[Oid]) -> None:
    ahead.loaded(OWNER, PARENT)
    ahead.forget()
    for sibling in SIBLINGS[:10]:
        ahead.loaded(sibling, LEAF)
    assert not asked


def test_what_fetching_raises_does_not_reach_the_one_who_loads() -> None:
    def fail(_oids: Sequence[Oid]) -> None:
        raise ConnectionError("the server is gone")

    ahead = ReadAhead(fail)
    ahead.loaded(OWNER, PARENT)
    for sibling in SIBLINGS[:10]:
        ahead.loaded(sibling, LEAF)


def test_what_is_remembered_is_bounded(ahead: ReadAhead) -> None:
    for number in range(FAMILIES_MAX * 3):
        ahead.loaded(numbered(number), record_of(range(number * 10, number * 10 + 5)))
    assert len(ahead._families) == FAMILIES_MAX
    assert len(ahead._places) == FAMILIES_MAX * 5
