"""A real file system that fills up: commits are refused, and go on when there is room again."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import transaction
from tests.fault import ledger

import perdure
from perdure.errors import FileStorageQuotaError

NAMES = ("a", "b")
SIZE_BYTES = 2 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of two megabytes in memory, which takes the rights to do so."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "perdure-test", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.parametrize("blobs", [False, True])
def test_a_full_disk_refuses_commits_and_loses_none(small_disk: Path, blobs: bool) -> None:
    ledger.create(small_disk, NAMES, blobs=blobs)
    with ledger.opened(small_disk, NAMES, blobs=blobs) as connection:
        ballast = small_disk / "ballast"
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_bsize - 60_000))
        committed, refused = 0, 0
        while refused < 3:
            try:
                ledger.write(connection, NAMES, committed + 1, blobs=blobs)
                transaction.commit()
                committed += 1
            except OSError:
                transaction.abort()
                refused += 1
            assert ledger.read(connection, NAMES, blobs=blobs) == committed
        assert committed > 0
        ballast.unlink()
        ledger.write(connection, NAMES, committed + 1, blobs=blobs)
        transaction.commit()
    with ledger.opened(small_disk, NAMES, blobs=blobs) as connection:
        assert ledger.read(connection, NAMES, blobs=blobs) == committed + 1
        ledger.check_whole(connection, NAMES)


def test_a_database_that_reached_its_quota_goes_on_when_it_is_packed(tmp_path: Path) -> None:
    storage = perdure.FileStorage(str(tmp_path / "Data.fs"), quota=20_000)
    database = perdure.DB(storage)
    connection = database.open()
    committed, full = 0, False
    while not full:
        connection.root.data = bytes(2000)
        connection.root.number = committed + 1
        try:
            transaction.commit()
            committed += 1
        except FileStorageQuotaError:
            full = True
    transaction.abort()
    assert connection.root.number == committed > 0
    database.pack()
    connection.root.number = -1
    transaction.commit()
    assert connection.root.number == -1
    connection.close()
    database.close()
