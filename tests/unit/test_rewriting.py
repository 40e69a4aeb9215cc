"""References in records are replaced where they are used, and nothing else changes."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure import _native
from perdure.ids import Oid
from perdure.serialize.pickling import dump_both, load_both
from perdure.serialize.rewriting import Reference, parsed_references, rewrite_references

MAPPING = ("persistent.mapping", "PersistentMapping")
DATABASES = ("one", "two", "drei", "vier")

oids = st.integers(0, 20).map(lambda number: Oid(number.to_bytes(8, "big")))


class Stand:
    """Stands in a state for an object that is referred to."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference


def pid_of(value: Any) -> Any:
    if not isinstance(value, Stand):
        return None
    oid, database, weak, cls = value.reference
    if weak:
        return ["w", (oid,) if database is None else (oid, database)]
    if database is None:
        return oid if cls is None else (oid, perdure.PersistentMapping)
    if cls is None:
        return ["n", (database, oid)]
    return ["m", (database, oid, perdure.PersistentMapping)]


references_of_all_kinds = st.builds(
    lambda oid, database, weak, cls: Reference(oid, database, weak, None if weak else cls),
    oids,
    st.none() | st.sampled_from(DATABASES),
    st.booleans(),
    st.none() | st.just(MAPPING),
)
states = st.recursive(
    references_of_all_kinds.map(Stand) | st.sampled_from(DATABASES) | oids | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(DATABASES), inner),
)


def seen(data: bytes) -> Any:
    """Return class and state, with references in them."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return value

    found = iter(parsed_references(data))
    return plain(load_both(data, lambda module, name: (module, name), lambda _: next(found))[1])


def other(reference: Reference) -> Reference:
    """Return what stands for another object, at times in another database, or no more."""
    oid = Oid(bytes([1]) + reference.oid[1:])
    renamed: dict[str | None, str | None] = {None: "two", "one": "eins", "two": None}
    return reference._replace(oid=oid, database=renamed.get(reference.database, reference.database))


@given(states)
def test_all_references_are_replaced_and_all_else_stays(state: Any) -> None:
    data = dump_both(perdure.PersistentMapping, {"state": state}, pid_of)
    rewritten = rewrite_references(data, other)
    expected = [other(each) for each in parsed_references(data)]
    assert parsed_references(rewritten) == expected
    # The native reader sees the same.
    native = _native.all_references(rewritten)
    assert [(oid, database, kind == "weak") for kind, oid, database in native] == [
        (each.oid, each.database, each.weak) for each in expected
    ]
    undone = iter(parsed_references(data))
    assert seen(rewrite_references(rewritten, lambda _: next(undone))) == seen(data)


@given(states)
def test_what_is_not_replaced_is_the_same_bytes(state: Any) -> None:
    data = dump_both(perdure.PersistentMapping, {"state": state}, pid_of)
    assert rewrite_references(data, lambda each: each) == data


def test_a_name_that_the_state_uses_too_stays_there() -> None:
    name = "customers"
    stand = Stand(Reference(Oid(b"\0" * 8), name))
    # The pickle writes the name once.
    data = dump_both(perdure.PersistentMapping, [name, stand, name], pid_of)
    assert data.count(b"customers") == 1
    rewritten = rewrite_references(data, lambda each: each._replace(database="clients"))
    assert seen(rewritten) == [name, Reference(Oid(b"\0" * 8), "clients"), name]


def test_pickles_in_frames_are_rewritten() -> None:
    import io

    file = io.BytesIO()
    for value in (perdure.PersistentMapping, {"there": Stand(Reference(Oid(b"\0" * 8), "one"))}):
        pickler = pickle.Pickler(file, 4)
        pickler.persistent_id = pid_of  # type: ignore[method-assign]
        pickler.dump(value)
    rewritten = rewrite_references(file.getvalue(), lambda each: each._replace(database="x" * 300))
    assert [each.database for each in parsed_references(rewritten)] == ["x" * 300]


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x03N.\x80\x03NQ."])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="record"):
        rewrite_references(data, other)
