"""The classes whose objects the demonstration stores."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from BTrees.OOBTree import OOBTree
from persistent import Persistent


class Dependency(NamedTuple):
    """One thing that a package needs: what it asked for, and the packages here that satisfy it.

    A plain value: it is stored inside the package's own record, its packages as references.
    """

    asked: str
    """The relation as its packager wrote it: `default-mta | mail-transport-agent`."""
    packages: tuple["Package", ...]
    """The installed packages that satisfy it; empty where none does."""


class Maintainer(Persistent):
    """Who looks after packages. Lives in the database `maintainers`."""

    def __init__(self, name: str, email: str) -> None:
        self.name = name
        self.email = email
        self.packages = OOBTree()
        """Package name → `Package`: references into the other database."""

    def __repr__(self) -> str:
        return f"<Maintainer {self.name} <{self.email}>>"


class Package(Persistent):
    """An installed package. Lives in the database `packages`."""

    depends: tuple[Dependency, ...] = ()

    def __init__(self, name: str, version: str, maintainer: Maintainer) -> None:
        self.name = name
        self.version = version
        self.maintainer = maintainer
        """A reference into the other database."""
        self.summary = ""
        self.section = ""
        self.size_kib = 0
        self.required_by = OOBTree()
        """Package name → the `Package` that depends on this one: references back, hence cycles."""

    def needs(self) -> Iterator["Package"]:
        """Yield the installed packages that this one depends on directly, each once."""
        seen: set[str] = set()
        for dependency in self.depends:
            for package in dependency.packages:
                if package.name not in seen:
                    seen.add(package.name)
                    yield package

    def needs_all(self) -> dict[str, "Package"]:
        """Return every package that this one needs, directly or not, by name."""
        found: dict[str, Package] = {}
        waiting = list(self.needs())
        while waiting:
            package = waiting.pop()
            if package.name not in found:
                found[package.name] = package
                waiting.extend(package.needs())
        return found

    def __repr__(self) -> str:
        return f"<Package {self.name} {self.version}>"


class Counter(Persistent):
    """A number that several transactions may raise at once: their increments add up."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, count: int = 1) -> None:
        """Raise the value by *count*."""
        self.value += count

    def _p_resolveConflict(
        self, old: dict[str, Any], committed: dict[str, Any], new: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the state that holds both the committed increments and the new ones."""
        return {**new, "value": committed["value"] + new["value"] - old["value"]}
