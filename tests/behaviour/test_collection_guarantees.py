"""What a collection promises with the members that it has."""

import dataclasses
from pathlib import Path

import pytest

import perdure
from perdure.errors import ConnectionStateError
from perdure.storage.demo import DemoStorage
from perdure.storage.zlib import ZlibStorage


def test_files_of_perdure_promise_all(tmp_path: Path) -> None:
    members = {name: tmp_path / name for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        guarantees = collection.guarantees()
        assert guarantees.missing() == {}
        values = dataclasses.asdict(guarantees)
        assert all(values[name] is True for name in values if name != "members")
        assert str(guarantees).splitlines()[0] == "atomic over crashes: yes"
        with pytest.raises(dataclasses.FrozenInstanceError):
            guarantees.one_tid = False  # type: ignore[misc]
    with pytest.raises(ConnectionStateError):
        collection.check()


def test_memory_is_in_step_with_memory_and_not_with_a_file(tmp_path: Path) -> None:
    with perdure.Collection({"one": None, "two": None}) as collection:
        guarantees = collection.guarantees()
        assert guarantees.atomic_over_crashes
        assert guarantees.members["one"].durable is False
        assert guarantees.missing() == {"backup": ["one", "two"]}
    with perdure.Collection({"one": None, "two": tmp_path / "two"}) as collection:
        guarantees = collection.guarantees()
        assert not guarantees.atomic_over_crashes
        assert guarantees.missing()["atomic_over_crashes"] == ["one"]
        assert guarantees.one_snapshot


def test_a_layer_takes_part_in_joint_commits_and_in_backups(tmp_path: Path) -> None:
    layered = ZlibStorage(perdure.FileStorage(str(tmp_path / "two")))
    with perdure.Collection({"one": tmp_path / "one", "two": layered}) as collection:
        guarantees = collection.guarantees()
        assert guarantees.missing() == {}
        assert guarantees.atomic_over_crashes
        assert guarantees.members["two"].durable
        collection.backup(tmp_path / "backup")


def test_an_overlay_takes_part_by_plain_two_phase_commit(tmp_path: Path) -> None:
    overlay = DemoStorage(base=perdure.FileStorage(str(tmp_path / "two")))
    with perdure.Collection({"one": tmp_path / "one", "two": ZlibStorage(overlay)}) as collection:
        guarantees = collection.guarantees()
        assert not guarantees.members["two"].joint
        for name in ("atomic_over_crashes", "one_tid", "one_snapshot"):
            assert guarantees.missing()[name] == ["two"]
        assert "two: perdure.storage.zlib.ZlibStorage, two-phase commit only" in str(guarantees)


def test_one_database_needs_nobody_to_agree_with(tmp_path: Path) -> None:
    layered = ZlibStorage(perdure.FileStorage(str(tmp_path / "one")))
    with perdure.Collection({"one": layered}) as collection:
        guarantees = collection.guarantees()
        assert guarantees.atomic_over_crashes
        assert guarantees.one_snapshot
        assert guarantees.gc


def test_what_can_not_be_written_can_not_be_collected(tmp_path: Path) -> None:
    for name in ("one", "two"):
        perdure.DB(str(tmp_path / name)).close()
    members = {
        name: perdure.FileStorage(str(tmp_path / name), read_only=name == "two")
        for name in ("one", "two")
    }
    with perdure.Collection(members) as collection:
        missing = collection.guarantees().missing()
        assert {name for name in missing if missing[name] == ["two"]} == {
            "writable",
            "undo",
            "gc",
            "repair",
        }
