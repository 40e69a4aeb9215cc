"""The tour of the stored objects, made in a fresh process: `python -m perdure.demo.tour DIR`.

It prints one JSON document: the list of its steps. Every step checks what it tells; a step that
finds something else raises `TourError`.
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import Any

import transaction

from perdure.demo.model import Package
from perdure.demo.opening import Demo, open_demo
from perdure.demo.results import Step
from perdure.errors import ConflictError


class TourError(Exception):
    """The database does not hold what the tour expects."""


def main() -> None:
    """Tour the databases in the directory that the command line names."""
    began = perf_counter()
    with open_demo(sys.argv[1]) as demo:
        steps = [_opened(demo, began), *map(asdict, _tour(demo))]
    json.dump(steps, sys.stdout)


def _opened(demo: Demo, began: float) -> dict[str, Any]:
    took_ms = (perf_counter() - began) * 1000
    counts = [database.objectCount() for database in demo]
    line = f"{counts[0]:,} objects in one database, {counts[1]:,} in the other; none loaded yet"
    return asdict(Step("Open both databases in a fresh process", [line], took_ms))


def _tour(demo: Demo) -> Iterable[Step]:
    loaded = demo.packages.lastTransaction()
    yield _timed("Follow references both ways, between the databases", follow, demo)
    reader = _writer(demo)
    name = _most_required(reader.root).name
    reader.close()
    for title, step in (
        ("Change an object, and abort", change_and_abort),
        ("Two writers at once: the conflict that resolves itself", resolve_conflict),
        ("Two writers at once: the conflict that is an error", meet_conflict),
        ("Look at an earlier state", partial(look_back, then=loaded)),
    ):
        yield _timed(title, partial(step, name=name), demo)


def _timed(title: str, step: Callable[[Demo], list[str]], demo: Demo) -> Step:
    began = perf_counter()
    lines = step(demo)
    return Step(title, lines, (perf_counter() - began) * 1000)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TourError(otherwise)


def _most_required(root: Any) -> Package:
    package: Package = max(root.packages.values(), key=lambda each: len(each.required_by))
    return package


def follow(demo: Demo) -> list[str]:
    """Go from packages to what they need and to their maintainers, and back from each."""
    connection = demo.packages.open(transaction_manager=transaction.TransactionManager())
    root, followed = connection.root, 0
    for package in root.packages.values():
        for needed in package.needs():
            _check(needed.required_by[package.name] is package, f"no way back to {package}")
            followed += 2
        _check(package.maintainer.packages[package.name] is package, f"no way back to {package}")
        followed += 2
    central = _most_required(root)
    home = central.maintainer
    largest_kib, largest = root.sizes.maxKey()
    needs = {name: len(package.needs_all()) for name, package in root.packages.items()}
    neediest = max(needs, key=lambda name: needs[name])
    loaded = sum(database.cacheSize() for database in demo)
    lines = [
        f"{followed:,} references followed, {loaded:,} objects loaded; each one leads back",
        f"most needed: {central.name} {central.version}, by {len(central.required_by)} packages",
        f"its maintainer, in the other database: {home.name}, of {len(home.packages)} packages",
        f"needs most: {neediest}, {needs[neediest]} packages, directly or not",
        f"largest: {largest}, {largest_kib / 1024:,.0f} MiB",
    ]
    connection.close()
    return lines


def change_and_abort(demo: Demo, name: str) -> list[str]:
    """Change a package and take it back, change it again and keep it."""
    manager = transaction.TransactionManager()
    connection = demo.packages.open(transaction_manager=manager)
    package = connection.root.packages[name]
    summary = package.summary

    package.summary = "not what it was"
    manager.abort()
    _check(package.summary == summary, f"{package} kept an aborted change")

    manager.begin().note(f"Praise {package.name}")
    package.summary = f"{summary} (the most needed of all)"
    home = package.maintainer
    home.name = f"{home.name} (thank you)"
    manager.commit()
    lines = [
        f"aborted: {package.name} is still “{summary}”",
        f"committed: now “{package.summary}”",
        f"in the same transaction, in the other database: “{home.name}”",
    ]
    connection.close()
    return lines


def resolve_conflict(demo: Demo, name: str) -> list[str]:
    """Let two connections raise one counter and add to one index: both changes are kept."""
    first, second = (_writer(demo) for _ in range(2))
    before = first.root.lookups.value
    for connection, key, count in ((first, "first", 1), (second, "second", 10)):
        connection.root.lookups.add(count)
        connection.root.notes[f"{key} writer"] = f"looked at {name} {count} times"
    first.transaction_manager.commit()
    second.transaction_manager.commit()

    reader = _writer(demo)
    value, notes = reader.root.lookups.value, sorted(reader.root.notes)
    _check(value == before + 11, f"the counter is {value}, not {before + 11}")
    _check({"first writer", "second writer"} <= set(notes), f"a note is missing among {notes}")
    for connection in (first, second, reader):
        connection.close()
    return [
        f"a counter at {before}, raised by 1 and by 10 at once: {value}",
        f"an index with two new keys, one from each: {', '.join(notes)}",
    ]


def meet_conflict(demo: Demo, name: str) -> list[str]:
    """Let two connections change one plain attribute: the second is told, and tries again."""
    first, second = (_writer(demo) for _ in range(2))
    first.root.packages[name].section = "favourites"
    second.root.packages[name].section = "essentials"
    first.transaction_manager.commit()
    try:
        second.transaction_manager.commit()
    except ConflictError as error:
        told = str(error)
        second.transaction_manager.abort()
    else:
        raise TourError(f"both writers changed the section of {name}, and neither was told")
    seen = second.root.packages[name].section
    second.root.packages[name].section = f"{seen}, essentials"
    second.transaction_manager.commit()
    now = second.root.packages[name].section
    _check(now == "favourites, essentials", f"the section of {name} is {now!r}")
    for connection in (first, second):
        connection.close()
    return [f"the second writer is told: {told}", f"it looks again and tries again: “{now}”"]


def look_back(demo: Demo, name: str, then: bytes) -> list[str]:
    """Open both databases as they were when everything had been stored."""
    past = demo.packages.open(at=then, transaction_manager=transaction.TransactionManager())
    now = _writer(demo)
    package, changed = past.root.packages[name], now.root.packages[name]
    _check(package.summary != changed.summary, "the earlier state shows the later summary")
    _check(package.maintainer.name != changed.maintainer.name, "the maintainer shows later state")
    _check(past.root.lookups.value == 0, "the earlier state shows the later counter")
    lines = [
        f"{when}: “{seen.summary}”, kept by “{seen.maintainer.name}”, counter {root.lookups.value}"
        for when, seen, root in (("then", package, past.root), ("now", changed, now.root))
    ]
    for connection in (past, now):
        connection.close()
    return lines


def _writer(demo: Demo) -> Any:
    """Return a new connection with a transaction of its own."""
    return demo.packages.open(transaction_manager=transaction.TransactionManager())


if __name__ == "__main__":
    main()
