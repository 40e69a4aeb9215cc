"""Restoring a backup to a place where something is, or was."""

import os
import re
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

import perdure
from perdure.errors import StorageError


def fill(path: Path, number: int) -> None:
    with perdure.DB(path) as db, db.transaction() as conn:
        conn.root.number = number


def number_in(path: Path) -> object:
    with perdure.DB(path) as db, db.transaction() as conn:
        return conn.root.number


@pytest.mark.parametrize("of_collection", [False, True])
def test_what_stood_beside_a_file_that_is_gone_is_not_taken_for_that_of_the_restored_one(
    tmp_path: Path, of_collection: bool
) -> None:
    file, backup = tmp_path / "data.fs", tmp_path / "backup"
    fill(file, 1)
    if of_collection:
        perdure.backup_collection({"one": file}, backup)
    else:
        perdure.backup(file, backup)
    for number in (2, 3):
        fill(file, number)
    for suffix in (".index", ".refs"):
        Path(f"{file}{suffix}").write_bytes(b"of the file before")
    file.unlink()
    if of_collection:
        perdure.restore_collection(backup, {"one": file})
    else:
        perdure.restore(backup, file)
    assert not any(
        Path(f"{file}{suffix}").exists() for suffix in (".index", ".pindex", ".psums", ".refs")
    )
    assert number_in(file) == 1
    assert perdure.check(file).ok


def store(path: Path, blobs: Path, *data: bytes) -> None:
    with perdure.DB(path, blob_dir=str(blobs)) as db:
        for number, each in enumerate(data):
            with db.transaction() as conn:
                setattr(conn.root, f"blob{number}", perdure.Blob(each))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def back_up_blobs(where: Path, *data: bytes) -> Path:
    store(where / "data.fs", where / "blobs", *data)
    perdure.backup(where / "data.fs", where / "backup", blob_dir=where / "blobs")
    return where / "backup"


@pytest.mark.parametrize("marked", [True, False])
def test_blobs_are_not_restored_among_others_of_another_layout(
    tmp_path: Path, marked: bool
) -> None:
    backup, lawn = back_up_blobs(tmp_path, b"a blob"), tmp_path / "lawn"
    other = lawn / "0x0000000000000007" / "0x03e1c7d5a1b2c3d4.blob"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another")
    if marked:
        (lawn / ".layout").write_text("lawn")
    before = contents(lawn)
    with pytest.raises(StorageError, match="lawn"):
        perdure.restore(backup, tmp_path / "new.fs", blob_dir=lawn)
    assert contents(lawn) == before
    assert not (tmp_path / "new.fs").exists()


def test_a_restore_that_fails_leaves_no_blobs(tmp_path: Path) -> None:
    backup, target = back_up_blobs(tmp_path, b"first", b"second"), tmp_path / "target"
    kept, damaged = sorted((backup / "blobs").rglob("*.blob"))
    same = target / kept.relative_to(backup / "blobs")
    for is_there in (False, True):
        if is_there:
            same.parent.mkdir(parents=True)
            same.write_bytes(b"first")
        before = contents(target)
        damaged.write_bytes(b"changed")
        with pytest.raises(StorageError, match="damaged"):
            perdure.restore(backup, tmp_path / "new.fs", blob_dir=target)
        assert contents(target) == before
        damaged.write_bytes(b"second")
        # What comes last fails.
        (tmp_path / "new.fs.psums").mkdir(exist_ok=True)
        with pytest.raises(OSError, match="psums"):
            perdure.restore(backup, tmp_path / "new.fs", blob_dir=target)
        assert contents(target) == before
        assert not (tmp_path / "new.fs").exists()


def test_a_restored_collection_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    for path in members.values():
        fill(path, 1)
    perdure.backup_collection(members, tmp_path / "backup")
    same = dict.fromkeys(members, tmp_path / "new.fs")
    with pytest.raises(StorageError, match=r"new\.fs is given twice"):
        perdure.restore_collection(tmp_path / "backup", same)
    (tmp_path / "second.fs.psums").mkdir()
    with pytest.raises(OSError, match=r"second\.fs\.psums"):
        perdure.restore_collection(
            tmp_path / "backup", {"one": tmp_path / "first.fs", "two": tmp_path / "second.fs"}
        )
    assert sorted(path.name for path in tmp_path.glob("*.fs")) == ["one.fs", "two.fs"]


def test_a_backup_that_has_the_name_of_the_unfinished_restore_is_kept(tmp_path: Path) -> None:
    fill(tmp_path / "data.fs", 1)
    for backup in (tmp_path / "new.restoring", tmp_path / "new.restoring" / "inside"):
        perdure.backup_collection({"one": tmp_path / "data.fs"}, backup)
        with pytest.raises(StorageError, match=r"new\.restoring"):
            perdure.restore_collection(backup, tmp_path / "new")
        assert perdure.verify_collection_backup(backup) == []
        shutil.rmtree(tmp_path / "new.restoring")


@pytest.mark.parametrize(
    "stray",
    [
        b"a\nb.blob",
        "a\u2028b.blob".encode(),
        b"\xff.blob",
        b"0x.blob",
        b"0xzz.blob",
        b"leak.blob",
        b"pipe.blob",
    ],
)
def test_a_file_that_is_no_blob_is_not_in_a_backup_and_stops_no_pack(
    tmp_path: Path, stray: bytes
) -> None:
    file, blobs, backup = tmp_path / "data.fs", tmp_path / "blobs", tmp_path / "backup"
    store(file, blobs, b"a blob")
    (blob,) = blobs.rglob("*.blob")
    strays = [folder / os.fsdecode(stray) for folder in (blobs, blob.parent)]
    for path in strays:
        if stray.startswith(b"leak"):
            (tmp_path / "secret").write_bytes(b"secret")
            path.symlink_to(tmp_path / "secret")
        elif stray.startswith(b"pipe"):
            os.mkfifo(path)
        else:
            path.write_bytes(b"stray")
    assert perdure.backup(file, backup, blob_dir=blobs).blobs == 1
    assert perdure.verify_backup(backup) == []
    perdure.restore(backup, tmp_path / "new.fs", blob_dir=tmp_path / "new")
    assert contents(tmp_path / "new") == {
        ".layout": b"bushy",
        blob.relative_to(blobs).as_posix(): b"a blob",
    }
    with perdure.DB(file, blob_dir=str(blobs)) as db:
        with db.transaction() as conn:
            del conn.root.blob0
        db.pack(time.time() + 1)
    assert not blob.exists()
    assert all(os.path.lexists(path) for path in strays)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("secret"), os.mkfifo])
def test_a_blob_that_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    store(tmp_path / "data.fs", tmp_path / "blobs", b"a blob")
    (blob,) = (tmp_path / "blobs").rglob("*.blob")
    blob.unlink()
    make(blob)
    with pytest.raises(StorageError, match=rf"{blob} isn't a regular file"):
        perdure.backup(tmp_path / "data.fs", tmp_path / "backup", blob_dir=tmp_path / "blobs")


def test_a_backup_with_files_that_are_no_blobs_can_be_restored(tmp_path: Path) -> None:
    backup = back_up_blobs(tmp_path, b"a blob")
    (listed,) = backup.glob("*.blobs")
    digest = sha256(b"stray").hexdigest()
    listed.write_bytes(listed.read_bytes() + f"{digest}  a\nb.blob\n{digest}  c.blob\n".encode())
    (backup / "blobs" / "a\nb.blob").write_bytes(b"stray")
    manifest = (backup / "manifest.json").read_text()
    (former,) = re.findall(r'"blobs_sha256": "(\w+)"', manifest)
    manifest = manifest.replace(former, sha256(listed.read_bytes()).hexdigest())
    (backup / "manifest.json").write_text(manifest)
    assert perdure.verify_backup(backup) == []
    perdure.restore(backup, tmp_path / "new.fs", blob_dir=tmp_path / "new")
    assert sorted(contents(tmp_path / "new").values()) == [b"a blob", b"bushy"]
