"""`DB(class_policy=...)`: what records may bring in, and what they can't."""

import copyreg
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from tests.behaviour.models import Account, Counter, Node
from tests.storing import commit

import perdure
from perdure.errors import ConflictError, ForbiddenClassError
from perdure.serialize.standard import StandardConnectionBase

MODELS = ["tests.behaviour.models"]
PERSISTENT = b"\x80\x02cpersistent.mapping\nPersistentMapping\n."
RUN: list[str] = []


def runs(*arguments: object) -> str:
    """Leave a mark: some code was run."""
    RUN.append(repr(arguments))
    return "run"


class Marks:
    """Leaves a mark when it is made, or given a state."""

    def __init__(self, *arguments: object) -> None:
        RUN.append("made")

    def __setstate__(self, state: object) -> None:
        RUN.append("given a state")


class StandardConnection(perdure.Connection):
    """A connection that reads every record by the standard `pickle`."""

    setstate = StandardConnectionBase.setstate
    get: Any = StandardConnectionBase.get
    __getitem__: Any = StandardConnectionBase.__getitem__
    _being_made = StandardConnectionBase._being_made
    _load_count = 0


@pytest.fixture(params=["native", "standard"])
def open_db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., perdure.DB]]:
    """Open the same file again and again, reading natively or by the standard pickle."""
    opened: list[perdure.DB] = []

    class Database(perdure.DB):
        klass = perdure.Connection if request.param == "native" else StandardConnection

    def open_again(**options: Any) -> perdure.DB:
        while opened:
            opened.pop().close()
        opened.append(Database(str(tmp_path / "Data.fs"), database_name="shop", **options))
        return opened[-1]

    yield open_again
    while opened:
        opened.pop().close()
    RUN.clear()
    copyreg.clear_extension_cache()


def test_objects_of_allowed_classes_are_loaded(open_db: Callable[..., perdure.DB]) -> None:
    with open_db().transaction() as connection:
        connection.root.account = Account(5)
        connection.root.tree = OOBTree({"a": Node(data={1, 2}, at=b"x")})
    for policy in (MODELS, [Account, "tests.behaviour.models.Node"], ["tests"], _of_tests):
        with open_db(class_policy=policy).transaction() as connection:
            assert connection.root.account.balance == 5
            assert connection.root.tree["a"].data == {1, 2}


def _of_tests(module: str, name: str) -> bool:
    return module.startswith("tests.")


def test_an_object_of_another_class_is_an_error_that_names_it(
    open_db: Callable[..., perdure.DB],
) -> None:
    with open_db().transaction() as connection:
        connection.root.account = Account(5)
        connection.add(node := Node(inner=[Account(7)]))
        oid = node._p_oid
    for policy in ([], ["tests.behaviour.models.Node"], ["tests.behav"], lambda *_: False):
        connection = open_db(class_policy=policy).open()
        with pytest.raises(ForbiddenClassError) as caught:
            _ = connection.get(oid).inner
        assert caught.value.oid == oid
        assert caught.value.database == "shop"
        assert caught.value.class_name in {"tests.behaviour.models.Node", _ACCOUNT}
        for known in (str(oid.hex().lstrip("0")), "'shop'", str(caught.value.class_name)):
            assert known in str(caught.value)
        connection.close()


_ACCOUNT = "tests.behaviour.models.Account"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _stack_global(module: str, name: str) -> bytes:
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return texts + b"\x93"


HERE = __name__
HOSTILE = {
    "a function that is called": _global(HERE, "runs") + b"(tR",
    "a class that is made": _global(HERE, "Marks") + b")\x81",
    "a class that is made with names": _global(HERE, "Marks") + b")}\x92",
    "a state that is given": _global(HERE, "Marks") + b")\x81}b",
    "names from the stack": _stack_global(HERE, "runs") + b")R",
    "an old instance": b"(i" + f"{HERE}\nMarks\n".encode(),
    "an old object": b"(" + _global(HERE, "Marks") + b"o",
    "an extension code": b"\x82\xf1)R",
    "a wide extension code": b"\x84\xf1\0\0\0)R",
    "a function of the interpreter": _global("builtins", "eval") + b"X\x03\0\0\x001+1\x85R",
    "a getter": _global("builtins", "getattr")
    + b"("
    + _global(HERE, "RUN")
    + b"X\x05\0\0\0cleartR",
    "what an allowed module imported": _global("tests.behaviour.models", "Any"),
    "what hides in an allowed class": _stack_global(
        "tests.behaviour.models", "Account.__init__.__globals__"
    ),
    "a method of an allowed class": _stack_global(
        "tests.behaviour.models", "Account.__subclasses__"
    )
    + b")R",
    "a subclass made on the spot": _global("builtins", "type")
    + b"(X\x01\0\0\0x"
    + _global("tests.behaviour.models", "Account")
    + b"\x85}tR",
    "a copy by reduce": _global("copyreg", "_reconstructor")
    + b"("
    + _global(HERE, "Marks")
    + _global("builtins", "object")
    + b"NtR",
    "a broken object brought back": _global("ZODB.broken", "rebuild")
    + b"(X"
    + len(HERE).to_bytes(4, "little")
    + HERE.encode()
    + b"X\x05\0\0\0MarkstR",
    "a broken object brought back by this package's name": _global("perdure.broken", "rebuild")
    + b"(X"
    + len(HERE).to_bytes(4, "little")
    + HERE.encode()
    + b"X\x05\0\0\0MarkstR",
    "a reference that names a class": b"(C\x08\0\0\0\0\0\0\0\x09" + _global(HERE, "Marks") + b"tQ",
}


@pytest.mark.parametrize("trick", HOSTILE)
@pytest.mark.parametrize("policy", [MODELS, lambda module, _name: module == MODELS[0]])
def test_nothing_that_a_record_tries_is_run(
    trick: str, policy: Any, open_db: Callable[..., perdure.DB]
) -> None:
    copyreg.add_extension(HERE, "runs", 0xF1)
    try:
        # As if some other code had used the number before.
        assert pickle.loads(b"\x80\x02\x82\xf1.") is runs
        state = b"\x80\x04}X\x01\0\0\0x" + HOSTILE[trick] + b"s."
        commit(open_db().storage, {7: PERSISTENT + state})
        connection = open_db(class_policy=policy).open()
        with pytest.raises(ForbiddenClassError) as caught:
            connection.get(perdure.Oid(bytes(7) + b"\x07"))._p_activate()
        assert caught.value.oid == bytes(7) + b"\x07"
        assert RUN == []
        connection.close()
    finally:
        copyreg.remove_extension(HERE, "runs", 0xF1)


@pytest.mark.parametrize("trick", sorted(HOSTILE.keys() - {"a reference that names a class"}))
def test_nothing_in_a_class_description_is_run(
    trick: str, open_db: Callable[..., perdure.DB]
) -> None:
    copyreg.add_extension(HERE, "runs", 0xF1)
    try:
        commit(open_db().storage, {7: b"\x80\x04" + HOSTILE[trick] + b".\x80\x02}."})
        connection = open_db(class_policy=MODELS).open()
        with pytest.raises(ForbiddenClassError) as caught:
            connection.get(perdure.Oid(bytes(7) + b"\x07"))
        assert caught.value.oid == bytes(7) + b"\x07"
        assert RUN == []
        connection.close()
    finally:
        copyreg.remove_extension(HERE, "runs", 0xF1)


def test_a_module_that_is_not_allowed_is_not_imported(
    open_db: Callable[..., perdure.DB], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not_imported_yet.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    state = b"\x80\x02}X\x01\0\0\0x" + _global("not_imported_yet", "Thing") + b"s."
    commit(open_db().storage, {7: PERSISTENT + state})
    connection = open_db(class_policy=MODELS).open()
    with pytest.raises(ForbiddenClassError, match=r"not_imported_yet\.Thing"):
        connection.get(perdure.Oid(bytes(7) + b"\x07"))._p_activate()
    assert "not_imported_yet" not in sys.modules
    connection.close()


def test_a_class_that_is_gone_has_a_placeholder_only_if_it_is_allowed(
    open_db: Callable[..., perdure.DB], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("a_shop_that_closed")
    module.Thing = type("Thing", (perdure.Persistent,), {"__module__": module.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with open_db().transaction() as connection:
        connection.root.thing = module.Thing()
    monkeypatch.delitem(sys.modules, module.__name__)
    with open_db(class_policy=["a_shop_that_closed"]).transaction() as connection:
        assert "broken" in repr(connection.root.thing)
    connection = open_db(class_policy=MODELS).open()
    with pytest.raises(ForbiddenClassError, match=r"a_shop_that_closed\.Thing"):
        _ = connection.root.thing
    connection.close()


def test_merging_a_conflict_runs_nothing_that_is_not_allowed(
    open_db: Callable[..., perdure.DB],
) -> None:
    with open_db().transaction() as connection:
        connection.root.counter = Counter()
    counter = b"\x80\x02ctests.behaviour.models\nCounter\n."
    hostile = counter + b"\x80\x02}X\x05\0\0\0value" + HOSTILE["a function that is called"] + b"s."
    db = open_db(class_policy=MODELS)
    connection = db.open()
    connection.root.counter.increase()
    commit(db.storage, {int.from_bytes(connection.root.counter._p_oid, "big"): hostile})
    with pytest.raises(ConflictError) as caught:
        transaction.commit()
    transaction.abort()
    assert isinstance(caught.value.__cause__, ForbiddenClassError)
    assert RUN == []
    connection.close()


def test_conflicts_of_allowed_classes_are_merged(open_db: Callable[..., perdure.DB]) -> None:
    db = open_db(class_policy=MODELS)
    with db.transaction() as connection:
        connection.root.counter = Counter()
    mine = db.open(transaction.TransactionManager())
    mine.root.counter.increase()
    with db.transaction() as connection:
        connection.root.counter.increase()
    mine.transaction_manager.commit()
    assert mine.root.counter.value == 2
    mine.close()


@pytest.mark.parametrize("wrong", ["tests", [1], 5])
def test_a_policy_that_is_neither_list_nor_callable_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        perdure.DB(None, class_policy=wrong)


def test_a_class_factory_beside_a_policy_is_refused() -> None:
    databases: dict[str, Any] = {}
    with pytest.raises(TypeError, match="class_factory"):
        perdure.DB(None, databases=databases, class_policy=[], class_factory=print)
    assert databases == {}
