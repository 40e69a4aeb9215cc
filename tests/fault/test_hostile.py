"""Bytes that somebody wrote to harm: they run nothing, and take no memory worth mentioning."""

import ast
import contextlib
import pickle
import resource

import pytest
from tests.storing import commit

import perdure
from perdure.classname import get_pickle_metadata
from perdure.connection.metadata import TransactionMetaData
from perdure.errors import StateLoadError
from perdure.serialize.reader import ObjectReader
from perdure.storage._extension import extension_of

# Six bytes that have the standard unpickler make room for a thousand million values.
GREEDY = b"}r\0\0\0\x40."
CLASS = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\0."
RUN: list[str] = []


def runs() -> str:
    """Leave a mark: some code was run."""
    RUN.append("run")
    return "run"


class Runs:
    """Is pickled as a call."""

    def __reduce__(self) -> tuple[object, ...]:
        return (runs, ())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("greedy", [CLASS + GREEDY, GREEDY, b"\x80\x03" + GREEDY * 2])
def test_a_record_that_numbers_a_value_beyond_its_length_is_damaged(greedy: bytes) -> None:
    before = _peak()
    with perdure.DB(None) as database:
        commit(database.storage, {7: greedy})
        connection = database.open()
        with pytest.raises(StateLoadError):
            connection.get(perdure.Oid(bytes(7) + b"\x07"))._p_activate()
        with pytest.raises(StateLoadError) as raised:
            ObjectReader(connection).getState(greedy)
        connection.close()
    assert "greater than the pickle is long" in str(raised.value.__cause__)
    assert _peak() - before < 100_000  # KiB


NUMBERS = b"K\x01K\x02K\x03\x87"


@pytest.mark.parametrize(
    "described",
    [
        b"K\x0f",
        b"X\x01\0\0\0x",
        b"cbuiltins\nlist\nK\x05\x86",
        NUMBERS,
        NUMBERS + b"N\x86",
        b"(" + b"N" * 61 + b"t",
        b"cbuiltins\nset\n",
        b"cpersistent.mapping\nPersistentMapping\nK\x01\x86",
        b"cbuiltins\nfrozenset\n(NtQ0cbuiltins\nfrozenset\n",
    ],
)
def test_a_record_whose_class_can_not_be_made_is_damaged(described: bytes) -> None:
    with perdure.DB(None) as database:
        commit(database.storage, {7: b"\x80\x03" + described + b".\x80\x03K\x0f."})
        connection = database.open()
        with pytest.raises(StateLoadError):
            connection.get(perdure.Oid(bytes(7) + b"\x07"))._p_activate()
        connection.close()


@pytest.mark.parametrize("size", [2**31, 10**30])
def test_a_cache_larger_than_any_is_as_large_as_one_can_be(size: int) -> None:
    with perdure.DB(
        None, cache_size=size, cache_size_bytes=size, historical_cache_size=size
    ) as database:
        database.setHistoricalCacheSizeBytes(size)
        database.setCacheSize(size)
        for connection in (database.open(), database.open(at=database.lastTransaction())):
            connection.root()
            connection.close()


def test_a_class_name_or_extension_that_numbers_a_value_beyond_its_length_is_none() -> None:
    before = _peak()
    assert get_pickle_metadata(GREEDY) == ("", "")
    assert extension_of(GREEDY) == {}
    assert _peak() - before < 100_000  # KiB


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("OOBTree", "((1,),)"),
        ("OOBTree", "(5, 6)"),
        ("OOBTree", "(((1, 2, 3),),)"),
        ("OOBTree", "((None),)"),
        ("OOBucket", "(5,)"),
    ],
)
def test_a_tree_of_senseless_nodes_is_no_tree_to_walk_over(name: str, state: str) -> None:
    with contextlib.closing(perdure.MappingStorage()) as storage:
        described = f"\x80\x03cBTrees.OOBTree\n{name}\n.".encode()
        commit(storage, {0: described + pickle.dumps(ast.literal_eval(state), 3)})
        inspector = perdure.Inspector(storage)
        with contextlib.suppress(ValueError):
            assert list(inspector.items(inspector.at("/"))) == []


def test_a_tree_whose_first_child_is_another_member_s_is_not_taken_for_one_s_own() -> None:
    with contextlib.closing(perdure.MappingStorage()) as storage:
        reference = b"](X\x01\0\0\0nX\x05\0\0\0otherC\x08\0\0\0\0\0\0\0\x01\x86eQ"
        tree = (
            b"\x80\x03cBTrees.OOBTree\nOOBTree\n.\x80\x03("
            + reference
            + b"t"
            + reference
            + b"\x86."
        )
        bucket = b"\x80\x03cBTrees.OOBTree\nOOBucket\n." + pickle.dumps((("mine", 1),), 3)
        commit(storage, {0: tree, 1: bucket})
        inspector = perdure.Inspector(storage)
        assert list(inspector.items(inspector.at("/"))) == []


def test_a_bytearray_larger_than_its_record_takes_no_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # CPython complains on the standard error stream where it finds no room for one.
    assert get_pickle_metadata(b"\x80\x03cm\nC\n\x96" + b"\x40" * 8) == ("", "")
    assert capsys.readouterr().err == ""


def test_what_annotates_a_transaction_is_not_run() -> None:
    given = pickle.dumps({"x": Runs()}, 3)
    metadata = TransactionMetaData(extension=given)
    assert metadata.extension == {}
    assert metadata.extension_bytes == given
    assert RUN == []
