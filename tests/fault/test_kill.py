"""Real programs, killed at each system call that changes a file, or let down by it.

`make kill` tries every call; a usual run a few of each program.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.fault import injector, ledger
from tests.fault.injector import Run
from tests.fault.programs import AGAIN, PROGRAMS

import perdure
from perdure.errors import POSError

pytestmark = pytest.mark.skipif(injector.MISSING is not None, reason=str(injector.MISSING))

ALL = os.environ.get("PERDURE_KILL") == "all"
FEW = 2
COMMITTING = ("create", "commit", "joint", "joint-layers", "blobs", "joint-blobs")
FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_ends_or_fails_at_any_call_loses_nothing_acknowledged(
    program: str, fault: str, tmp_path: Path
) -> None:
    prepared = _prepare(program, tmp_path)
    for call, number in _chosen(injector.calls_of(program, _copy(prepared, tmp_path / "whole"))):
        inject = f"{call}:{fault}:when={number}"
        directory = _copy(prepared, tmp_path / f"{call}{number}")
        run = injector.run(program, directory, inject)
        assert run.injected, f"{inject} wasn't reached in {program}"
        _check(program, directory, run, inject)
        shutil.rmtree(directory)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("program", ["commit", "joint", "blobs"] if ALL else ["joint"])
@pytest.mark.parametrize("suffix", [".fs", ".fs.psums"])
def test_a_program_whose_threads_sync_its_files_loses_nothing_acknowledged(
    program: str, fault: str, suffix: str, tmp_path: Path
) -> None:
    prepared = _prepare(program, tmp_path)
    for member in PROGRAMS[program][0]:
        whole = _copy(prepared, tmp_path / f"{member}-whole")
        file = f"{member}{suffix}"
        for call, number in _chosen(
            injector.calls_of(program, whole, threads=True, path=whole / file)
        ):
            inject = f"{call}:{fault}:when={number}"
            directory = _copy(prepared, tmp_path / f"{member}{call}{number}")
            run = injector.run(program, directory, inject, threads=True, path=directory / file)
            _check(program, directory, run, f"{inject} on {file}")
            shutil.rmtree(directory)


def _chosen(calls: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """All calls, or a few of them."""
    assert len(calls) > FEW
    return calls if ALL else calls[:: len(calls) // FEW]


def _prepare(program: str, tmp_path: Path) -> Path:
    directory = tmp_path / "prepared"
    directory.mkdir()
    if program != "create":
        ledger.create(directory, PROGRAMS[program][0], blobs=_blobs(program))
    if program == "restore":
        perdure.backup(directory / "a.fs", directory / "backup")
    if program.startswith("repair"):
        ledger.lose(directory, PROGRAMS[program][0])
    return directory


def _copy(prepared: Path, directory: Path) -> Path:
    shutil.copytree(prepared, directory)
    return directory


def _blobs(program: str) -> bool:
    return program.endswith("blobs")


def _check(program: str, directory: Path, run: Run, context: str) -> None:
    """What was acknowledged is there, nothing is there by half, and it can be gone on with."""
    names, blobs = PROGRAMS[program][0], _blobs(program)
    try:
        with ledger.opened(directory, names, blobs=blobs) as connection:
            found = ledger.read(connection, names, blobs=blobs)
            allowed = _allowed(run.journal, None if program == "create" else 0)
            assert found in allowed, f"{found} is none of {allowed}"
            assert ["accepted"] not in run.journal, "a write was accepted after a failed sync"
            if program.startswith("repair"):
                _check_repaired(connection, names, run.journal)
            ledger.check_whole(connection, names)
            ledger.write(connection, names, 99, blobs=blobs)
            transaction.commit()
            for name in names:
                connection.get_connection(name).db().pack()
            ledger.check_whole(connection, names)
            if blobs:
                ledger.check_blobs(connection, names)
        if program in COMMITTING and "write64:error=ENOSPC" in context and _has_failed(run.journal):
            assert _went_on(run.journal), "room was there again, and it didn't go on"
        if program == "backup":
            _check_backup(directory, run.journal)
        if program == "restore":
            _check_restored(directory, run.journal)
    except (AssertionError, OSError, POSError) as error:
        raise AssertionError(f"{context}: {error}\n{run.journal}") from error


def _allowed(journal: list[list[str]], at_first: int | None) -> list[int | None]:
    """Return what may be found: the last acknowledged value, and those whose outcome is open."""
    allowed = [at_first]
    for word, *rest in journal:
        if word == "begin":
            allowed.append(int(rest[0]))
        elif word == "done":
            allowed = [int(rest[0])]
        elif word == "failed" and rest[1] != "CommitOutcomeUnknown":
            # An ordinary error: the transaction is not there.
            allowed.pop()
    return allowed


def _has_failed(journal: list[list[str]]) -> bool:
    """Did a commit fail for want of room, with its outcome known?"""
    failed = [rest[1] for word, *rest in journal if word == "failed"]
    return bool(failed) and "CommitOutcomeUnknown" not in failed


def _went_on(journal: list[list[str]]) -> bool:
    return any(word == "done" and int(rest[0]) > AGAIN for word, *rest in journal)


def _check_repaired(connection: Any, names: tuple[str, ...], journal: list[list[str]]) -> None:
    """All lost objects have placeholders, or none has: then they can be given them now."""
    placed = perdure.Collection(connection.db().databases).repair().placed
    assert len(placed) in ({0} if ["repaired"] in journal else {0, len(names)})
    transaction.begin()
    for name in names:
        assert isinstance(connection.get_connection(name).root()["lost"], perdure.LostObject)


def _check_backup(directory: Path, journal: list[list[str]]) -> None:
    begun = [int(rest[0]) for word, *rest in journal if word == "backup"]
    done = [int(rest[0]) for word, *rest in journal if word == "backed-up"]
    folder = directory / "backup"
    if done:
        assert perdure.verify_backup(folder) == []
        perdure.restore(folder, directory / "b.fs")
        with ledger.opened(directory, ("b",)) as connection:
            assert ledger.read(connection, ("b",)) in {done[-1], begun[-1]}
    perdure.backup(directory / "a.fs", folder)
    assert perdure.verify_backup(folder) == []
    perdure.restore(folder, directory / "c.fs")
    with ledger.opened(directory, ("c",)) as connection:
        assert ledger.read(connection, ("c",)) == 99


def _check_restored(directory: Path, journal: list[list[str]]) -> None:
    target = directory / "restored.fs"
    if ["restored"] in journal:
        assert target.exists()
    if not target.exists():
        perdure.restore(directory / "backup", target)
    with ledger.opened(directory, ("restored",)) as connection:
        assert ledger.read(connection, ("restored",)) == 0
        ledger.check_whole(connection, ("restored",))
