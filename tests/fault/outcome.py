"""What is to be found when a program was stopped somewhere: `tests.fault.programs`."""

from pathlib import Path
from typing import Any

import transaction
from tests.fault import ledger
from tests.fault.programs import AGAIN, PROGRAMS, THREADED, THREADS

import perdure
from perdure.errors import POSError
from perdure.storage.encrypting import key_id_of

__all__ = ["check", "prepare"]

COMMITTING = (
    "create",
    "create-two",
    "create-blobs",
    "commit",
    "joint",
    "joint-layers",
    "blobs",
    "joint-blobs",
)


DATABASES = {name: program[0] for name, program in {**PROGRAMS, **THREADED}.items()}


def prepare(program: str, tmp_path: Path) -> Path:
    """Make the directory that a program begins with, which is returned."""
    directory = tmp_path / "prepared"
    directory.mkdir()
    if not program.startswith("create"):
        ledger.create(directory, DATABASES[program], blobs=_blobs(program))
    if program.startswith("restore"):
        ledger.back_up(directory, DATABASES[program], blobs=_blobs(program))
        if program != "restore-two":
            (directory / "restored").mkdir()
    if program.startswith("repair"):
        ledger.lose(directory, DATABASES[program])
    return directory


def _blobs(program: str) -> bool:
    return program.endswith("blobs")


def check(program: str, directory: Path, journal: list[list[str]], context: str) -> None:
    """What was acknowledged is there, nothing is there by half, and it can be gone on with."""
    names, blobs = DATABASES[program], _blobs(program)
    try:
        with ledger.opened(directory, names, blobs=blobs) as connection:
            found = ledger.read(connection, names, blobs=blobs)
            allowed = _allowed(journal, None if program.startswith("create") else 0)
            assert found in allowed, f"{found} is none of {allowed}"
            assert ["accepted"] not in journal, "a write was accepted after a failed sync"
            _check_of(program, connection, names, journal)
            ledger.check_whole(connection, names)
            ledger.write(connection, names, 99, blobs=blobs)
            transaction.commit()
            for name in names:
                connection.get_connection(name).db().pack()
            ledger.check_whole(connection, names)
            if blobs:
                ledger.check_blobs(connection, names)
        if program in COMMITTING and "write64:error=ENOSPC" in context and _has_failed(journal):
            assert _went_on(journal), "room was there again, and it didn't go on"
        if program == "export":
            _check_export(directory, journal)
        if program == "key":
            _check_keys(directory, journal)
        if program.startswith("backup"):
            _check_backup(directory, names, journal, blobs=blobs)
        if program.startswith("restore"):
            _check_restored(directory, names, journal, blobs=blobs)
    except (AssertionError, OSError, POSError) as error:
        raise AssertionError(f"{context}: {error}\n{journal}") from error


def _check_of(
    program: str, connection: Any, names: tuple[str, ...], journal: list[list[str]]
) -> None:
    if program.startswith("repair"):
        _check_repaired(connection, names, journal)
    if program in THREADED:
        _check_threads(connection, names, journal)


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


def _check_threads(connection: Any, names: tuple[str, ...], journal: list[list[str]]) -> None:
    """Each thread's last acknowledged value is there, or the one that it had begun to commit."""
    for thread in range(THREADS):
        of_it = [rest for _word, *rest in journal if rest and rest[0] == str(thread)]
        begun = {int(value) for _thread, value in of_it}
        done = {int(rest[1]) for word, *rest in journal if word == "done-in" and rest in of_it}
        allowed = {max(done, default=0), max(begun, default=0)} | ({None} if not of_it else set())
        found = ledger.read_of(connection, names, thread)
        assert found in allowed, f"thread {thread} has {found}, none of {allowed}"


def _check_export(directory: Path, journal: list[list[str]]) -> None:
    done = [int(rest[0]) for word, *rest in journal if word == "exported"]
    begun = [int(rest[0]) for word, *rest in journal if word == "begin"]
    exported = directory / "exported"
    assert exported.exists() or not done
    if exported.exists():
        database = perdure.DB(None)
        with database.transaction() as connection:
            imported = connection.importFile(exported)
            assert imported[0]["value"] in {*done[-1:], begun[-1]}
            connection.root.imported = imported
        database.close()


def _check_keys(directory: Path, journal: list[list[str]]) -> None:
    for word, *rest in journal:
        if word == "key":
            key = bytes.fromhex((directory / f"{rest[0]}.key").read_text())
            assert key_id_of(key) == rest[1]


def _check_backup(
    directory: Path, names: tuple[str, ...], journal: list[list[str]], *, blobs: bool
) -> None:
    begun = [int(rest[0]) for word, *rest in journal if word == "backup"]
    done = [int(rest[0]) for word, *rest in journal if word == "backed-up"]
    if done:
        assert not ledger.backup_problems(directory, names)
        made = ledger.restore(directory, names, "before", blobs=blobs)
        with ledger.opened(made, names, blobs=blobs) as connection:
            assert ledger.read(connection, names, blobs=blobs) in {done[-1], begun[-1]}
    ledger.back_up(directory, names, blobs=blobs)
    assert not ledger.backup_problems(directory, names)
    made = ledger.restore(directory, names, "after", blobs=blobs)
    with ledger.opened(made, names, blobs=blobs) as connection:
        assert ledger.read(connection, names, blobs=blobs) == 99


def _check_restored(
    directory: Path, names: tuple[str, ...], journal: list[list[str]], *, blobs: bool
) -> None:
    made = directory / "restored"
    target = made if len(names) > 1 else made / f"{names[0]}.fs"
    if ["restored"] in journal:
        assert target.exists()
    if not target.exists():
        ledger.restore(directory, names, "restored", blobs=blobs)
    with ledger.opened(made, names, blobs=blobs) as connection:
        assert ledger.read(connection, names, blobs=blobs) == 0
        ledger.check_whole(connection, names)
