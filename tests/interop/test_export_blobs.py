"""Blobs in export files, of perdure and of stock ZODB."""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from ZODB.blob import Blob as StockBlob

import perdure
from perdure.errors import ExportError, POSKeyError

CONTENT = b"a film\n" * 30_000


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as closing:
        yield closing
        transaction.abort()


def own(folder: Path, stack: ExitStack) -> Any:
    storage = perdure.FileStorage(str(folder / "own.fs"), blob_dir=str(folder / "own-blobs"))
    db = perdure.DB(storage)
    stack.callback(db.close)
    return db


def stock(folder: Path, stack: ExitStack) -> Any:
    storage = ZODB.FileStorage.FileStorage(
        str(folder / "stock.fs"), blob_dir=str(folder / "stock-blobs")
    )
    db = ZODB.DB(storage)
    stack.callback(db.close)
    return db


def exported(db: Any, blob: Any) -> io.BytesIO:
    file = io.BytesIO()
    with db.transaction() as conn:
        conn.root.film = blob
        conn.root.films = perdure.PersistentMapping(film=blob)
    conn = db.open()
    conn.exportFile(conn.root.films._p_oid, file)
    conn.close()
    file.seek(0)
    return file


@pytest.mark.parametrize("source", ["own", "stock"])
@pytest.mark.parametrize("target", ["own", "stock"])
def test_blobs_go_along(source: str, target: str, tmp_path: Path, stack: ExitStack) -> None:
    kinds: dict[str, tuple[Any, Any]] = {
        "own": (own, perdure.Blob),
        "stock": (stock, StockBlob),
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    opened, blob = kinds[source]
    file = exported(opened(tmp_path / "a", stack), blob(CONTENT))
    db = kinds[target][0](tmp_path / "b", stack)
    with db.transaction() as conn:
        conn.root.films = conn.importFile(file)
        with conn.root.films["film"].open() as film:
            assert film.read() == CONTENT
    with db.transaction() as conn, conn.root.films["film"].open() as film:
        assert film.read() == CONTENT


def test_a_blob_that_is_cut_off_is_refused(tmp_path: Path, stack: ExitStack) -> None:
    db = own(tmp_path, stack)
    content = exported(db, perdure.Blob(CONTENT)).getvalue()
    conn = db.open()
    before = sorted((tmp_path / "own-blobs").rglob("*.blob"))
    with pytest.raises(ExportError, match="cut"):
        conn.importFile(io.BytesIO(content[: len(content) - 1000]))
    transaction.abort()
    conn.close()
    assert sorted((tmp_path / "own-blobs").rglob("*.blob")) == before


def test_a_database_without_blobs_says_so(tmp_path: Path, stack: ExitStack) -> None:
    file = exported(own(tmp_path, stack), perdure.Blob(CONTENT))
    db = perdure.DB(None)
    stack.callback(db.close)
    conn = db.open()
    with pytest.raises(ExportError, match="blob_dir"):
        conn.importFile(file)
    transaction.abort()
    with pytest.raises(POSKeyError):
        conn.get(perdure.Oid(b"\0" * 7 + b"\1"))
    conn.close()


def test_an_export_without_the_folder_of_the_blobs_is_refused(tmp_path: Path) -> None:
    with ExitStack() as stack:
        db = own(tmp_path, stack)
        with db.transaction() as connection:
            connection.root.film = perdure.Blob(CONTENT)
    target = tmp_path / "film.zexp"
    command = [sys.executable, "-m", "perdure.cli", "export"]
    bare = [*command, str(tmp_path / "own.fs"), "/film", str(target)]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "?blob_dir=" in done.stderr
    assert not target.exists()
    whole = f"file://{tmp_path}/own.fs?blob_dir={tmp_path}/own-blobs"
    subprocess.run([*command, whole, "/film", str(target)], check=True, capture_output=True)
    assert CONTENT in target.read_bytes()
