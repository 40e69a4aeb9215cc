"""Backups of a collection: one moment, whole or not at all, whatever happens while they are made."""

import datetime as dt
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Account

import perdure
from perdure.errors import StorageError, Unsupported
from perdure.ids import Tid, p64, u64

NAMES = ("one", "two", "three")


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[perdure.Collection]:
    members = {name: tmp_path / f"{name}.fs" for name in NAMES}
    with perdure.Collection(members) as made:
        yield made


def set_all(collection: perdure.Collection, number: int, names: Any = NAMES) -> Tid:
    """Write one number into several members, in one transaction."""
    with collection.transaction() as conn:
        for name in names:
            conn[name].root.number = number
    return collection.lastTransaction()


def numbers(folder: Path, names: Any = NAMES) -> list[int | None]:
    """Return what restored members hold; None: nothing."""
    found = []
    for name in names:
        with perdure.DB(str(folder / f"{name}.fs")) as db, db.transaction() as conn:
            found.append(getattr(conn.root, "number", None))
    return found


def read(blob: Any) -> bytes:
    with blob.open() as file:
        content: bytes = file.read()
    return content


def test_all_members_are_restored_as_they_were(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    tid = set_all(collection, 1)
    done = collection.backup(tmp_path / "backup")
    assert done.tid == tid
    assert all(each.full for each in done.members.values())
    restored = perdure.restore_collection(tmp_path / "backup", tmp_path / "new")
    assert restored.tid == tid
    assert numbers(tmp_path / "new") == [1, 1, 1]
    assert perdure.verify_collection_backup(tmp_path / "backup") == []
    assert perdure.is_backup_of_collection(tmp_path / "backup")


def test_only_what_is_new_is_added(collection: perdure.Collection, tmp_path: Path) -> None:
    set_all(collection, 1)
    collection.backup(tmp_path / "backup")
    set_all(collection, 2, ["two", "three"])
    done = collection.backup(tmp_path / "backup")
    assert done.members["one"].file is None
    assert not done.members["two"].full
    assert done.members["two"].bytes_added < 1000
    perdure.restore_collection(tmp_path / "backup", tmp_path / "new")
    assert numbers(tmp_path / "new") == [1, 2, 2]


def test_every_transaction_in_it_can_be_restored(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    tids = {}
    for number in range(6):
        names = NAMES if number % 2 else NAMES[: 1 + number // 2]
        tids[number] = set_all(collection, number, names)
        if number in (1, 3, 4):
            collection.backup(tmp_path / "backup")
    # The last one was not backed up.
    expected = {0: [0, None, None], 1: [1] * 3, 2: [2, 2, 1], 3: [3] * 3, 4: [4] * 3, 5: [4] * 3}
    for number, tid in tids.items():
        folder = tmp_path / f"at-{number}"
        perdure.restore_collection(tmp_path / "backup", folder, at=tid)
        assert numbers(folder) == expected[number]


def test_a_backup_is_restored_as_it_was_at_a_time(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    set_all(collection, 1)
    between = dt.datetime.now(dt.timezone.utc)
    set_all(collection, 2)
    collection.backup(tmp_path / "backup")
    perdure.restore_collection(tmp_path / "backup", tmp_path / "then", at=between)
    assert numbers(tmp_path / "then") == [1, 1, 1]
    later = between + dt.timedelta(days=1)
    perdure.restore_collection(tmp_path / "backup", tmp_path / "now", at=later)
    assert numbers(tmp_path / "now") == [2, 2, 2]
    perdure.backup(tmp_path / "now" / "one.fs", tmp_path / "one")
    perdure.restore(tmp_path / "one", tmp_path / "then" / "again.fs", at=between)
    with perdure.DB(tmp_path / "then" / "again.fs") as db, db.transaction() as conn:
        assert conn.root.number == 1
    with pytest.raises(ValueError, match="neither a transaction id"):
        perdure.restore_collection(tmp_path / "backup", tmp_path / "never", at=b"soon")
    assert not (tmp_path / "never").exists()


def test_after_a_pack_a_member_is_copied_anew_and_the_past_stays_restorable(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    first = set_all(collection, 1)
    collection.backup(tmp_path / "backup")
    set_all(collection, 2)
    collection["two"].pack(time.time() + 1)
    done = collection.backup(tmp_path / "backup")
    assert [done.members[name].full for name in NAMES] == [False, True, False]
    perdure.restore_collection(tmp_path / "backup", tmp_path / "past", at=first)
    assert numbers(tmp_path / "past") == [1, 1, 1]
    perdure.restore_collection(tmp_path / "backup", tmp_path / "now")
    assert numbers(tmp_path / "now") == [2, 2, 2]


def test_a_time_before_a_pack_that_no_backup_reaches_is_refused(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    first = set_all(collection, 1)
    set_all(collection, 2)
    collection.pack(time.time() + 1)
    collection.backup(tmp_path / "backup")
    with pytest.raises(StorageError, match="packed"):
        perdure.restore_collection(tmp_path / "backup", tmp_path / "new", at=first)
    assert not (tmp_path / "new").exists()


def test_blobs_are_backed_up_verified_and_restored(tmp_path: Path) -> None:
    members = {
        name: perdure.FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))
        for name in ("one", "two")
    }
    with perdure.Collection(members) as collection:
        for number in range(3):
            with collection.transaction() as conn:
                for name in members:
                    conn[name].root.blob = perdure.Blob(b"%s %d" % (name.encode(), number))
            done = collection.backup(tmp_path / "backup")
            assert [each.blobs for each in done.members.values()] == [1, 1]
    perdure.restore_collection(tmp_path / "backup", tmp_path / "new")
    for name in ("one", "two"):
        path, blobs = tmp_path / "new" / f"{name}.fs", tmp_path / "new" / f"{name}.blobs"
        with perdure.DB(str(path), blob_dir=str(blobs)) as db, db.transaction() as conn:
            assert read(conn.root.blob) == b"%s 2" % name.encode()
    assert perdure.verify_collection_backup(tmp_path / "backup") == []
    damaged, gone = sorted((tmp_path / "backup").rglob("*.blob"))[:2]
    damaged.write_bytes(b"something else")
    gone.unlink()
    problems = perdure.verify_collection_backup(tmp_path / "backup")
    assert [str(damaged) in problems[0], str(gone) in problems[1]] == [True, True]
    with pytest.raises(StorageError, match=r"damaged|missing"):
        perdure.restore_collection(tmp_path / "backup", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_blobs_that_are_others_are_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "source.d"
    with perdure.DB(str(tmp_path / "source.fs"), blob_dir=str(source)) as db:
        with db.transaction() as conn:
            conn.root.blob = perdure.Blob(b"a blob")
        perdure.backup(tmp_path / "source.fs", tmp_path / "backup", blob_dir=source)
    (blob,) = source.rglob("*.blob")
    target = tmp_path / "target.d"
    other = target / blob.relative_to(source)
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another one")
    with pytest.raises(StorageError, match="another blob"):
        perdure.restore(tmp_path / "backup", tmp_path / "target.fs", blob_dir=target)
    assert other.read_bytes() == b"another one"
    assert not (tmp_path / "target.fs").exists()
    other.write_bytes(b"a blob")
    perdure.restore(tmp_path / "backup", tmp_path / "target.fs", blob_dir=target)


def test_a_file_that_is_not_there_leaves_no_backup(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.fs"):
        perdure.backup_collection({"one": tmp_path / "none.fs"}, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_a_member_in_memory_is_refused_and_named(tmp_path: Path) -> None:
    collection = perdure.Collection({"one": tmp_path / "one.fs", "two": None})
    with collection, pytest.raises(Unsupported, match="'two'"):
        collection.backup(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_nothing_that_exists_is_overwritten(collection: perdure.Collection, tmp_path: Path) -> None:
    set_all(collection, 1)
    collection.backup(tmp_path / "backup")
    targets = {name: tmp_path / f"new-{name}.fs" for name in NAMES}
    targets["two"].write_bytes(b"precious")
    with pytest.raises(StorageError, match=r"new-two\.fs"):
        perdure.restore_collection(tmp_path / "backup", targets)
    assert targets["two"].read_bytes() == b"precious"
    assert not targets["one"].exists()
    targets["two"].unlink()
    with pytest.raises(ValueError, match="'three'"):
        perdure.restore_collection(
            tmp_path / "backup", {name: targets[name] for name in ("one", "two")}
        )
    restored = perdure.restore_collection(tmp_path / "backup", targets)
    assert all(path.is_file() for path in restored.files.values())


def test_two_backups_at_a_time_into_one_folder_are_refused(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    refused: list[BaseException] = []

    def again(done: int, total: int) -> None:
        with pytest.raises(StorageError, match="another process") as error:
            collection.backup(tmp_path / "backup")
        refused.append(error.value)

    collection.backup(tmp_path / "backup", progress=again)
    assert refused


def test_a_damaged_part_is_found_and_nothing_is_restored(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    set_all(collection, 1)
    collection.backup(tmp_path / "backup")
    part = next((tmp_path / "backup" / "two.member").glob("*.part"))
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    (problem,) = perdure.verify_collection_backup(tmp_path / "backup")
    assert str(part) in problem
    with pytest.raises(StorageError, match="damaged"):
        perdure.restore_collection(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def transfer(collection: perdure.Collection, amount: float, stop: threading.Event) -> None:
    manager = transaction.TransactionManager()
    connection = collection.open(manager)
    while not stop.is_set():
        source, target = (connection[name].root.account for name in ("one", "two"))
        source.balance -= amount
        target.balance += amount
        manager.commit()
    connection.close()


def test_a_joint_transaction_is_in_all_restored_members_or_in_none(tmp_path: Path) -> None:
    """While somebody moves money between two members, no backup sees it twice or not at all."""
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        with collection.transaction() as conn:
            for name in members:
                conn[name].root.account = Account(0.0)
        stop = threading.Event()
        thread = threading.Thread(target=transfer, args=(collection, 1.0, stop))
        thread.start()
        try:
            moments = [
                perdure.backup_collection(members, tmp_path / "backup").tid for _ in range(25)
            ]
        finally:
            stop.set()
            thread.join()
    assert len(set(moments)) > 5
    for number, tid in enumerate(moments):
        folder = tmp_path / f"new-{number}"
        restored = perdure.restore_collection(tmp_path / "backup", folder, at=tid)
        assert set(restored.last_tids.values()) == {tid}
        paths = {name: folder / f"{name}.fs" for name in members}
        with perdure.Collection(paths) as again, again.transaction() as conn:
            assert sum(conn[name].root.account.balance for name in members) == 0.0


KILLED = """
import os, pathlib, shutil, signal, sys
import perdure

folder = pathlib.Path(sys.argv[1])
members = {
    name: perdure.DataFile(folder / f"{name}.fs", folder / f"{name}.blobs")
    for name in ("one", "two")
}
left = 0

def dying(function):
    def step(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return step

os.fsync, os.replace, os.rename = dying(os.fsync), dying(os.replace), dying(os.rename)
step, status = 0, -1
while status:
    step += 1
    shutil.copytree(folder / "backup", folder / f"backup-{step}")
    child = os.fork()
    if not child:
        left = step
        perdure.backup_collection(members, folder / f"backup-{step}")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
print(step)
"""


def test_a_backup_that_is_killed_leaves_the_former_one_usable(tmp_path: Path) -> None:
    """At each sync and rename: what the former backup held can be restored; then it goes on."""
    for name in ("one", "two"):
        # Fewer folders than by default, so that there is less to try.
        (tmp_path / f"{name}.blobs").mkdir()
        (tmp_path / f"{name}.blobs" / ".layout").write_text("lawn")
    members = {
        name: perdure.FileStorage(
            str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / f"{name}.blobs")
        )
        for name in ("one", "two")
    }
    with perdure.Collection(members) as collection:
        for number in (1, 2):
            with collection.transaction() as conn:
                for name in members:
                    conn[name].root.number = number
                    conn[name].root.blob = perdure.Blob(b"%d" % number)
            if number == 1:
                collection.backup(tmp_path / "backup")
        program = [sys.executable, "-c", KILLED, str(tmp_path)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=True)
        steps = int(done.stdout)
        found = []
        for step in range(1, steps + 1):
            backup = tmp_path / f"backup-{step}"
            perdure.restore_collection(backup, tmp_path / f"new-{step}")
            found.append(numbers(tmp_path / f"new-{step}", members))
            if step % 7 == 0:
                assert perdure.verify_collection_backup(backup) == []
                collection.backup(backup)
                perdure.restore_collection(backup, tmp_path / f"again-{step}")
                assert numbers(tmp_path / f"again-{step}", members) == [2, 2]
    assert steps > 20
    # Only when the list of moments is in place, the new backup is there, and then all of it.
    assert all(each in ([1, 1], [2, 2]) for each in found)
    assert found == sorted(found)
    assert (found[0], found[-1]) == ([1, 1], [2, 2])


def test_what_a_crash_left_in_doubt_is_not_in_the_backup(tmp_path: Path) -> None:
    """A transaction that one file has finished, and another only voted, is in neither's backup."""
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        before = set_all(collection, 1, members)
        set_all(collection, 2, members)
        copies = {name: tmp_path / f"copy-{name}.fs" for name in members}
        for name, path in members.items():
            # Not closed yet: the mark of the joint transaction is still there.
            copies[name].write_bytes(path.read_bytes())
    with closing(perdure.FileStorage(copies["two"], read_only=True)) as storage:
        last = next(storage._native.transactions_backwards())
    with copies["two"].open("r+b") as file:
        file.seek(last[5] + 16)
        assert file.read(1) == b" "
        file.seek(last[5] + 16)
        file.write(b"c")
    done = perdure.backup_collection({name: copies[name] for name in members}, tmp_path / "backup")
    assert u64(done.tid) <= u64(before)
    perdure.restore_collection(tmp_path / "backup", tmp_path / "new", at=Tid(p64(1 << 62)))
    assert numbers(tmp_path / "new", members) == [1, 1]


def test_a_copy_of_a_collection_goes_on_where_it_ended(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    set_all(collection, 1)
    first = collection.copy(tmp_path / "copy")
    assert first.tid == collection.lastTransaction()
    set_all(collection, 2)
    second = collection.copy(tmp_path / "copy")
    assert [each.transactions for each in second.members.values()] == [1, 1, 1]
    assert numbers(tmp_path / "copy") == [2, 2, 2]
    with pytest.raises(ValueError, match="'two'"):
        collection.copy({"one": perdure.MappingStorage()})


def test_files_in_use_are_copied_up_to_one_moment(
    collection: perdure.Collection, tmp_path: Path
) -> None:
    set_all(collection, 1)
    targets = {name: perdure.MappingStorage(name) for name in NAMES}
    members = {name: tmp_path / f"{name}.fs" for name in NAMES}
    done = perdure.copy_collection(members, targets)
    assert done.tid == collection.lastTransaction()
    assert {storage.lastTransaction() for storage in targets.values()} == {done.tid}
