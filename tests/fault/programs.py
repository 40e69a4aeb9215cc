"""Programs that are killed, or whose system calls fail: `python -m tests.fault.programs NAME DIR FD`.

What a program begins, and what was acknowledged, it tells on the pipe FD, one line each. It uses
`writev` for that, which the databases don't: so no call of the journal is counted.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import transaction
from tests.fault import ledger

import perdure
from perdure.errors import CommitOutcomeUnknown, POSError
from perdure.ids import ROOT_OID
from perdure.storage.encrypting import write_new_key

ONE = ("a",)
TWO = ("a", "b")
LAYERED = ("sealed", "zipped")
STEPS = range(1, 4)
THREADS = 3
AGAIN = 100
"""What the second attempt of a commit adds to the value."""


class Journal:
    """Tells the parent what happens."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, *words: object) -> None:
        os.writev(self._descriptor, [" ".join(map(str, words)).encode() + b"\n"])

    @contextlib.contextmanager
    def step(self, value: int) -> Any:
        """Tell that *value* is about to be written, and how that ended; errors end here."""
        self.tell("begin", value)
        try:
            yield
        except (OSError, POSError) as error:
            self.tell("failed", value, type(error).__name__)
            transaction.abort()
            raise
        self.tell("done", value)


Program = Callable[[Path, Journal], None]


def _commits(names: tuple[str, ...], *, blobs: bool = False) -> Program:
    def program(directory: Path, journal: Journal) -> None:
        for value in STEPS:
            with ledger.opened(directory, names, blobs=blobs) as connection:
                for part in (value * 10, value * 10 + 1):
                    _commit_twice(connection, names, part, journal, blobs)

    return program


def _commit_twice(
    connection: Any, names: tuple[str, ...], value: int, journal: Journal, blobs: bool
) -> None:
    """Commit; if that fails, once more, which is refused where the outcome is unknown."""
    try:
        with journal.step(value):
            ledger.write(connection, names, value, blobs=blobs)
            transaction.commit()
    except (OSError, POSError) as error:
        with journal.step(value + AGAIN):
            ledger.write(connection, names, value + AGAIN, blobs=blobs)
            transaction.commit()
        if isinstance(error, CommitOutcomeUnknown):
            journal.tell("accepted")


def _pack(names: tuple[str, ...]) -> Program:
    def program(directory: Path, journal: Journal) -> None:
        for value in STEPS:
            with ledger.opened(directory, names) as connection:
                with journal.step(value):
                    ledger.write(connection, names, value)
                    transaction.commit()
                for name in names:
                    connection.get_connection(name).db().pack()

    return program


def _gc(names: tuple[str, ...]) -> Program:
    def program(directory: Path, journal: Journal) -> None:
        with ledger.opened(directory, names) as connection:
            for value in STEPS:
                with journal.step(value):
                    ledger.write(connection, names, value)
                    transaction.commit()
                perdure.Collection(connection.db().databases).gc()

    return program


def _routed(directory: Path, journal: Journal) -> None:
    routes = {perdure.PersistentList: "b"}
    with ledger.opened(directory, TWO, routes=routes) as connection:
        for value in STEPS:
            with journal.step(value):
                ledger.write(connection, TWO, value)
                transaction.commit()
        moved = connection.root()[0]["more"]
        journal.tell("in", moved._p_jar.db().database_name)


def _move(names: tuple[str, ...]) -> Program:
    """Move objects to the other member, and some back again; the value stays."""

    def program(directory: Path, journal: Journal) -> None:
        with ledger.opened(directory, names) as connection:
            collection = perdure.Collection(connection.db().databases)
            for value in STEPS:
                with journal.step(value):
                    ledger.write(connection, names, value)
                    transaction.commit()
                for target in names[::-1][: 1 + value % 2]:
                    journal.tell("move", target)
                    collection.move(connection.root()[value]["more"], target)
                    transaction.begin()
                    journal.tell("moved", target)

    return program


def _repair(names: tuple[str, ...]) -> Program:
    """Put placeholders in the places of what was lost, between two commits."""

    def program(directory: Path, journal: Journal) -> None:
        with ledger.opened(directory, names) as connection:
            for value in STEPS[:2]:
                with journal.step(value):
                    ledger.write(connection, names, value)
                    transaction.commit()
                perdure.Collection(connection.db().databases).repair()
                journal.tell("repaired")
                transaction.begin()

    return program


def _undo(directory: Path, journal: Journal) -> None:
    with ledger.opened(directory, ONE) as connection:
        for value in STEPS:
            with journal.step(value):
                ledger.write(connection, ONE, value)
                transaction.commit()
            with journal.step(value - 1 if value == 1 else 0):
                connection.db().undo(connection.db().undoLog(0, 1)[0]["id"])
                transaction.commit()


def _index(directory: Path, journal: Journal) -> None:
    for value in STEPS:
        with ledger.opened(directory, ONE) as connection, journal.step(value):
            ledger.write(connection, ONE, value)
            transaction.commit()
        for index in directory.glob("*.pindex"):
            index.unlink()
        with ledger.opened(directory, ONE):
            pass


def _backup(names: tuple[str, ...], *, blobs: bool = False) -> Program:
    def program(directory: Path, journal: Journal) -> None:
        for value in STEPS:
            with ledger.opened(directory, names, blobs=blobs) as connection, journal.step(value):
                ledger.write(connection, names, value, blobs=blobs)
                transaction.commit()
            journal.tell("backup", value)
            ledger.back_up(directory, names, blobs=blobs, full=value == STEPS[-1])
            journal.tell("backed-up", value)

    return program


def _restore(names: tuple[str, ...], *, blobs: bool = False) -> Program:
    def program(directory: Path, journal: Journal) -> None:
        journal.tell("restore")
        ledger.restore(directory, names, "restored", blobs=blobs)
        journal.tell("restored")

    return program


def _export(directory: Path, journal: Journal) -> None:
    with ledger.opened(directory, ONE) as connection:
        for value in STEPS:
            with journal.step(value):
                ledger.write(connection, ONE, value)
                transaction.commit()
            connection.exportFile(ROOT_OID, directory / "exported").close()
            journal.tell("exported", value)


def _key(directory: Path, journal: Journal) -> None:
    """A key that is lost takes along what was encrypted with it."""
    for value in STEPS:
        path = directory / f"{value}.key"
        try:
            identifier = write_new_key(path)
        except OSError:
            # Nothing is in the way of another attempt.
            identifier = write_new_key(path)
        journal.tell("key", value, identifier)


def _threads(names: tuple[str, ...]) -> Program:
    """Commit in several threads at once, so that one sync covers transactions of others."""

    def commits(connection: Any, thread: int, journal: Journal, start: threading.Barrier) -> None:
        start.wait()
        for value in range(1, 7):
            journal.tell("begin-in", thread, value)
            ledger.write_of(connection, names, thread, value)
            transaction.commit()
            journal.tell("done-in", thread, value)

    def work(database: Any, thread: int, journal: Journal, start: threading.Barrier) -> None:
        connection = database.open()
        try:
            commits(connection, thread, journal, start)
        finally:
            transaction.abort()
            connection.close()

    def program(directory: Path, journal: Journal) -> None:
        with ledger.opened(directory, names) as connection:
            for thread in range(THREADS):
                ledger.write_of(connection, names, thread, 0)
            transaction.commit()
            start = threading.Barrier(THREADS)
            database = connection.db()
            with ThreadPoolExecutor(THREADS) as pool:
                done = [
                    pool.submit(work, database, each, journal, start) for each in range(THREADS)
                ]
            for each in done:
                each.result()

    return program


PROGRAMS: dict[str, tuple[tuple[str, ...], Program]] = {
    "create": (ONE, _commits(ONE)),
    "create-two": (TWO, _commits(TWO)),
    "create-blobs": (ONE, _commits(ONE, blobs=True)),
    "commit": (ONE, _commits(ONE)),
    "joint": (TWO, _commits(TWO)),
    "blobs": (ONE, _commits(ONE, blobs=True)),
    "joint-blobs": (TWO, _commits(TWO, blobs=True)),
    "pack": (ONE, _pack(ONE)),
    "pack-two": (TWO, _pack(TWO)),
    "joint-layers": (LAYERED, _commits(LAYERED)),
    "routed": (TWO, _routed),
    "move": (TWO, _move(TWO)),
    "move-layers": (LAYERED, _move(LAYERED)),
    "gc": (TWO, _gc(TWO)),
    "gc-layers": (LAYERED, _gc(LAYERED)),
    "repair": (TWO, _repair(TWO)),
    "repair-layers": (LAYERED, _repair(LAYERED)),
    "undo": (ONE, _undo),
    "index": (ONE, _index),
    "export": (ONE, _export),
    "key": (ONE, _key),
    "backup": (ONE, _backup(ONE)),
    "backup-blobs": (ONE, _backup(ONE, blobs=True)),
    "backup-two": (TWO, _backup(TWO)),
    "restore": (ONE, _restore(ONE)),
    "restore-blobs": (ONE, _restore(ONE, blobs=True)),
    "restore-two": (TWO, _restore(TWO)),
}
"""Each program with the databases that it uses."""

THREADED: dict[str, tuple[tuple[str, ...], Program]] = {
    "threads": (ONE, _threads(ONE)),
    "threads-two": (TWO, _threads(TWO)),
    "threads-layers": (LAYERED, _threads(LAYERED)),
}
"""The programs that start threads."""


def main() -> int:
    """Run a program again and again until it comes to its end; its errors are told."""
    name, directory, descriptor = sys.argv[1:]
    journal = Journal(int(descriptor))
    journal.tell("start")
    try:
        {**PROGRAMS, **THREADED}[name][1](Path(directory), journal)
    except (OSError, POSError) as error:
        journal.tell("error", type(error).__name__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
