"""A file packed by perdure is the file that stock ZODB would have made of it."""

import contextlib
import shutil
from pathlib import Path

import pytest
import ZODB.FileStorage
from ZODB.serialize import referencesf

from perdure.errors import RedundantPackWarning
from perdure.storage import FileStorage
from perdure.timestamp import TimeStamp

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize("gc", [True, False])
@pytest.mark.parametrize("share", [1.0, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("name", ["basic.fs", "undo.fs", "packed.fs", "blobs.fs", "multi_a.fs"])
def test_the_packed_files_are_equal(tmp_path: Path, name: str, share: float, gc: bool) -> None:
    ours, theirs = tmp_path / "ours.fs", tmp_path / "theirs.fs"
    for path in (ours, theirs):
        shutil.copy(DATA / name, path)
    storage = FileStorage(ours)
    tids = [one.tid for one in storage.iterator()]
    when = TimeStamp(tids[max(int(len(tids) * share) - 1, 0)]).timeTime()
    # Where stock only says so in its log, an error tells that it was packed to a later time.
    with contextlib.suppress(RedundantPackWarning):
        storage.pack(when, gc=gc)
    storage.close()
    stock = ZODB.FileStorage.FileStorage(str(theirs))
    stock.pack(when, referencesf, gc=gc)
    stock.close()
    assert ours.read_bytes() == theirs.read_bytes()


def test_stock_goes_on_with_a_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    shutil.copy(DATA / "basic.fs", path)
    stock = ZODB.FileStorage.FileStorage(str(path))
    stock.close()  # leaves an index of the file as it was
    storage = FileStorage(path)
    expected = {}
    following: bytes | None = None
    storage.pack(2e9)
    while True:
        oid, tid, data, following = storage.record_iternext(following)  # type: ignore[arg-type]
        expected[oid] = (data, tid)
        if following is None:
            break
    storage.close()
    stock = ZODB.FileStorage.FileStorage(str(path))
    assert {oid: stock.load(oid) for oid in expected} == expected
    assert len(stock) == len(expected)
    stock.close()
