"""What is wrong with the content of a `perdure.toml`."""

from collections.abc import Iterator, Mapping
from typing import Any

from perdure.db.routes import Routes
from perdure.sources import schema
from perdure.sources.schema import Problem

__all__ = ["Problem", "problems"]


def problems(value: Any) -> Iterator[Problem]:
    """Yield what in *value*, a file's content, doesn't fit the schema, or names no member."""
    found = list(schema.problems(value))
    yield from found or _problems_of_members(value)


def _problems_of_members(value: Mapping[str, Any]) -> Iterator[Problem]:
    members = value.get("databases") or {"unnamed": None}
    primary = value.get("primary")
    if not (primary is None or primary in members):
        there_are = ", ".join(sorted(members))
        yield Problem(("primary",), f"{primary!r} is no member: there are {there_are}")
    for name, member in value.get("routes", {}).items():
        wrong = _wrong_with_route(name, member, members)
        if wrong is not None:
            yield Problem(("routes", name), wrong)


def _wrong_with_route(name: str, member: str, members: Mapping[str, Any]) -> str | None:
    try:
        Routes({name: member}, members)
    except ValueError as error:
        return str(error)
    return None
