"""What a source of packages tells, in one form for all sources."""

from typing import NamedTuple


class SourceError(Exception):
    """A source of packages can't be read; the message names the file and the line."""


class Need(NamedTuple):
    """One dependency of a package: the relation's text, the packages that satisfy it."""

    asked: str
    names: tuple[str, ...]


class Facts(NamedTuple):
    """What is known of one installed package."""

    name: str
    """Unique among the facts of a source."""
    version: str
    summary: str
    section: str
    size_kib: int
    maintainer_name: str
    maintainer_email: str
    needs: tuple[Need, ...]


class Source(NamedTuple):
    """The packages of one machine."""

    title: str
    """Where the facts come from, for a reader."""
    facts: tuple[Facts, ...]
