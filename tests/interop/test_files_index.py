"""The index files of perdure and of stock ZODB beside one data file never mislead the other."""

import shutil
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from tests.interop import filepeers
from tests.interop.filepeers import OURS, PEERS, THEIRS, Peer

import perdure

SUFFIX = {OURS.name: ".pindex", THEIRS.name: ".index"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.fs"


def write(path: Path, peer: Peer, numbers: range, data: bytes = b"data") -> None:
    """Open a file as one of the two, commit objects one by one, and close it."""
    storage = peer.open(str(path))
    for number in numbers:
        filepeers.commit(storage, {number: b"%s %03d" % (data, number)}, peer=peer)
    storage.close()


def same_without_any_index(path: Path, tmp_path: Path) -> None:
    """Compare what both find in a file, its index files beside it, with what is in it."""
    bare = tmp_path / "bare"
    bare.mkdir()
    copy = Path(shutil.copy(path, bare))
    expected = filepeers.picture(copy, THEIRS)
    for peer in PEERS:
        writable = peer.open(str(path))
        assert filepeers.current_in(writable) == expected["current"]
        assert writable.lastTransaction() == expected["last"]
        writable.close()
        assert filepeers.picture(path, peer) == expected
    shutil.rmtree(bare)


def index_of(path: Path, peer: Peer) -> Path:
    return path.with_name(path.name + SUFFIX[peer.name])


@pytest.mark.parametrize("writer", PEERS, ids=str)
def test_an_index_from_before_the_other_wrote_is_caught_up_with(
    writer: Peer, path: Path, tmp_path: Path
) -> None:
    other = THEIRS if writer is OURS else OURS
    write(path, writer, range(20))
    assert index_of(path, writer).exists()
    write(path, other, range(10, 30), b"changed")
    same_without_any_index(path, tmp_path)


@pytest.mark.parametrize("writer", PEERS, ids=str)
def test_an_index_newer_than_a_file_that_was_put_back_is_not_believed(
    writer: Peer, path: Path, tmp_path: Path
) -> None:
    write(path, OURS, range(20))
    backup = shutil.copy(path, tmp_path / "backup.fs")
    write(path, writer, range(5, 40), b"lost")
    shutil.copy(backup, path)
    same_without_any_index(path, tmp_path)


def test_an_index_of_another_history_of_the_same_length_is_not_believed(
    path: Path, tmp_path: Path
) -> None:
    write(path, OURS, range(20))
    base = shutil.copy(path, tmp_path / "base.fs")
    write(path, OURS, range(10), b"one")
    shutil.copy(base, path.with_name("other.fs"))
    write(path.with_name("other.fs"), OURS, range(19, 9, -1), b"two")
    assert path.stat().st_size == path.with_name("other.fs").stat().st_size
    shutil.copy(path.with_name("other.fs"), path)
    same_without_any_index(path, tmp_path)


def test_an_index_from_before_stock_packed_is_not_believed(path: Path, tmp_path: Path) -> None:
    database = perdure.DB(perdure.FileStorage(str(path)))
    for turn in range(5):
        with database.transaction() as connection:
            connection.root()["tree"] = OOBTree(dict.fromkeys(range(200), turn))
    database.close()
    assert index_of(path, OURS).exists()
    packing = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    packing.pack()
    packing.close()
    same_without_any_index(path, tmp_path)


def test_an_index_is_not_believed_when_a_packed_file_has_grown_past_its_length(
    path: Path, tmp_path: Path
) -> None:
    database = perdure.DB(perdure.FileStorage(str(path)))
    for turn in range(5):
        with database.transaction() as connection:
            connection.root()["tree"] = OOBTree(dict.fromkeys(range(200), turn))
    database.close()
    length = path.stat().st_size
    packing = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    packing.pack()
    packing.close()
    storage = THEIRS.open(str(path))
    while path.stat().st_size <= length:
        filepeers.commit(storage, {500: b"more" * 500}, peer=THEIRS)
    storage.close()
    same_without_any_index(path, tmp_path)


@pytest.mark.parametrize("peer", PEERS, ids=str)
@pytest.mark.parametrize("damage", ["empty", "short", "zeros", "noise", "end flipped"])
def test_a_damaged_index_is_as_good_as_none(
    peer: Peer, damage: str, path: Path, tmp_path: Path
) -> None:
    write(path, OURS, range(50))
    write(path, THEIRS, range(20, 70))
    index = index_of(path, peer)
    whole = index.read_bytes()
    index.write_bytes(
        {
            "empty": b"",
            "short": whole[: len(whole) // 2],
            "zeros": b"\0" * len(whole),
            "noise": bytes(range(256)) * 4,
            "end flipped": whole[:-1] + bytes([whole[-1] ^ 0xFF]),
        }[damage]
    )
    same_without_any_index(path, tmp_path)


@pytest.mark.parametrize("offset", range(0, 400, 16))
def test_a_byte_flipped_anywhere_in_the_index_is_noticed(
    offset: int, path: Path, tmp_path: Path
) -> None:
    write(path, OURS, range(30))
    index = index_of(path, OURS)
    flipped = bytearray(index.read_bytes())
    flipped[offset % len(flipped)] ^= 0x10
    index.write_bytes(flipped)
    storage = perdure.FileStorage(str(path))
    for number in range(30):
        assert storage.load(filepeers.oid(number))[0] == b"data %03d" % number
    assert len(storage) == 30
    storage.close()


def test_an_index_that_belongs_to_another_file_is_not_believed(path: Path, tmp_path: Path) -> None:
    write(path, OURS, range(20))
    other = path.with_name("other.fs")
    write(other, OURS, range(40, 60), b"other")
    shutil.copy(index_of(other, OURS), index_of(path, OURS))
    same_without_any_index(path, tmp_path)


def test_the_index_is_used_by_a_read_only_open_and_left_as_it_is(path: Path) -> None:
    write(path, OURS, range(20))
    before = index_of(path, OURS).read_bytes()
    write(path, THEIRS, range(20, 30))
    storage = perdure.FileStorage(str(path), read_only=True)
    assert len(storage) == 30
    storage.close()
    assert index_of(path, OURS).read_bytes() == before
