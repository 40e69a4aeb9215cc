"""Export files: an object with all that it refers to, from one database to another."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.wref import WeakRef
from tests.behaviour.models import Node

import perdure
from perdure.errors import ExportError, POSKeyError
from perdure.ids import Oid, p64, u64

DATA = Path(__file__).parents[1] / "data"


def exported(conn: perdure.Connection, obj: Any) -> io.BytesIO:
    file = io.BytesIO()
    conn.exportFile(obj._p_oid, file)
    file.seek(0)
    return file


@pytest.fixture
def cycle(conn: perdure.Connection, tm: transaction.TransactionManager) -> Any:
    """Two objects that refer to each other, and one weakly to the first."""
    first, second = Node(name="first"), Node(name="second")
    first.other, second.other = second, first
    second.first = WeakRef(first)
    conn.root.first = first
    tm.commit()
    return first


def test_what_is_imported_is_a_copy_with_the_same_shape(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any
) -> None:
    copy = conn.importFile(exported(conn, cycle))
    conn.root.copy = copy
    tm.commit()
    conn.cacheMinimize()
    assert copy is not cycle
    assert (copy.name, copy.other.name) == ("first", "second")
    assert copy.other.other is copy
    assert copy.other.first() is copy
    assert conn.root.first.other is not copy.other


def test_an_import_can_be_used_at_once_and_is_stored_with_the_commit(
    open_db: Any, conn: perdure.Connection, cycle: Any
) -> None:
    file = exported(conn, cycle)
    other = open_db("Other")
    with other.transaction() as conn2:
        copy = conn2.importFile(file, clue="from elsewhere")
        copy.name = "changed"
        conn2.root.copy = copy
    with other.transaction() as conn2:
        assert conn2.root.copy.name == "changed"
        assert conn2.root.copy.other.name == "second"
    assert len(other.storage) in (0, 3)  # not every storage counts


def test_an_import_goes_with_the_transaction_that_is_aborted(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any
) -> None:
    copy = conn.importFile(exported(conn, cycle))
    oid = copy._p_oid
    tm.abort()
    with pytest.raises(POSKeyError):
        conn.get(oid)


def test_an_import_is_taken_back_by_a_savepoint(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any
) -> None:
    file = exported(conn, cycle)
    conn.root.kept = 1
    savepoint = tm.savepoint()
    oid = conn.importFile(file)._p_oid
    savepoint.rollback()
    tm.commit()
    assert conn.root.kept == 1
    with pytest.raises(POSKeyError):
        conn.get(oid)


def test_a_path_a_temporary_file_and_an_open_file_all_do(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any, tmp_path: Path
) -> None:
    path = tmp_path / "first.zexp"
    conn.exportFile(cycle._p_oid, str(path)).close()
    temporary = conn.exportFile(cycle._p_oid)
    temporary.seek(0)
    content = temporary.read()
    temporary.close()
    assert path.read_bytes() == content == exported(conn, cycle).getvalue()
    assert conn.importFile(str(path)).name == "first"
    tm.abort()


def test_an_object_that_is_not_there_is_not_exported(conn: perdure.Connection) -> None:
    file = io.BytesIO()
    with pytest.raises(POSKeyError):
        conn.exportFile(Oid(p64(77)), file)
    assert file.getvalue() == b""


def test_what_can_not_be_read_is_named_and_the_former_file_stays(tmp_path: Path) -> None:
    with perdure.DB(perdure.FileStorage(DATA / "damaged_middle.fs", read_only=True)) as db:
        path = tmp_path / "all.zexp"
        for before in (None, b"ZEXP an older one"):
            if before is not None:
                path.write_bytes(before)
            with db.transaction() as conn, pytest.raises(ExportError, match=r"0xae.*can't be read"):
                conn.exportFile(Oid(p64(0)), str(path))
            found = [each.read_bytes() for each in tmp_path.iterdir()]
            assert found == ([] if before is None else [before])


def test_an_export_replaces_an_older_one_and_no_other_file(
    conn: perdure.Connection, cycle: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    export = folder / "kept.zexp"
    export.symlink_to(folder / "first.zexp")
    for _ in range(2):
        conn.exportFile(cycle._p_oid, export).close()
        assert (folder / "first.zexp").read_bytes() == exported(conn, cycle).getvalue()
    assert export.is_symlink()
    (folder / "empty").touch()
    conn.exportFile(cycle._p_oid, folder / "empty").close()
    other = folder / "Other.fs"
    perdure.DB(str(other)).close()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ExportError, match="is no export file: it was left as it is"):
        conn.exportFile(cycle._p_oid, str(other))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_export_tells_how_far_it_is_and_can_be_stopped(
    conn: perdure.Connection, tm: transaction.TransactionManager, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    conn.root.many = {number: Node() for number in range(2_500)}
    tm.commit()
    told: list[tuple[int, int]] = []

    def stop(done: int, met: int) -> None:
        told.append((done, met))
        if done > 2_000:
            raise RecursionError("stopped")

    with pytest.raises(RecursionError, match="stopped"):
        conn.exportFile(Oid(p64(0)), folder / "many.zexp", progress=stop)
    assert told == [(1, 1), (1_001, 2_501), (2_001, 2_501)]
    assert list(folder.iterdir()) == []


def test_an_export_goes_through_a_pipe(
    conn: perdure.Connection, cycle: Any, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        conn.exportFile(cycle._p_oid, pipe).close()
        assert read.result() == exported(conn, cycle).getvalue()
    assert pipe.is_fifo()


def test_a_transaction_notes_the_clue(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any
) -> None:
    conn.importFile(exported(conn, cycle), clue="two nodes")
    assert "two nodes" in tm.get().description
    tm.abort()


def test_a_custom_importer_takes_other_files(conn: perdure.Connection) -> None:
    def importer(connection: Any, file: Any, clue: str) -> Any:
        return connection, file.read(), clue

    found = conn.importFile(io.BytesIO(b"<xml"), "clue", {b"<xml": importer})
    assert found == (conn, b"<xml", "clue")


@pytest.mark.parametrize("end", [0, 3, 4, 10, 20, 60, -1, -17])
def test_a_file_that_is_cut_off_is_refused_and_nothing_is_stored(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any, end: int
) -> None:
    file = io.BytesIO(exported(conn, cycle).getvalue()[:end])
    oid = conn.new_oid()
    with pytest.raises(ExportError):
        conn.importFile(file)
    tm.commit()
    assert list(conn.root()) == ["first"]
    for number in range(1, 9):
        with pytest.raises(POSKeyError):
            conn.get(Oid(p64(u64(oid) + number)))


def test_a_file_with_garbage_in_a_record_is_refused(
    conn: perdure.Connection, tm: transaction.TransactionManager, cycle: Any
) -> None:
    content = bytearray(exported(conn, cycle).getvalue())
    content[25:35] = b"\xfe" * 10
    with pytest.raises(ExportError, match="read"):
        conn.importFile(io.BytesIO(content))
    tm.commit()
    assert conn.root.first.other.name == "second"


def test_classes_need_not_be_there_to_import_their_objects(
    conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    books = conn.importFile(str(DATA / "books.zexp"))
    conn.root.books = books
    tm.commit()
    assert type(books).__name__ in ("PersistentList", "PersistentMapping", "OOBTree", "Book")
