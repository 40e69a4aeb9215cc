"""What the demonstration found out: plain values that print as a report and as JSON."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One database of the demonstration, as stored."""

    name: str
    file: str
    objects: int
    size_bytes: int


@dataclass(frozen=True)
class Stored:
    """The first step: what was stored, and how long it took."""

    source: str
    packages: int
    maintainers: int
    dependencies: int
    unsatisfied: int
    """Dependencies that no installed package satisfies."""
    members: list[Member]
    build_ms: float
    """Making the objects in memory."""
    commit_ms: float
    """Writing them all, in one transaction, until they are safe on disk."""


@dataclass(frozen=True)
class Step:
    """One step of the tour: what it shows, what came out, and how long it took."""

    title: str
    lines: list[str]
    took_ms: float
