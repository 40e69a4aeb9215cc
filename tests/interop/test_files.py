"""Stock ZODB's data files read by perdure, as their manifest and stock itself say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.interop import filepeers
from tests.interop.filepeers import OURS, THEIRS

import perdure
from perdure.errors import CorruptedError, NotADatabase, POSKeyError
from perdure.ids import Oid, Tid
from perdure.storage.zlib import ZlibStorage

SAMPLES = Path(__file__).parents[1] / "data"
MANIFEST: dict[str, Any] = json.loads((SAMPLES / "manifest.json").read_text(encoding="utf-8"))
WHOLE = sorted(name for name in MANIFEST if name.endswith(".fs"))


@pytest.fixture(params=WHOLE)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a sample database that is whole."""
    return Path(shutil.copy(SAMPLES / request.param, tmp_path))


def expected_transactions(name: str) -> Any:
    return [{**txn, "extension": dict(txn["extension"])} for txn in MANIFEST[name]["transactions"]]


def test_every_transaction_and_record_is_as_the_manifest_says(sample: Path) -> None:
    storage = perdure.FileStorage(str(sample), read_only=True)
    found = filepeers.transactions_in(storage)
    assert json.loads(json.dumps(found, default=repr)) == expected_transactions(sample.name)
    storage.close()


def test_every_current_object_is_as_the_manifest_says(sample: Path) -> None:
    storage = perdure.FileStorage(str(sample))
    for key, record in MANIFEST[sample.name]["current"].items():
        data, serial = storage.load(Oid(bytes.fromhex(key)))
        assert serial.hex() == record["tid"]
        assert filepeers.digest(data) == record["sha256"]
        assert storage.getTid(Oid(bytes.fromhex(key))) == serial
    assert len(storage) == len(MANIFEST[sample.name]["current"])
    assert storage.lastTransaction().hex() == MANIFEST[sample.name]["last_tid"]
    assert filepeers.walked(storage) == MANIFEST[sample.name]["current"]
    storage.close()


def test_all_that_stock_tells_of_a_file_perdure_tells_the_same(sample: Path) -> None:
    assert filepeers.picture(sample, OURS) == filepeers.picture(sample, THEIRS)


def test_reading_leaves_a_file_as_it_was(sample: Path) -> None:
    before = sample.read_bytes()
    storage = perdure.FileStorage(str(sample))
    filepeers.all_revisions(storage)
    storage.close()
    assert sample.read_bytes() == before


def test_every_past_state_of_a_file_is_read_as_stock_reads_it(sample: Path) -> None:
    ours = perdure.FileStorage(str(sample), read_only=True)
    theirs = THEIRS.open(str(sample), read_only=True)
    for txn in MANIFEST[sample.name]["transactions"]:
        for key in MANIFEST[sample.name]["current"]:
            arguments = bytes.fromhex(key), bytes.fromhex(txn["tid"])
            assert ours.loadBefore(Oid(arguments[0]), Tid(arguments[1])) == theirs.loadBefore(
                *arguments
            )
    ours.close()
    theirs.close()


def test_a_file_opened_at_a_past_moment_shows_what_stock_shows(sample: Path) -> None:
    for txn in MANIFEST[sample.name]["transactions"][1::3]:
        stop = Tid(bytes.fromhex(txn["tid"]))
        ours = perdure.FileStorage(str(sample), read_only=True, stop=stop)
        theirs = THEIRS.open(str(sample), read_only=True, stop=stop)
        assert filepeers.current_in(ours) == filepeers.current_in(theirs)
        # Stock names the transaction that it stopped at, which isn't seen any more.
        assert ours.lastTransaction() < stop == theirs.lastTransaction()
        ours.close()
        theirs.close()


def test_iterating_over_a_part_gives_the_same_part_as_stock(sample: Path) -> None:
    tids = [bytes.fromhex(txn["tid"]) for txn in MANIFEST[sample.name]["transactions"]]
    between = [bytes([*tid[:7], tid[7] - 1]) for tid in tids[1:2] if tid[7]]
    ours = perdure.FileStorage(str(sample), read_only=True)
    theirs = THEIRS.open(str(sample), read_only=True)
    for start in [*tids[::4], *between, None]:
        for stop in [*tids[2::5], *between, None]:
            expected = [txn.tid for txn in theirs.iterator(start, stop)]
            found = ours.iterator(Tid(start) if start else None, Tid(stop) if stop else None)
            assert [txn.tid for txn in found] == expected
    ours.close()
    theirs.close()


def test_compressed_records_are_read_through_the_layer(tmp_path: Path) -> None:
    storage = ZlibStorage(perdure.FileStorage(str(SAMPLES / "zlib.fs"), read_only=True))
    kept = [record.data for txn in storage.iterator() for record in txn]
    assert kept
    assert not any(data.startswith(b".z") for data in kept)
    storage.close()


# Damaged files.


WHOLE_TRANSACTIONS = {"truncated.fs": 23, "voted_tail.fs": 24, "garbage_tail.fs": 25}


def whole_transactions(name: str) -> list[str]:
    """Return the tids of what is whole in a sample with a damaged end."""
    transactions = MANIFEST["basic.fs"]["transactions"]
    return [txn["tid"] for txn in transactions[: WHOLE_TRANSACTIONS[name]]]


@pytest.mark.parametrize("name", sorted(WHOLE_TRANSACTIONS))
def test_a_damaged_end_is_cut_at_the_last_whole_transaction_and_kept(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(SAMPLES / name, tmp_path))
    before = path.read_bytes()
    storage = perdure.FileStorage(str(path))
    assert [txn.tid.hex() for txn in storage.iterator()] == whole_transactions(name)
    filepeers.commit(storage, {1000: b"after"})
    storage.close()
    cut = tmp_path / f"{name}.tr0"
    kept = path.read_bytes()[: len(before) - cut.stat().st_size]
    assert kept + cut.read_bytes() == before
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [str(cut) in record.getMessage() for record in warnings] == [True]
    assert filepeers.picture(path, OURS) == filepeers.picture(path, THEIRS)


def test_a_read_only_open_shows_a_damaged_file_without_touching_it(tmp_path: Path) -> None:
    path = Path(shutil.copy(SAMPLES / "truncated.fs", tmp_path))
    before = path.read_bytes()
    storage = perdure.FileStorage(str(path), read_only=True)
    assert [txn.tid.hex() for txn in storage.iterator()] == whole_transactions("truncated.fs")
    storage.close()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["truncated.fs"]


def test_damage_in_the_middle_is_an_error_that_names_file_and_position(tmp_path: Path) -> None:
    path = Path(shutil.copy(SAMPLES / "basic.fs", tmp_path))
    storage = perdure.FileStorage(str(path), read_only=True)
    position = next(record.pos for txn in list(storage.iterator())[10:] for record in txn)
    storage.close()
    damaged = bytearray(path.read_bytes())
    damaged[position + 24 : position + 32] = b"\xff" * 8  # where the record's transaction begins
    path.write_bytes(damaged)
    with pytest.raises(CorruptedError) as caught:
        perdure.FileStorage(str(path))
    assert str(path) in str(caught.value)
    assert str(position) in str(caught.value)
    assert path.read_bytes() == damaged


def test_what_only_a_checksum_could_find_is_read_as_stock_reads_it(tmp_path: Path) -> None:
    path = Path(shutil.copy(SAMPLES / "damaged_middle.fs", tmp_path))
    storage = perdure.FileStorage(str(path), read_only=True)
    theirs = THEIRS.open(str(path), read_only=True)
    for key in MANIFEST["basic.fs"]["current"]:
        assert storage.load(Oid(bytes.fromhex(key))) == theirs.load(bytes.fromhex(key))
    storage.close()
    theirs.close()


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = Path(shutil.copy(SAMPLES / "not_a_database.fs", tmp_path))
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(NotADatabase, match=path.name):
            perdure.FileStorage(str(path), read_only=read_only)
    assert path.read_bytes() == before


def test_an_object_whose_creation_was_undone_is_gone(tmp_path: Path) -> None:
    path = Path(shutil.copy(SAMPLES / "undo.fs", tmp_path))
    created = filepeers.commit(storage := perdure.FileStorage(str(path)), {77: b"x"})
    filepeers.undo(storage, created)
    with pytest.raises(POSKeyError):
        storage.load(filepeers.oid(77))
    storage.close()
    theirs = THEIRS.open(str(path))
    with pytest.raises(KeyError):
        theirs.load(filepeers.oid(77))
    theirs.close()
