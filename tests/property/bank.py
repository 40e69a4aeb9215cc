"""A bank in three members, for threads that transfer money and threads that count it.

`python -m tests.property.bank DIRECTORY LAYERED SEED SECONDS`: prints the history, one transaction a
line. Accounts are named by the member that has them, and by that whose root leads to them: now and
then one is moved.
"""

import base64
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transaction
from persistent.mapping import PersistentMapping

import perdure
from perdure.errors import ConflictError, POSError, UndoError
from perdure.storage.zlib import ZlibStorage

MEMBERS = ("a", "b")
LOG = "log"
ACCOUNTS = 6
EACH = 100
WRITERS, READERS = 3, 2


def storage(directory: Path, layered: str, name: str, *, read_only: bool = False) -> Any:
    """Open the storage of a member, under a layer if it is the one that is *layered*."""
    file = perdure.FileStorage(str(directory / f"{name}.fs"), read_only=read_only)
    return ZlibStorage(file) if name == layered else file


def opened(directory: Path, layered: str) -> perdure.Collection:
    """Open the bank; the accounts are made if need be."""
    members = {name: storage(directory, layered, name) for name in (*MEMBERS, LOG)}
    collection = perdure.Collection(members, cache_size=20)
    with collection.transaction() as connection:
        for member in MEMBERS:
            root = connection.get_connection(member).root()
            for number in range(ACCOUNTS if not root else 0):
                root[number] = PersistentMapping(balance=EACH)
        root = connection.get_connection(LOG).root()
        for number in range(WRITERS if not root else 0):
            root[number] = PersistentMapping(count=0)
    return collection


def balances(connection: Any) -> dict[str, tuple[int, int]]:
    """Return the serial and the balance of each account."""
    found = {}
    for member in MEMBERS:
        root = connection.get_connection(member).root()
        for number in range(ACCOUNTS):
            account = root[number]
            balance = account["balance"]
            name = name_of(account, member, number)
            found[name] = int.from_bytes(account._p_serial, "big"), balance
    return found


def name_of(account: Any, member: str, number: int) -> str:
    """Return an account's name: where it is, and where it is listed."""
    return f"{account._p_jar.db().database_name}:{member}{number}"


class Bank:
    """The threads of one process, and what they tell."""

    def __init__(self, directory: Path, layered: str, seed: int, seconds: float) -> None:
        self.collection = opened(directory, layered)
        self.seed = seed
        self.ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self.known = dict.fromkeys(MEMBERS, 0)
        self.packs = 0
        self.packed = 0
        """Packs that began and ended: odd while one is under way."""
        self.recent: list[tuple[int, list[str]]] = []
        self.failures: list[BaseException] = []

    def tell(self, **event: Any) -> None:
        with self._lock:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()

    def acknowledged(self, tid: int, names: list[str], *, can_be_undone: bool) -> None:
        with self._lock:
            members = {name.partition(":")[0] for name in names}
            self.known = {
                member: max(known, tid) if member in members else known
                for member, known in self.known.items()
            }
            if can_be_undone:
                self.recent = [*self.recent[-20:], (tid, names)]

    def run(self) -> None:
        """Run all threads until the time is over; raise the first one's error."""
        jobs = [*[self.write] * WRITERS, *[self.read] * READERS, self.tidy, self.look_back]
        threads = [
            threading.Thread(target=self._guarded, args=(job, number))
            for number, job in enumerate(jobs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.collection.close()
        if self.failures:
            raise self.failures[0]

    def _guarded(self, job: Callable[[int, random.Random], None], number: int) -> None:
        dice = random.Random(self.seed * 100 + number)
        try:
            while time.monotonic() < self.ends and not self.failures:
                job(number, dice)
        except BaseException as error:  # noqa: BLE001 - told by `run`
            self.failures.append(error)

    def write(self, number: int, dice: random.Random) -> None:
        """Transfer money, or undo a transfer, many times with one connection."""
        manager = transaction.TransactionManager()
        connection = self.collection.open(manager)
        for _ in range(dice.randrange(5, 40)):
            try:
                (self.undo if dice.randrange(10) == 0 else self.transfer)(number, connection, dice)
            except (ConflictError, UndoError) as error:
                self.tell(failed=type(error).__name__)
            manager.abort()
        connection.close()

    def transfer(self, number: int, connection: Any, dice: random.Random) -> None:
        known = self.known
        connection.transaction_manager.begin()
        chosen = [(dice.choice(MEMBERS), dice.randrange(ACCOUNTS)) for _ in range(2)]
        accounts = [connection.get_connection(m).root()[n] for m, n in chosen]
        names = [name_of(account, *place) for account, place in zip(accounts, chosen, strict=True)]
        amount = dice.randrange(1, 20)
        reads = {}
        for name, account, change in zip(names, accounts, (-amount, amount), strict=True):
            balance = account["balance"]
            if name not in reads:
                reads[name] = int.from_bytes(account._p_serial, "big")
            account["balance"] = balance + change
        if dice.randrange(5) == 0:
            connection.transaction_manager.savepoint()
        connection.transaction_manager.commit()
        tid = int.from_bytes(accounts[0]._p_serial, "big")
        self.acknowledged(tid, names, can_be_undone=True)
        self.tell(session=number, reads=reads, writes=sorted(reads), tid=tid, known=known)

    def undo(self, number: int, connection: Any, dice: random.Random) -> None:
        if not self.recent:
            return
        undone, names = dice.choice(self.recent)
        manager = connection.transaction_manager
        manager.begin()
        # Its mark in the log tells the id of the transaction that undoes.
        mark = connection.get_connection(LOG).root()[number]
        mark["count"] += 1
        self.collection.undo(base64.b64encode(undone.to_bytes(8, "big")), manager.get())
        manager.commit()
        tid = int.from_bytes(mark._p_serial, "big")
        self.acknowledged(tid, names, can_be_undone=False)
        # Another undo may have brought back the state that is undone: so it read no one serial.
        self.tell(session=number, reads={}, writes=names, tid=tid, undo=1)

    def read(self, number: int, dice: random.Random) -> None:
        """Count all the money, sometimes with an old cache, sometimes with none."""
        connection = self.collection.open(transaction.TransactionManager())
        for _ in range(dice.randrange(1, 20)):
            known = self.known
            connection.transaction_manager.begin()
            found = balances(connection)
            reads = {name: serial for name, (serial, _) in found.items()}
            self.tell(session=number, reads=reads, known=known, total=_total(found))
            if dice.randrange(5) == 0:
                connection.cacheMinimize()
        connection.transaction_manager.abort()
        connection.close()

    def look_back(self, number: int, dice: random.Random) -> None:
        """Count the money that there was, unless that was packed meanwhile."""
        packs = self.packs
        if packs % 2 or not self.recent:
            time.sleep(0.001)
            return
        at, _ = dice.choice(self.recent)
        if at <= self.packed:
            return
        if at > min(self.known.values()):
            # An earlier transaction may be on its way in the other member.
            return
        try:
            with self.collection.at(perdure.Tid(at.to_bytes(8, "big"))) as connection:
                found = balances(connection)
        except POSError:
            assert self.packs != packs
            return
        if self.packs == packs:
            reads = {name: serial for name, (serial, _) in found.items()}
            self.tell(session=number, reads=reads, at=at, total=_total(found))

    def tidy(self, number: int, dice: random.Random) -> None:
        """Move an account, pack a member, or collect garbage, now and then."""
        time.sleep(dice.random() / 2)
        if dice.randrange(2):
            self.move(number, dice)
            return
        self.packs += 1
        with self._lock:
            self.recent = []
        if dice.randrange(3) == 0:
            self.collection.gc()
        else:
            self.collection[dice.choice(MEMBERS)].pack()
        # What was acknowledged while it began may have been packed, too.
        last = (member.lastTransaction() for member in self.collection.values())
        self.packed = max(int.from_bytes(tid, "big") for tid in last)
        self.packs += 1
        self.tell(packed=1)

    def move(self, number: int, dice: random.Random) -> None:
        """Move an account to the other member."""
        member, place = dice.choice(MEMBERS), dice.randrange(ACCOUNTS)
        connection = self.collection.open(transaction.TransactionManager())
        account = connection.get_connection(member).root()[place]
        before = name_of(account, member, place)
        (target,) = {*MEMBERS} - {account._p_jar.db().database_name}
        try:
            moved = self.collection.move(account, target)
        except ConflictError as error:
            self.tell(failed=type(error).__name__)
            return
        finally:
            connection.transaction_manager.abort()
            connection.close()
        (new,) = moved.places.values()
        # Others may have changed it since; only this thread packs.
        first = self.collection[target].history(new.oid, 1 << 30)[-1]
        tid = int.from_bytes(first["tid"], "big")
        names = sorted({before, f"{target}:{member}{place}"})
        self.acknowledged(tid, names, can_be_undone=False)
        self.tell(session=number, reads={}, writes=names, tid=tid, move=1)


def _total(found: dict[str, tuple[int, int]]) -> int:
    return sum(balance for _, balance in found.values())


if __name__ == "__main__":
    Bank(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])).run()
