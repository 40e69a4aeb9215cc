"""Defaults that protect: who may read files, and where paths may lead."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import perdure
from perdure.errors import FileStorageFormatError, StorageError


@pytest.fixture
def generous_umask() -> Iterator[None]:
    """Let the process take nothing away from the permissions that files are made with."""
    before = os.umask(0)
    yield
    os.umask(before)


def _make(directory: Path) -> Path:
    path = directory / "Data.fs"
    storage = perdure.FileStorage(str(path), blob_dir=str(directory / "blobs"))
    with perdure.DB(storage) as database:
        with database.transaction() as connection:
            connection.root.blob = perdure.Blob(b"private")
        database.pack()
    return path


@pytest.mark.usefixtures("generous_umask")
def test_others_may_neither_read_nor_write_a_database_or_its_backup(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir()
    path = _make(directory)
    perdure.backup(path, directory / "backup", blob_dir=directory / "blobs")
    perdure.restore(directory / "backup", directory / "restored.fs")
    perdure.DB(str(directory / "restored.fs")).close()
    found = {
        str(each.relative_to(directory)): oct(each.stat().st_mode)
        for each in directory.rglob("*")
        if each.is_file() and each.stat().st_mode & 0o007
    }
    top = {directory / "blobs", directory / "backup" / "blobs"}
    private = [each for each in top if each.is_dir() and not each.stat().st_mode & 0o007]
    inside = [name for name in found if any((directory / name).is_relative_to(e) for e in private)]
    assert sorted(found.keys() - set(inside)) == []


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "", "sub/file"])
@pytest.mark.parametrize("key", ["file", "blobs"])
def test_a_manifest_that_leads_out_of_its_backup_is_refused(
    name: str, key: str, tmp_path: Path
) -> None:
    path = _make(tmp_path)
    perdure.backup(path, tmp_path / "backup")
    manifest = tmp_path / "backup" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["generations"][0][0][key] = name
    manifest.write_text(json.dumps(content), encoding="utf-8")
    for use in (
        lambda: perdure.restore(tmp_path / "backup", tmp_path / "restored.fs"),
        lambda: perdure.verify_backup(tmp_path / "backup"),
        lambda: perdure.backup(path, tmp_path / "backup"),
    ):
        with pytest.raises(
            StorageError, match=r"manifest\.json can't be read: .* no file in the backup"
        ):
            use()
    assert not (tmp_path / "restored.fs").exists()


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_a_newer_perdure_s_checksums_are_left_alone_and_named(tmp_path: Path) -> None:
    path = _make(tmp_path)
    sums = Path(f"{path}.psums")
    content = bytearray(sums.read_bytes())
    length = 48 + 8 * 24
    for at in (0, 512):
        content[at : at + 8] = b"PDSUMS02"
        content[at + length : at + length + 4] = _crc32c(bytes(content[at : at + length])).to_bytes(
            4, "big"
        )
    sums.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(FileStorageFormatError, match=r"newer perdure \(PDSUMS02\); update"):
            perdure.FileStorage(str(path), read_only=read_only)
    assert sums.read_bytes() == content


@pytest.mark.parametrize(("ahead_s", "level"), [(3_600, "CRITICAL"), (120, "WARNING"), (0, None)])
def test_a_clock_that_was_ahead_is_a_warning_at_open_and_tids_go_on(
    ahead_s: int,
    level: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = _make(tmp_path)
    with perdure.DB(str(path)) as database:
        last = database.lastTransaction()
    behind = perdure.TimeStamp(last).timeTime() - ahead_s
    monkeypatch.setattr(time, "time", lambda: behind)
    with perdure.DB(str(path)) as database:
        with database.transaction() as connection:
            connection.root.late = 1
        assert database.lastTransaction() > last
    levels = [record.levelname for record in caplog.records if "in the future" in record.message]
    assert levels == ([level] if level else [])
