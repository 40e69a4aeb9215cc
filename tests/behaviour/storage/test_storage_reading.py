"""What a storage gives back of what was committed."""

from typing import Any

import pytest
from tests.storing import begun, commit, oid, tid_of, undo

from perdure.errors import POSKeyError
from perdure.ids import MAX_TID, NO_TID, Tid


def after(tid: Tid) -> Tid:
    return tid_of(int.from_bytes(tid, "big") + 1)


def test_an_empty_storage_has_nothing(storage: Any) -> None:
    assert len(storage) == 0
    assert storage.lastTransaction() == NO_TID
    assert list(storage.iterator()) == []
    with pytest.raises(KeyError):
        storage.load(oid(0))
    with pytest.raises(ValueError, match=r"\S"):
        storage.record_iternext()


@pytest.mark.ours
def test_a_storage_without_objects_is_not_taken_for_none(storage: Any) -> None:
    assert bool(storage)


@pytest.mark.parametrize("data", [b"x", b"\0" * 10, bytes(range(256)) * 500, b"z" * (3 << 20)])
def test_load_gives_what_was_stored_and_its_serial(storage: Any, data: bytes) -> None:
    tid = commit(storage, {1: data})
    assert storage.load(oid(1)) == (data, tid)
    assert storage.load(oid(1), "") == (data, tid)
    assert storage.getTid(oid(1)) == tid
    assert storage.loadSerial(oid(1), tid) == data


@pytest.mark.fault_of_stock("it stores an empty record, and what follows it is damaged")
def test_an_empty_record_is_refused_and_nothing_is_damaged(storage: Any) -> None:
    tid = commit(storage, {1: b"before"})
    txn = begun(storage)
    with pytest.raises(ValueError, match="empty"):
        storage.store(oid(1), tid, b"", "", txn)
    storage.store(oid(1), tid, b"after", "", txn)
    storage.tpc_vote(txn)
    later = storage.tpc_finish(txn)
    assert storage.load(oid(1)) == (b"after", later)
    assert [record.data for txn in storage.iterator() for record in txn] == [b"before", b"after"]


@pytest.mark.ours
def test_a_copy_of_an_empty_record_is_refused_too(storage: Any) -> None:
    txn = begun(storage)
    with pytest.raises(ValueError, match="empty"):
        storage.restore(oid(1), bytes(8), b"", "", None, txn)
    storage.tpc_abort(txn)


@pytest.mark.parametrize("method", ["load", "getTid"])
def test_an_unknown_object_is_a_keyerror_with_its_oid(storage: Any, method: str) -> None:
    commit(storage, {1: b"x"})
    with pytest.raises(KeyError) as caught:
        getattr(storage, method)(oid(2))
    assert caught.value.args[0] == oid(2)


@pytest.mark.ours
def test_an_unknown_object_is_a_poskeyerror_for_every_method(storage: Any) -> None:
    tid = commit(storage, {1: b"x"})
    for method in (storage.load, storage.getTid, storage.history):
        with pytest.raises(POSKeyError, match="0x02"):
            method(oid(2))
    for method, argument in ((storage.loadSerial, tid), (storage.loadBefore, MAX_TID)):
        with pytest.raises(POSKeyError, match="0x02"):
            method(oid(2), argument)


def test_a_revision_that_never_was_is_a_keyerror(storage: Any) -> None:
    tid = commit(storage, {1: b"x"})
    later = commit(storage, {2: b"y"})
    for key, serial in [(oid(1), later), (oid(2), tid), (oid(3), tid), (oid(1), NO_TID)]:
        with pytest.raises(KeyError):
            storage.loadSerial(key, serial)


def test_load_before_gives_each_revision_with_its_end(storage: Any) -> None:
    tids = [commit(storage, {1: b"%d" % number}) for number in range(5)]
    assert storage.loadBefore(oid(1), tids[0]) is None
    for number in range(5):
        end = tids[number + 1] if number < 4 else None
        expected = b"%d" % number, tids[number], end
        assert storage.loadBefore(oid(1), after(tids[number])) == expected
        assert storage.loadBefore(oid(1), end or MAX_TID) == expected


def test_load_before_of_an_object_that_never_was_is_a_keyerror(storage: Any) -> None:
    commit(storage, {1: b"x"})
    with pytest.raises(KeyError):
        storage.loadBefore(oid(2), MAX_TID)


def test_an_object_created_later_is_not_there_before(storage: Any) -> None:
    first = commit(storage, {1: b"x"})
    second = commit(storage, {2: b"y"})
    assert storage.loadBefore(oid(2), after(first)) is None
    assert storage.loadBefore(oid(2), after(second)) == (b"y", second, None)


@pytest.mark.parametrize("how", ["undone", "deleted"])
def test_an_object_that_is_gone_is_there_before(storage: Any, how: str) -> None:
    commit(storage, {0: b"root"})
    created = commit(storage, {1: b"x"})
    gone = undo(storage, created) if how == "undone" else commit(storage, {}, delete=[1])
    for method in (storage.load, storage.getTid):
        with pytest.raises(KeyError):
            method(oid(1))
    for end in (MAX_TID, after(gone)):
        with pytest.raises(KeyError):
            storage.loadBefore(oid(1), end)
    assert storage.loadBefore(oid(1), created) is None
    assert storage.loadBefore(oid(1), gone) == (b"x", created, gone)
    assert storage.loadSerial(oid(1), created) == b"x"


def test_undone_data_are_read_through_any_number_of_undos(storage: Any) -> None:
    commit(storage, {1: b"first"})
    tid = commit(storage, {1: b"second"})
    for turn in range(6):
        tid = undo(storage, tid)
        data = b"second" if turn % 2 else b"first"
        assert storage.load(oid(1)) == (data, tid)
        assert storage.loadSerial(oid(1), tid) == data
        assert storage.loadBefore(oid(1), MAX_TID) == (data, tid, None)


# History.


@pytest.mark.sizes
def test_history_describes_the_newest_revisions_first(storage: Any) -> None:
    first = commit(storage, {1: b"a"}, user="ada", description="made")
    second = commit(storage, {1: b"bcd"}, extension={"ticket": 7, "size": "large"})
    newest, oldest = storage.history(oid(1), size=10)
    assert (newest["tid"], oldest["tid"]) == (second, first)
    assert (oldest["user_name"], oldest["description"]) == (b"ada", b"made")
    assert (newest["size"], oldest["size"]) == (3, 1)
    assert newest["ticket"] == 7
    assert oldest["time"] <= newest["time"]
    assert storage.history(oid(1)) == [newest]


@pytest.mark.sizes
@pytest.mark.ours
def test_what_history_describes_is_not_hidden_by_annotations(storage: Any) -> None:
    tid = commit(storage, {1: b"bcd"}, extension={"size": "large", "tid": "mine", "note": "n"})
    (entry,) = storage.history(oid(1))
    assert (entry["size"], entry["tid"], entry["serial"], entry["note"]) == (3, tid, tid, "n")


@pytest.mark.sizes
@pytest.mark.parametrize("before_bytes", [1, 300, 420, 480, 600, 70_000])
def test_history_knows_the_transaction_however_far_before_the_record_it_begins(
    storage: Any, before_bytes: int
) -> None:
    user = "u" * min(before_bytes, 65_000)
    for number in (1, 2):
        commit(storage, {2: b"x" * before_bytes, 1: b"y" * number}, user=user, description="d")
    found = storage.history(oid(1), 3)
    assert [entry["size"] for entry in found] == [2, 1]
    told = {(entry["user_name"], entry["description"]) for entry in found}
    assert told == {(user.encode(), b"d")}


def test_history_of_an_unknown_object_is_a_keyerror(storage: Any) -> None:
    with pytest.raises(KeyError):
        storage.history(oid(1))


def test_history_can_be_filtered(storage: Any) -> None:
    tids = [commit(storage, {1: b"x"}, user=user) for user in ("ada", "bob", "ada", "bob")]
    found = storage.history(oid(1), 1, filter=lambda entry: entry["user_name"] == b"ada")
    assert [entry["tid"] for entry in found] == [tids[2]]
    found = storage.history(oid(1), 10, filter=lambda entry: entry["user_name"] == b"ada")
    assert [entry["tid"] for entry in found] == [tids[2], tids[0]]


def test_history_of_nothing_asks_for_nothing(storage: Any) -> None:
    commit(storage, {1: b"x"})
    assert list(storage.history(oid(1), 0)) == []


# One current record after the other.


def walk(storage: Any) -> list[tuple[int, bytes]]:
    found, following = [], None
    while True:
        key, tid, data, following = storage.record_iternext(following)
        assert storage.load(key) == (data, tid)
        found.append((int.from_bytes(key, "big"), data))
        if following is None:
            return found


def test_record_iternext_walks_over_the_current_records_by_oid(storage: Any) -> None:
    numbers = [70_000, 3, 0, 1 << 40, 200]
    for number in numbers:
        commit(storage, {number: b"%d" % number})
    commit(storage, {3: b"changed"})
    expected = {number: b"%d" % number for number in numbers} | {3: b"changed"}
    assert walk(storage) == sorted(expected.items())


@pytest.mark.fault_of_stock("it stops with an error at an object whose creation was undone")
@pytest.mark.parametrize("gone", [0, 1, 2])
def test_record_iternext_passes_objects_that_are_gone(storage: Any, gone: int) -> None:
    others = {number: b"%d" % number for number in range(3) if number != gone}
    commit(storage, others)
    undo(storage, commit(storage, {gone: b"gone"}))
    assert walk(storage) == sorted(others.items())


@pytest.mark.ours
def test_record_iternext_says_so_where_every_object_is_gone(storage: Any) -> None:
    undo(storage, commit(storage, {1: b"gone"}))
    with pytest.raises(ValueError, match="no object"):
        storage.record_iternext()


# Numbers.


def test_the_number_of_objects_counts_each_once(storage: Any) -> None:
    commit(storage, dict.fromkeys(range(10), b"x"))
    commit(storage, dict.fromkeys(range(5, 15), b"y"))
    assert len(storage) == 15


@pytest.mark.sizes
def test_the_size_grows_with_the_data(storage: Any) -> None:
    before = storage.getSize()
    commit(storage, {1: b"x" * 10_000})
    assert 10_000 < storage.getSize() - before < 11_000


def test_new_oids_were_never_given_out_or_stored(storage: Any) -> None:
    commit(storage, {1000: b"x"})
    given = [storage.new_oid() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert min(given) > oid(1000)


def test_a_greater_oid_can_be_set(storage: Any) -> None:
    storage.set_max_oid(oid(500))
    assert storage.new_oid() == oid(501)
    storage.set_max_oid(oid(10))
    assert storage.new_oid() == oid(502)


# Wrong arguments.


@pytest.mark.ours
@pytest.mark.parametrize("wrong", [1, None, "x" * 8, b"short", b"x" * 9, bytearray(8)])
def test_what_is_no_oid_is_refused_by_its_type_or_length(storage: Any, wrong: Any) -> None:
    commit(storage, {0: b"root"})
    for method in (storage.load, storage.getTid, storage.history):
        with pytest.raises((TypeError, ValueError, POSKeyError)):
            method(wrong)
    with pytest.raises((TypeError, ValueError, POSKeyError)):
        storage.loadBefore(wrong, MAX_TID)
    with pytest.raises((TypeError, ValueError)):
        storage.loadBefore(oid(0), wrong)
    assert storage.load(oid(0))[0] == b"root"
