"""Blobs: persistent objects whose data is a file."""

import os
import pickle
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.blob
import ZODB.FileStorage

from perdure.blob import Blob, BlobStorage
from perdure.connection.metadata import TransactionMetaData
from perdure.db import DB
from perdure.errors import (
    BlobError,
    CommitOutcomeUnknown,
    ConflictError,
    StorageError,
    Unsupported,
)
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage

MAKERS: dict[str, Callable[[Path], Any]] = {
    "file": lambda where: FileStorage(str(where / "data.fs"), blob_dir=str(where / "blobs")),
    "wrapped-file": lambda where: BlobStorage(
        str(where / "blobs"), FileStorage(str(where / "data.fs"))
    ),
    "wrapped-file-lawn": lambda where: BlobStorage(
        str(where / "blobs"), FileStorage(str(where / "data.fs")), layout="lawn"
    ),
    "wrapped-mapping": lambda where: BlobStorage(str(where / "blobs"), MappingStorage()),
    "demo": lambda where: DemoStorage(),
    "demo-over-file": lambda where: DemoStorage(
        base=BlobStorage(str(where / "base"), FileStorage(str(where / "base.fs"))),
        changes=BlobStorage(str(where / "blobs"), FileStorage(str(where / "data.fs"))),
    ),
    "stock-file": lambda where: ZODB.FileStorage.FileStorage(
        str(where / "data.fs"), blob_dir=str(where / "blobs")
    ),
}

STATUS_OFFSET = 16
"""Where in a transaction its status stands."""


@pytest.fixture(params=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MAKERS[request.param](tmp_path)


@pytest.fixture
def db(storage: Any) -> Iterator[DB]:
    made = DB(storage)
    yield made
    made.close()


class Session:
    """A connection in a transaction manager of its own."""

    def __init__(self, db: DB) -> None:
        self.manager = transaction.TransactionManager()
        self.connection = db.open(self.manager)
        self.root = self.connection.root
        self.commit, self.abort = self.manager.commit, self.manager.abort

    def blob(self, data: bytes) -> Blob:
        self.root.blob = blob = Blob(data)
        self.commit()
        return blob


@pytest.fixture
def session(db: DB) -> Iterator[Session]:
    made = Session(db)
    yield made
    made.abort()
    made.connection.close()


@pytest.fixture
def other(db: DB) -> Iterator[Session]:
    made = Session(db)
    yield made
    made.abort()
    made.connection.close()


def read(blob: Blob, mode: str = "r") -> bytes:
    with blob.open(mode) as file:
        data: bytes = file.read()
    return data


def write(blob: Blob, data: bytes, mode: str = "w") -> None:
    with blob.open(mode) as file:
        file.write(data)


def test_what_was_written_is_read_by_others_after_the_commit(
    session: Session, other: Session
) -> None:
    session.root.blob = Blob()
    write(session.root.blob, b"film")
    session.commit()
    assert read(session.root.blob) == b"film"
    other.manager.begin()
    assert read(other.root.blob) == b"film"


def test_a_blob_can_be_made_with_its_data_and_holds_nothing_otherwise() -> None:
    assert read(Blob(b"data")) == b"data"
    assert read(Blob()) == b""


def test_a_blob_is_not_subclassed_and_its_open_file_not_pickled() -> None:
    class Film(Blob):
        """Not to be."""

    with pytest.raises(TypeError, match="subclassing"):
        Film()
    with Blob(b"data").open() as file, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(file)


@pytest.mark.parametrize(
    ("mode", "after"), [("w", b"new"), ("a", b"old datanew"), ("r+", b"new data")]
)
def test_modes_of_writing(session: Session, mode: str, after: bytes) -> None:
    blob = session.blob(b"old data")
    write(blob, b"new", mode)
    assert read(blob) == after
    session.commit()
    assert read(blob) == after


def test_no_other_mode_is_taken() -> None:
    with pytest.raises(ValueError, match="mode"):
        Blob().open("x")


def test_a_blob_is_read_by_many_or_written_by_one(session: Session) -> None:
    blob = session.blob(b"data")
    with blob.open() as one, blob.open() as another:
        assert one.read() == another.read() == b"data"
        with pytest.raises(BlobError, match="reading"):
            blob.open("w")
    with blob.open("w"):
        for mode in ("r", "w"):
            with pytest.raises(BlobError, match="writing"):
                blob.open(mode)


def test_an_abort_brings_the_committed_data_back(session: Session) -> None:
    blob = session.blob(b"old")
    write(blob, b"new")
    session.abort()
    assert read(blob) == b"old"


def test_uncommitted_data_is_seen_by_nobody_else(session: Session, other: Session) -> None:
    write(session.blob(b"old"), b"new")
    other.manager.begin()
    assert read(other.root.blob) == b"old"


def test_a_snapshot_keeps_its_data_while_others_commit(session: Session, other: Session) -> None:
    blob = session.blob(b"old")
    other.manager.begin()
    assert read(other.root.blob) == b"old"
    write(blob, b"new")
    session.commit()
    other.root.blob._p_deactivate()
    assert read(other.root.blob) == b"old"
    other.manager.begin()
    assert read(other.root.blob) == b"new"


def test_two_who_write_one_blob_conflict(session: Session, other: Session) -> None:
    blob = session.blob(b"old")
    other.manager.begin()
    write(blob, b"mine")
    write(other.root.blob, b"yours")
    session.commit()
    with pytest.raises(ConflictError):
        other.commit()
    other.abort()
    assert read(other.root.blob) == b"mine"


def test_the_committed_file_can_be_read_by_its_path(session: Session) -> None:
    blob = session.blob(b"data")
    path = Path(blob.committed())
    assert path.read_bytes() == b"data"
    assert not path.stat().st_mode & 0o222
    with blob.open("c") as file:
        session.commit()
        assert file.read() == b"data"
    write(blob, b"new")
    for attempt in (blob.committed, lambda: blob.open("c")):
        with pytest.raises(BlobError, match="Uncommitted"):
            attempt()


def test_a_file_is_taken_over_as_the_data(session: Session, tmp_path: Path) -> None:
    source = tmp_path / "film"
    source.write_bytes(b"film")
    blob = session.blob(b"old")
    blob.consumeFile(str(source))
    assert not source.exists()
    assert read(blob) == b"film"
    session.commit()
    assert read(blob) == b"film"


def test_a_file_that_can_not_be_taken_over_leaves_the_data(
    session: Session, tmp_path: Path
) -> None:
    blob = session.blob(b"old")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            blob.consumeFile(str(tmp_path / "missing"))
        assert read(blob) in {b"old", b"new"}
        write(blob, b"new")
    with blob.open() as _, pytest.raises(BlobError):
        blob.consumeFile(str(tmp_path / "missing"))


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_no_file_is_not_taken_over(
    session: Session, db: DB, tmp_path: Path, kind: str
) -> None:
    given, outside = tmp_path / kind, tmp_path / "outside"
    outside.write_bytes(b"outside")
    outside.chmod(0o644)
    if kind == "folder":
        given.mkdir()
    else:
        given.symlink_to(outside)
    blob = session.blob(b"old")
    with pytest.raises(BlobError, match=rf"{given} isn't a regular file"):
        blob.consumeFile(str(given))
    assert read(blob) == b"old"
    session.abort()
    if not isinstance(db.storage, ZODB.FileStorage.FileStorage):
        txn = TransactionMetaData()
        serial, record = blob._p_serial, db.storage.load(blob._p_oid)[0]
        db.storage.tpc_begin(txn)
        with pytest.raises(BlobError, match=rf"{given} isn't a regular file"):
            db.storage.storeBlob(blob._p_oid, serial, record, str(given), "", txn)
        db.storage.tpc_abort(txn)
    assert os.path.lexists(given)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_savepoints_keep_data_and_go_back_to_it(session: Session) -> None:
    blob = session.blob(b"zero")
    write(blob, b"one")
    first = session.manager.savepoint()
    write(blob, b"two")
    session.manager.savepoint()
    session.root.new = Blob(b"created")
    session.manager.savepoint()
    assert (read(blob), read(session.root.new)) == (b"two", b"created")
    with pytest.raises(BlobError):
        blob.committed()
    first.rollback()
    assert read(blob) == b"one"
    assert "new" not in session.root()
    write(blob, b"!", "a")
    session.commit()
    assert read(blob) == b"one!"
    assert Path(blob.committed()).read_bytes() == b"one!"


def test_an_abort_after_a_savepoint_forgets_its_data(session: Session) -> None:
    blob = session.blob(b"old")
    write(blob, b"new")
    session.manager.savepoint()
    session.abort()
    assert read(blob) == b"old"


def test_a_blob_that_is_open_can_not_be_committed(session: Session) -> None:
    blob = session.blob(b"old")
    with blob.open("w") as file:
        file.write(b"new")
        with pytest.raises(ValueError, match="opened blobs"):
            session.commit()
    session.abort()
    assert read(blob) == b"old"


def test_marking_a_blob_as_changed_without_new_data_changes_nothing(session: Session) -> None:
    blob = session.blob(b"data")
    assert read(blob) == b"data"
    serial = blob._p_serial
    blob._p_changed = True
    session.commit()
    assert read(blob) == b"data"
    assert blob._p_serial == serial


def test_nothing_is_left_behind_in_the_temporary_directory(session: Session) -> None:
    blob = session.blob(b"old")
    write(blob, b"new")
    session.manager.savepoint()
    session.abort()
    write(blob, b"new")
    session.commit()
    Blob(b"never stored")
    directory = Path(session.connection.db().storage.temporaryDirectory())
    assert [path for path in directory.iterdir() if path.name != ".lock"] == []


def test_undo_brings_earlier_data_back(session: Session, db: DB) -> None:
    if not db.supportsUndo():
        pytest.skip("this storage can't undo")
    blob = session.blob(b"old")
    write(blob, b"new")
    session.commit()
    for expected in (b"old", b"new"):
        db.undo(db.undoLog(0, 1)[0]["id"], session.manager.get())
        session.commit()
        session.manager.begin()
        assert read(blob) == expected
        assert Path(blob.committed()).read_bytes() == expected


def test_a_pack_removes_files_of_dropped_revisions_and_objects(
    session: Session, db: DB, tmp_path: Path
) -> None:
    blob = session.blob(b"first")
    write(blob, b"second")
    session.commit()
    session.root.gone = Blob(b"gone")
    session.commit()
    del session.root.gone
    session.commit()
    old = [Path(blob.committed())]
    db.pack()
    session.manager.begin()
    blob._p_deactivate()
    assert read(blob) == b"second"
    assert old[0].exists()
    assert [path.name for path in old[0].parent.glob("*.blob")] == [old[0].name]


def test_an_undone_creation_comes_back_with_its_data(session: Session, db: DB) -> None:
    if not db.supportsUndo():
        pytest.skip("this storage can't undo")
    session.commit()
    session.blob(b"created")
    for expected in (None, b"created"):
        db.undo(db.undoLog(0, 1)[0]["id"], session.manager.get())
        session.commit()
        session.manager.begin()
        found = session.root().get("blob")
        assert (None if found is None else read(found)) == expected


def test_a_pack_keeps_the_old_files_beside_if_it_keeps_the_old_records(tmp_path: Path) -> None:
    db = DB(FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs")))
    session = Session(db)
    write(session.blob(b"first"), b"second")
    session.commit()
    db.pack()
    session.connection.close()
    db.close()
    (old,) = (tmp_path / "blobs.old").rglob("*.blob")
    assert old.read_bytes() == b"first"


def test_files_that_a_crash_left_behind_go_with_the_next_pack(tmp_path: Path) -> None:
    db = DB(FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs")))
    session = Session(db)
    blob = session.blob(b"data")
    path = Path(blob.committed())
    orphan = path.with_name("0x0300000000000000.blob")
    orphan.write_bytes(b"of a transaction that was never finished")
    newer = path.with_name("0x7f00000000000000.blob")
    newer.write_bytes(b"of one that the last commit was before")
    temporary = tmp_path / "blobs" / "tmp"
    (temporary / "BUCold").write_bytes(b"never stored")
    (temporary / "savepoints").mkdir()
    week_ago = time.time() - 7 * 86_400 - 60
    for entry in temporary.iterdir():
        os.utime(entry, (week_ago, week_ago))
    (temporary / "BUCnew").write_bytes(b"perhaps somebody's")
    db.pack()
    assert not orphan.exists()
    assert not newer.exists()
    assert path.exists()
    assert [entry.name for entry in temporary.iterdir()] == ["BUCnew"]
    session.connection.close()
    db.close()


def test_a_pack_that_removes_a_directory_lets_the_commit_make_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs"))
    db = DB(storage)
    session = Session(db)
    session.connection.add(blob := Blob(b"data"))
    session.connection.root()["blob"] = blob
    blobs = storage.require_blobs()
    directory = Path(blobs.directory.createPathForOID(blob._p_oid))
    (directory / "0x0300000000000000.blob").write_bytes(b"of a process that was killed")
    places, seen = blobs.directory._places, []

    class PackedBefore:
        """Has a pack come by between the vote and the file's moving."""

        def place(self, moves: list[tuple[str, str]]) -> int:
            blobs.remove_dropped(storage, storage.lastTransaction(), alone=True)
            seen.append(directory.is_dir())
            return places.place(moves)

        def make_safe(self, files: list[str], directories: list[str]) -> None:
            places.make_safe(files, directories)

    monkeypatch.setattr(blobs.directory, "_places", PackedBefore())
    session.commit()
    assert seen == [False]
    assert read(session.connection.root()["blob"]) == b"data"
    session.abort()
    session.connection.close()
    db.close()


def test_a_pack_leaves_the_files_of_a_transaction_that_is_being_committed(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs"))
    db = DB(storage)
    session, other = Session(db), Session(db)
    session.blob(b"first")
    other.manager.begin()
    write(other.root.blob, b"second")
    packed = []

    class PacksMeanwhile:
        """Has the last vote in a transaction."""

        transaction_manager = other.manager

        def sortKey(self) -> str:
            return "~"

        def tpc_vote(self, _transaction: Any) -> None:
            storage.require_blobs().remove_dropped(storage, storage.lastTransaction(), alone=True)
            packed.append(len(list((tmp_path / "blobs").rglob("*.blob"))))

        def _nothing(self, _transaction: Any) -> None:
            """Take part."""

        abort = tpc_begin = commit = tpc_finish = tpc_abort = _nothing

    other.manager.get().join(PacksMeanwhile())
    other.commit()
    assert packed == [2]
    assert read(other.root.blob) == b"second"
    for each in (session, other):
        each.abort()
        each.connection.close()
    db.close()


def test_blobs_are_copied_with_their_transactions(tmp_path: Path) -> None:
    source = FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs"))
    target = FileStorage(str(tmp_path / "copy.fs"), blob_dir=str(tmp_path / "copies"))
    db = DB(source)
    session = Session(db)
    session.blob(b"data")
    target.copyTransactionsFrom(source)
    session.connection.close()
    db.close()
    db = DB(target)
    with db.transaction() as connection:
        assert read(connection.root.blob) == b"data"
    db.close()


class TakesTheFileAway:
    """A resource that votes last, and has what is written to a file fail from then on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sortKey(self) -> str:
        return "~"

    def tpc_vote(self, _transaction: Any) -> None:
        read_only = os.open(self.path, os.O_RDONLY)
        for descriptor in list(Path("/proc/self/fd").iterdir()):
            with suppress(OSError):
                if descriptor.readlink() == self.path:
                    os.dup2(read_only, int(descriptor.name))
        os.close(read_only)

    def _nothing(self, _transaction: Any) -> None:
        """Take part."""

    abort = tpc_begin = commit = tpc_finish = tpc_abort = _nothing


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("members", [("one",), ("one", "two")])
def test_a_pack_leaves_the_files_of_a_transaction_whose_outcome_is_unknown(
    tmp_path: Path, members: tuple[str, ...], *, committed: bool
) -> None:
    def opened() -> tuple[list[DB], list[Any]]:
        databases: dict[str, Any] = {}
        for name in members:
            storage = FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))
            DB(storage, database_name=name, databases=databases)
        first = databases[members[0]].open(manager)
        connections = [first.get_connection(name) for name in members]
        return list(databases.values()), connections

    manager = transaction.TransactionManager()
    databases, connections = opened()
    for connection in connections:
        connection.root.blob = Blob(b"first")
    manager.commit()
    begins = (tmp_path / "one.fs").stat().st_size
    for connection in connections:
        write(connection.root.blob, b"second")
    manager.get().join(TakesTheFileAway(tmp_path / "one.fs"))
    with pytest.raises(CommitOutcomeUnknown):
        manager.commit()
    manager.abort()
    for database in databases:
        # What a pack does that was beginning to remove files when the outcome became unknown.
        storage: Any = database.storage
        storage.require_blobs().remove_dropped(storage, storage.lastTransaction(), alone=True)
        with suppress(StorageError):
            database.close()
    if committed:
        # The write of the status failed, and was done all the same.
        with (tmp_path / "one.fs").open("r+b") as file:
            file.seek(begins + STATUS_OFFSET)
            file.write(b" ")
    databases, connections = opened()
    expected = b"second" if committed else b"first"
    assert [read(connection.root.blob) for connection in connections] == [expected] * len(members)
    manager.abort()
    for name, database in zip(members, databases, strict=True):
        database.pack(time.time() + 1)
        assert len(list((tmp_path / name).rglob("*.blob"))) == 1
    for database in databases:
        database.close()


def test_blobs_are_committed_together_in_two_databases(tmp_path: Path) -> None:
    databases: dict[str, Any] = {}
    members = [
        DB(
            FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name)),
            database_name=name,
            databases=databases,
        )
        for name in ("one", "two")
    ]
    manager = transaction.TransactionManager()
    one = members[0].open(manager)
    two = one.get_connection("two")
    one.root.blob, two.root.blob = Blob(b"first"), Blob(b"second")
    manager.commit()
    assert (read(one.root.blob), read(two.root.blob)) == (b"first", b"second")
    assert one.root.blob._p_serial == two.root.blob._p_serial
    write(one.root.blob, b"changed")
    write(two.root.blob, b"changed")
    manager.abort()
    assert (read(one.root.blob), read(two.root.blob)) == (b"first", b"second")
    one.close()
    for member in members:
        member.close()


def test_a_storage_without_blobs_says_what_to_do() -> None:
    db = DB(MappingStorage())
    session = Session(db)
    session.root.blob = Blob(b"data")
    with pytest.raises(Unsupported, match="blob_dir"):
        session.commit()
    session.abort()
    session.connection.close()
    db.close()


def test_a_directory_with_another_layout_is_refused(tmp_path: Path) -> None:
    directory = str(tmp_path / "blobs")
    BlobStorage(directory, MappingStorage(), layout="lawn")
    assert BlobStorage(directory, MappingStorage()).fshelper.layout_name == "lawn"
    with pytest.raises(ValueError, match="lawn"):
        BlobStorage(directory, MappingStorage(), layout="bushy")


@pytest.mark.parametrize("layout", ["bushy", "lawn"])
def test_files_of_stocks_blob_storage_are_read_and_the_reverse(tmp_path: Path, layout: str) -> None:
    ZODB.blob.FilesystemHelper(str(tmp_path / "blobs"), layout).create()

    def stock() -> Any:
        return ZODB.FileStorage.FileStorage(
            str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs")
        )

    theirs = ZODB.DB(stock())
    with theirs.transaction() as connection:
        connection.root.theirs = ZODB.blob.Blob(b"theirs")
    theirs.close()
    ours = DB(FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs")))
    with ours.transaction() as connection:
        assert read(connection.root.theirs) == b"theirs"
        connection.root.ours = Blob(b"ours")
    ours.close()
    theirs = ZODB.DB(stock())
    with theirs.transaction() as connection:
        assert type(connection.root.ours) is ZODB.blob.Blob
        with connection.root.ours.open() as file:
            assert file.read() == b"ours"
    theirs.close()


@pytest.mark.parametrize("layout", ["bushy", "lawn"])
def test_a_marker_that_a_power_loss_emptied_is_written_again(tmp_path: Path, layout: str) -> None:
    marker = tmp_path / "blobs" / ".layout"
    marker.parent.mkdir()
    marker.write_text(layout)
    with closing(DB(MAKERS["wrapped-file"](tmp_path))) as db, db.transaction() as connection:
        connection.root.blob = Blob(b"data")
    marker.write_text("")
    with closing(DB(MAKERS["wrapped-file"](tmp_path))) as db, db.transaction() as connection:
        assert read(connection.root.blob) == b"data"
    assert marker.read_text() == layout


def test_an_empty_marker_of_an_empty_directory_is_one_of_a_new_one(tmp_path: Path) -> None:
    marker = tmp_path / ".layout"
    marker.write_text("")
    BlobStorage(str(tmp_path), MappingStorage())
    assert marker.read_text() == "bushy"


@pytest.mark.parametrize("content", [b"bogus", b"\xff", b"bushy" + b"\0" * 100])
@pytest.mark.parametrize("kind", ["file", "wrapped-file"])
def test_a_marker_that_names_no_layout_is_told(tmp_path: Path, kind: str, content: bytes) -> None:
    marker = tmp_path / "blobs" / ".layout"
    marker.parent.mkdir()
    marker.write_bytes(content)
    with pytest.raises(StorageError, match=rf"{marker} names no layout"):
        MAKERS[kind](tmp_path)
    assert marker.read_bytes() == content
    assert (tmp_path / "data.fs").exists() == (kind == "wrapped-file")


def test_a_marker_without_end_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / ".layout").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(StorageError, match="names no layout"):
        BlobStorage(str(tmp_path), MappingStorage())
