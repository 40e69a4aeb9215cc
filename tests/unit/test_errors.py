"""The error classes: messages, pickles, and living beside stock ZODB."""

import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

from perdure import errors
from perdure.ids import Oid, Tid

OID = Oid(b"\0" * 7 + b"\x2a")
OLD = Tid(b"\x03\xe0" + b"\0" * 6)
NEW = Tid(b"\x03\xe1" + b"\0" * 6)


def test_conflict_error_names_object_class_database_and_both_serials() -> None:
    error = errors.ConflictError(
        oid=OID, class_name="shop.Order", serials=(NEW, OLD), database="main"
    )
    text = str(error)
    assert "0x2a" in text
    assert "shop.Order" in text
    assert "'main'" in text
    assert "0x03e0000000000000" in text
    assert "0x03e1000000000000" in text
    assert "again" in text
    assert error.get_new_serial() == NEW
    assert error.get_old_serial() == OLD


def test_read_conflict_error_takes_the_serials_in_the_third_place_as_in_zodb() -> None:
    class Read:
        _p_oid = OID

    error = errors.ReadConflictError("it was changed", Read(), (NEW, OLD))
    assert (error.message, error.oid, error.serials) == ("it was changed", OID, (NEW, OLD))
    assert errors.ReadConflictError(oid=OID, database="main").oid == OID


def test_key_error_keeps_the_oid_as_its_argument() -> None:
    error = errors.POSKeyError(OID)
    assert error.args == (OID,)
    assert str(error) == "0x2a"
    assert isinstance(error, KeyError)


def test_key_error_shows_a_serial_as_it_does_a_tid() -> None:
    error = errors.POSKeyError(OID, NEW)
    assert error.args == (OID, NEW)
    assert str(error).startswith("0x2a (tid 0x03e1000000000000 ")
    assert str(error) == str(errors.POSKeyError(OID, tid=NEW))
    assert "'gone'" in str(errors.POSKeyError(OID, "it is 'gone'"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: errors.ConflictError(oid=OID, serials=(NEW, OLD)),
        lambda: errors.POSKeyError(OID, database="main"),
        lambda: errors.ReadConflictError("it was changed", None, (NEW, OLD)),
        lambda: errors.BTreesConflictError(1, 2, 3, 4),
        lambda: errors.UndoError("changed since", OID),
        lambda: errors.MultipleUndoErrors([(OID, "changed since")]),
        lambda: errors.DanglingReferenceError(OID, OID),
        lambda: errors.StaleReferenceError(OID, OID, {"path": ".x", "database": "main"}),
        lambda: errors.StorageLocked(path="Data.fs", pid=17),
        lambda: errors.CorruptedDataError(OID, b"x", 4),
        lambda: errors.DictionaryMissing("gone", key=7, oid=OID),
        lambda: errors.EncryptionError("wrong", key="0123", oid=OID, tid=NEW),
        lambda: errors.UnpicklableError(oid=OID, path=".x", value_class="socket"),
    ],
)
def test_errors_survive_pickling(
    make: Callable[[], errors.POSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith(("ZODB.", "zc."))]:
        monkeypatch.delitem(sys.modules, module)
    error = make()
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert type(copy) is type(error)


def _run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_stock_code_catches_errors_of_perdure() -> None:
    pytest.importorskip("ZODB")
    _run(
        """
        from perdure import errors
        assert type(errors.ConflictError()) is errors.ConflictError
        import pickle, ZODB.POSException as stock
        for name in errors.__all__:
            own, other = getattr(errors, name), getattr(stock, name, None)
            if other is None or not issubclass(own, errors.POSError):
                continue
            arguments = {
                "DanglingReferenceError": (b"1" * 8, b"2" * 8),
                "BTreesConflictError": (1, 2, 3, 4),
                "MultipleUndoErrors": ([(None, "why")],),
            }.get(name, ())
            error = own(*arguments)
            assert isinstance(error, other), name
            assert type(pickle.loads(pickle.dumps(error))) is other, name
        assert isinstance(errors.CommitOutcomeUnknown(), stock.StorageError)
        """
    )


def test_errors_of_stock_code_become_errors_of_perdure() -> None:
    pytest.importorskip("ZODB")
    _run(
        """
        import ZODB.POSException as stock
        from perdure import _coexist, errors
        class Mine(stock.ConflictError):
            pass
        for error, own in (
            (stock.POSKeyError(b"0" * 8), errors.POSKeyError),
            (stock.ConflictError(oid=b"0" * 8), errors.ConflictError),
            (Mine(), errors.ConflictError),
            (stock.UndoError("why"), errors.UndoError),
        ):
            kept = type(error)
            assert _coexist.adopt(error) is error
            assert isinstance(error, own) and isinstance(error, kept)
            str(error), repr(error)
        assert type(_coexist.adopt(ValueError("x"))) is ValueError
        """
    )
