"""Storing the packages of a machine as objects, in one transaction over two databases."""

from pathlib import Path
from time import perf_counter
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree, OOTreeSet

from perdure.demo.model import Counter, Dependency, Maintainer, Package
from perdure.demo.opening import MARKER, MEMBERS, Demo, DemoError, data_file, open_demo
from perdure.demo.results import Member, Stored
from perdure.demo.sources import Facts, Source

_MARKER_TEXT = (
    "`perdure demo` made the databases in this folder, and replaces them when it runs again.\n"
)


def prepare(directory: Path) -> None:
    """Make *directory* ready for the demonstration's files; what it left there before may stay.

    Raises `DemoError` where there is something else, which stays untouched.
    """
    if directory.exists():
        if not directory.is_dir():
            raise DemoError(f"{directory} is not a folder: give the name of a new one")
        if not (directory / MARKER).exists() and any(directory.iterdir()):
            raise DemoError(
                f"{directory} holds something else, which the demonstration does not touch: "
                "give the name of a new or an empty folder"
            )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")


def store(source: Source, directory: Path) -> Stored:
    """Store *source* in new databases in *directory*, replacing an earlier demonstration's."""
    with open_demo(directory, create=True) as demo:
        manager = transaction.TransactionManager()
        connection = demo.packages.open(transaction_manager=manager)
        began = perf_counter()
        manager.get().note(f"Store {len(source.facts)} packages: {source.title}")
        people, packages = _make_objects(source, connection)
        built = perf_counter()
        manager.commit()
        committed = perf_counter()
        connection.close()
        return Stored(
            source=source.title,
            packages=len(packages),
            maintainers=len(people),
            dependencies=sum(len(facts.needs) for facts in source.facts),
            unsatisfied=sum(not need.names for facts in source.facts for need in facts.needs),
            members=_members(demo, directory),
            build_ms=(built - began) * 1000,
            commit_ms=(committed - built) * 1000,
        )


def _members(demo: Demo, directory: Path) -> list[Member]:
    return [
        Member(
            name=name,
            file=str(data_file(directory, name)),
            objects=database.objectCount(),
            size_bytes=data_file(directory, name).stat().st_size,
        )
        for name, database in zip(MEMBERS, demo, strict=True)
    ]


def _make_objects(
    source: Source, connection: Any
) -> tuple[dict[str, Maintainer], dict[str, Package]]:
    """Make the object graph, indexes included, and put it under the roots of both databases."""
    other = connection.get_connection("maintainers")
    people: dict[str, Maintainer] = {}
    packages: dict[str, Package] = {}
    for facts in source.facts:
        maintainer = people.get(facts.maintainer_email)
        if maintainer is None:
            maintainer = Maintainer(facts.maintainer_name, facts.maintainer_email)
            people[facts.maintainer_email] = maintainer
        packages[facts.name] = maintainer.packages[facts.name] = _package(facts, maintainer)
    for facts in source.facts:
        _link(packages[facts.name], facts, packages)

    # Packages and maintainers reach one another, so reachability can't tell which goes where.
    for maintainer in people.values():
        other.add(maintainer)
    for package in packages.values():
        connection.add(package)

    other.root.maintainers = OOBTree(people)
    root = connection.root
    root.packages = OOBTree(packages)
    root.sections, root.sizes = _indexes(packages)
    root.lookups = Counter()
    root.notes = OOBTree({"source": source.title})
    return people, packages


def _package(facts: Facts, maintainer: Maintainer) -> Package:
    package = Package(facts.name, facts.version, maintainer)
    package.summary = facts.summary
    package.section = facts.section
    package.size_kib = facts.size_kib
    return package


def _link(package: Package, facts: Facts, packages: dict[str, Package]) -> None:
    package.depends = tuple(
        Dependency(need.asked, tuple(packages[name] for name in need.names)) for need in facts.needs
    )
    for needed in package.needs():
        needed.required_by[package.name] = package


def _indexes(packages: dict[str, Package]) -> tuple[OOBTree, OOTreeSet]:
    """Return the index by section (section → names), and the one by size ((KiB, name))."""
    sections = OOBTree()
    for package in packages.values():
        sections.setdefault(package.section, OOTreeSet()).add(package.name)
    return sections, OOTreeSet((package.size_kib, package.name) for package in packages.values())
