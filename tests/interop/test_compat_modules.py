"""The modules that the alias has, and that what they name goes by ZODB's names."""

import ast
from pathlib import Path

import pytest
from tests.interop.programs import run_code


def test_errors_are_perdures_by_zodbs_names() -> None:
    code = """
        import ZODB.POSException as stock_name, perdure.errors as own
        assert stock_name.POSKeyError is own.POSKeyError
        for name in dir(stock_name):
            error = getattr(stock_name, name)
            if isinstance(error, type) and issubclass(error, stock_name.POSError):
                assert error is getattr(own, name)
                assert error.__module__ == "ZODB.POSException"
        print(type(own.ConflictError()) is own.ConflictError)
    """
    assert run_code(code, alias=True) == "True"


def names_made_by(module: str, *, alias: bool) -> set[str]:
    """Return the public names of *module* that stand for something of ZODB's own."""
    code = f"""
        import {module} as module
        own = [name for name, value in vars(module).items()
               if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"]
        print(own)
    """
    return set(ast.literal_eval(run_code(code, alias=alias)))


@pytest.mark.parametrize("module", ["ZODB.POSException", "ZODB.interfaces"])
def test_the_alias_has_all_that_stock_has_in(module: str) -> None:
    assert names_made_by(module, alias=False) - names_made_by(module, alias=True) == set()


def test_an_error_pickled_under_the_alias_is_read_by_stock_and_back(tmp_path: Path) -> None:
    write = """
        import pickle, ZODB.POSException
        from pathlib import Path
        error = ZODB.POSException.ConflictError("why", oid=b"\\0" * 7 + b"\\1", serials=(b"a" * 8, b"b" * 8))
        Path("error.pickle").write_bytes(pickle.dumps(error))
    """
    read = """
        import pickle
        from pathlib import Path
        error = pickle.loads(Path("error.pickle").read_bytes())
        print(type(error).__module__, type(error).__name__, error.args, error.oid, error.serials)
    """
    expected = "ZODB.POSException ConflictError ('why',) "
    for writer_is_aliased in (True, False):
        run_code(write, alias=writer_is_aliased, directory=tmp_path)
        printed = run_code(read, alias=not writer_is_aliased, directory=tmp_path)
        assert printed.startswith(expected)
        assert printed.endswith(f"{bytes([*[0] * 7, 1])!r} ({b'a' * 8!r}, {b'b' * 8!r})")


def test_interfaces_are_perdures_by_zodbs_names() -> None:
    code = """
        import pickle, perdure.interfaces, ZODB.interfaces
        name = ZODB.interfaces.IStorage.__identifier__
        back = pickle.loads(pickle.dumps(ZODB.interfaces.IStorage))
        print(name, back is perdure.interfaces.IStorage)
    """
    assert run_code(code, alias=True) == "ZODB.interfaces.IStorage True"


def test_an_index_is_written_and_read_as_stock_does(tmp_path: Path) -> None:
    write = """
        from ZODB.fsIndex import fsIndex
        from ZODB.utils import p64
        index = fsIndex({p64(n * 40_000): n * 7 + 4 for n in range(100)})
        index[p64(2**63 + 5)] = 2**48 - 1
        index.save(12345, "data.index")
    """
    read = """
        from ZODB.fsIndex import fsIndex
        from ZODB.utils import p64, u64
        loaded = fsIndex.load("data.index")
        index = loaded["index"]
        print(loaded["pos"], len(index), index.minKey(p64(40_001)) == p64(80_000),
              index.maxKey() == p64(2**63 + 5), [(u64(k), v) for k, v in index.items()])
    """
    for writer_is_aliased in (True, False):
        run_code(write, alias=writer_is_aliased, directory=tmp_path)
        ours = run_code(read, alias=True, directory=tmp_path)
        assert ours == run_code(read, alias=False, directory=tmp_path)
        assert ours.startswith("12345 101 True True [(0, 4), (40000, 11)")


def test_what_an_index_file_of_stock_names_is_not_run(tmp_path: Path) -> None:
    code = """
        import os, pickle
        from ZODB.fsIndex import fsIndex

        class Runs:
            def __reduce__(self):
                return (os.mkdir, ("run",))

        for before in (b"", pickle.dumps(4, 3)):
            open("hostile.index", "wb").write(before + pickle.dumps(Runs(), 3))
            try:
                fsIndex.load("hostile.index")
            except ValueError as error:
                print("mkdir" in str(error), os.path.exists("run"))
    """
    assert run_code(code, alias=True, directory=tmp_path) == "True False\nTrue False"


def test_the_modules_are_not_imported_by_another_name_than_zodbs() -> None:
    code = """
        try:
            import perdure.compat.zodb.POSException
        except ImportError as error:
            print(error)
        import perdure
        print(perdure.errors.ConflictError.__module__)
    """
    printed = run_code(code)
    assert printed.startswith("perdure.compat.zodb: call perdure.compat.install()")
    assert "zodb" not in printed.split("\n")[1]


def test_an_index_is_pickled_as_stock_does(tmp_path: Path) -> None:
    write = """
        import pickle
        from ZODB.fsIndex import fsIndex
        open("i", "wb").write(pickle.dumps(fsIndex({bytes(8): 1, b"\\1" * 8: 2})))
    """
    read = "import pickle; print(pickle.load(open('i', 'rb')).items())"
    for writer_is_aliased in (True, False):
        run_code(write, alias=writer_is_aliased, directory=tmp_path)
        printed = run_code(read, alias=not writer_is_aliased, directory=tmp_path)
        assert printed == f"[({bytes(8)!r}, 1), ({bytes([1] * 8)!r}, 2)]"


def test_a_missing_key_of_an_index_is_a_key_error() -> None:
    code = """
        from ZODB.fsIndex import fsIndex
        index = fsIndex({bytes(8): 1})
        print(index.get(b"x" * 8), b"x" * 8 in index, bytes(8) in index)
        for operation in (index.__getitem__, index.__delitem__):
            try:
                operation(b"x" * 8)
            except KeyError as error:
                print(error)
    """
    assert run_code(code, alias=True).split("\n") == [
        "None False True", *["b'xxxxxxxx'"] * 2
    ]  # fmt: skip


def test_a_late_import_does_not_hide_a_class_named_like_its_module() -> None:
    code = """
        import importlib, sys, types
        from perdure.compat._alias import FacadeModule
        parent = FacadeModule("ZODB")
        parent.DB = type("DB", (), {})
        parent.DB.__module__ = "ZODB.DB"
        parent.utils = None
        parent.DB = types.ModuleType("ZODB.DB")
        parent.config = types.ModuleType("ZODB.config")
        print(parent.DB.__module__, parent.config.__name__)
    """
    assert run_code(code) == "ZODB.DB ZODB.config"


def test_pickles_by_old_module_names_load() -> None:
    code = """
        import pickle
        pickled = b"\\x80\\x03cZODB.PersistentMapping\\nPersistentMapping\\n."
        from persistent.mapping import PersistentMapping
        print(pickle.loads(pickled) is PersistentMapping)
    """
    assert run_code(code, alias=True) == "True"


def test_a_persistent_pickler_and_unpickler_carry_references() -> None:
    code = """
        import io
        from ZODB._compat import PersistentPickler, PersistentUnpickler, dumps, loads, _protocol
        file = io.BytesIO()
        PersistentPickler(lambda ob: b"id" if ob is Ellipsis else None, file, _protocol).dump([..., int])
        file.seek(0)
        print(PersistentUnpickler(lambda module, name: (module, name), repr, file).load())
        print(loads(dumps({"a": b"b"})))
    """
    assert run_code(code, alias=True).split("\n") == [
        """["b'id'", ('builtins', 'int')]""",
        "{'a': b'b'}",
    ]


def test_transact_tries_again_after_a_conflict() -> None:
    code = """
        import transaction
        from ZODB.POSException import ConflictError
        from ZODB.transact import transact
        attempts = []
        def work(fail):
            attempts.append(fail)
            if len(attempts) <= fail:
                transaction.get().addBeforeCommitHook(conflict)
            return "done"
        def conflict():
            raise ConflictError
        print(transact(work, "note")(2), len(attempts))
        del attempts[:]
        try:
            transact(work, retries=3)(9)
        except ConflictError:
            print(len(attempts))
    """
    assert run_code(code, alias=True).split("\n") == ["done 3", "3"]


def test_undo_info_selects_from_undo_log() -> None:
    code = """
        from ZODB.UndoLogCompatible import UndoLogCompatible
        class Storage(UndoLogCompatible):
            def undoLog(self, first, last, filter):
                log = [{"user_name": b"a", "x": 1}, {"user_name": b"b", "x": 1}]
                return [d for d in log if filter is None or filter(d)][first:abs(last)]
        print(len(Storage().undoInfo()), Storage().undoInfo(0, -20, {"user_name": b"b"}))
    """
    assert run_code(code, alias=True) == "2 [{'user_name': b'b', 'x': 1}]"


def test_references_are_found_without_making_objects() -> None:
    code = """
        import io, pickle
        from ZODB._compat import PersistentPickler, Unpickler
        class Gone:
            pass
        file = io.BytesIO()
        ids = iter([b"one", b"two"])
        state = {"a": ..., "b": [Gone(), ...]}
        PersistentPickler(lambda ob: next(ids) if ob is ... else None, file).dump(state)
        del Gone
        found = []
        unpickler = Unpickler(io.BytesIO(file.getvalue()))
        unpickler.persistent_load = found.append
        unpickler.noload()
        print(found)
    """
    assert run_code(code, alias=True) == "[b'one', b'two']"
