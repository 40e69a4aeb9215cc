"""Every reader saw a snapshot of all members: proved from the recorded history.

Threads transfer money between accounts in two members, undo transfers, move accounts to the other
member, pack and collect garbage, others count it; another process reads the files meanwhile; the process is killed again and again.
`make soak` goes on for longer.
"""

import contextlib
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

import pytest
from tests.campaign import CAMPAIGN, SEED, report
from tests.property import bank
from tests.property.history import Event, violations

import perdure
from perdure.errors import POSKeyError

ROUNDS = 3 * CAMPAIGN
SECONDS = 2.0
_UNTIL_KILLED_S = 600.0
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("layered", ["none", "b"])
def test_no_history_of_threads_members_and_crashes_breaks_snapshot_isolation(
    tmp_path: Path, layered: str
) -> None:
    dice = random.Random(SEED)
    events: list[Event] = []
    counted: Counter[str] = Counter()
    final: dict[str, int] = {}
    bank.opened(tmp_path, layered).close()
    for number in range(ROUNDS):
        kill = number % 2 == 0
        killed_after_s = dice.uniform(0.5, SECONDS) if kill else None
        told = _round(tmp_path, layered, SEED + number, killed_after_s)
        events += [_event(number, line) for line in told if "session" in line]
        events += _seen_by_another_process
        _seen_by_another_process.clear()
        counted.update(_counts(told, kill))
        final = _recovered(tmp_path, layered)
    assert violations(events, final) == []
    assert counted["transfers"] > ROUNDS
    report("isolation", rounds=ROUNDS, layered=layered, **counted)


_seen_by_another_process: list[Event] = []


def _round(
    directory: Path, layered: str, seed: int, killed_after_s: float | None
) -> list[dict[str, Any]]:
    """Run the threads in a process, and read its files meanwhile; return what it told."""
    history = directory / "history"
    with history.open("w") as output:
        command = [sys.executable, "-m", "tests.property.bank", str(directory), layered, str(seed)]
        # Who is to be killed doesn't end before, however slow this process is.
        seconds = SECONDS if killed_after_s is None else _UNTIL_KILLED_S
        process = subprocess.Popen(
            [*command, str(seconds)], stdout=output, stderr=subprocess.PIPE, cwd=_ROOT
        )
        begun: float | None = None
        while not _ended(process):
            if begun is None and history.stat().st_size:
                begun = time.monotonic()
            if begun and killed_after_s and time.monotonic() > begun + killed_after_s:
                process.kill()
            _seen_by_another_process.extend(_seen_from_outside(directory, layered, seed))
        errors = _read(process.stderr)
    assert process.returncode == (-9 if killed_after_s else 0), errors
    with history.open() as lines:
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.02)
    return process.returncode is not None


def _read(stream: IO[bytes] | None) -> str:
    assert stream is not None
    with stream:
        return stream.read().decode()


def _seen_from_outside(directory: Path, layered: str, seed: int) -> list[Event]:
    """Read each member from this process: a snapshot of its own for each."""
    members = {
        name: bank.storage(directory, layered, name, read_only=True) for name in bank.MEMBERS
    }
    reads: dict[str, dict[str, int]] = {name: {} for name in members}
    with perdure.Collection(members) as collection, collection.transaction() as connection:
        for member, number in itertools.product(members, range(bank.ACCOUNTS)):
            account = connection.get_connection(member).root()[number]
            # One member may be seen as it was before an account was moved there, or after it went.
            with contextlib.suppress(POSKeyError):
                account._p_activate()
                name = bank.name_of(account, member, number)
                reads[name.partition(":")[0]][name] = int.from_bytes(account._p_serial, "big")
    return [Event(f"outside {seed} {name}", found) for name, found in reads.items()]


def _event(number: int, line: dict[str, Any]) -> Event:
    if "total" in line:
        assert line["total"] == bank.EACH * bank.ACCOUNTS * len(bank.MEMBERS), line
    return Event(
        f"{number}.{line['session']}{' alone' if line.keys() & {'undo', 'move'} else ''}",
        line["reads"],
        frozenset(line.get("writes", ())),
        line.get("tid"),
        line.get("known", {}),
        line.get("at"),
    )


def _counts(told: list[dict[str, Any]], kill: bool) -> dict[str, int]:
    return {
        "transfers": sum("tid" in line and not line.keys() & {"undo", "move"} for line in told),
        "moves": sum("move" in line for line in told),
        "undos": sum("undo" in line for line in told),
        "counts": sum("total" in line and "at" not in line for line in told),
        "looks at the past": sum("at" in line for line in told),
        "conflicts": sum(line.get("failed") == "ConflictError" for line in told),
        "packs": sum("packed" in line for line in told),
        "kills": int(kill),
    }


def _recovered(directory: Path, layered: str) -> dict[str, int]:
    """Open what a round left, check it, and return the serials of all accounts."""
    with bank.opened(directory, layered) as collection:
        for member in collection.values():
            found = perdure.check(member)
            assert found.ok, str(found)
        with collection.transaction() as connection:
            balances = bank.balances(connection)
    total = sum(balance for _, balance in balances.values())
    assert total == bank.EACH * bank.ACCOUNTS * len(bank.MEMBERS)
    return {name: serial for name, (serial, _) in balances.items()}


# The checker itself.

FIRST = Event("w", {"x:0": 1, "y:0": 1}, frozenset({"x:0", "y:0"}), 5)
APART = [Event("v", {}, frozenset({"x:0"}), 6), Event("u", {}, frozenset({"y:0"}), 7)]


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([FIRST, Event("r", {"x:0": 5, "y:0": 1})], "no snapshot"),
        ([FIRST, Event("r", {"x:0": 1}, known={"x": 5})], "no snapshot"),
        ([FIRST, Event("r", {"x:0": 1}, known={"y": 5})], "no snapshot"),
        ([FIRST, Event("r", {"x:0": 5}), Event("r", {"y:0": 1})], "no snapshot"),
        ([FIRST, Event("r", {"x:0": 1}, at=5)], "no snapshot"),
        ([FIRST, Event("r", {"x:0": 5}, at=4)], "no snapshot"),
        ([FIRST, Event("v", {"x:0": 1}, frozenset({"x:0"}), 6)], "lost update"),
        ([FIRST, Event("v", {"x:0": 5}, frozenset({"x:1"}), 5)], "time went backwards"),
        ([FIRST, Event("w", {}, frozenset({"x:0"}), 9)], "ends at 7"),
        (
            [*APART, Event("r", {"x:0": 6, "y:0": 5}), Event("q", {"x:0": 5, "y:0": 7})],
            "readers disagree",
        ),
    ],
)
def test_the_checker_finds(events: list[Event], problem: str) -> None:
    found = violations(events, {"x:0": 7, "y:0": 7})
    assert found
    assert problem in " ".join(found)


def test_the_checker_accepts_what_snapshot_isolation_allows() -> None:
    both = {"x:0": 5, "y:0": 5}
    skew = [
        Event("u", both, frozenset({"x:0"}), 7),
        Event("v", both, frozenset({"y:0"}), 8),
    ]
    before = [Event("r", {"x:0": 1, "y:0": 1}), Event("r", both, known={"x": 5})]
    after = [Event("r", {"x:0": 5, "y:0": 8}), Event("q", {"x:0": 7, "y:0": 8})]
    assert violations([*before, FIRST, *skew, *after], {"x:0": 7, "y:0": 8}) == []
