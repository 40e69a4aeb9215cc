"""Restoring a backup to a place where something is, or was."""

from pathlib import Path

import pytest

import perdure


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
