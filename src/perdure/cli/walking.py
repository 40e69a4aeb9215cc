"""`perdure ls` and `perdure show`: objects by their paths, without their classes."""

import reprlib
import sys
from itertools import islice
from typing import Any

import click

import perdure
from perdure.cli.collections import SOURCE, Source
from perdure.cli.opening import JSON, MEMBER, MOMENT, print_json, progressing, reading, time_of
from perdure.cli.output import size
from perdure.ids import Tid, oid_repr, p64, u64

__all__ = ["ls", "show"]

_ITEMS_SHOWN = 100
_LEVELS_MAX = 50
_PIECES_MAX = 100_000
_PIECES_OF_LINE = 1_000
_AT = click.option("--at", type=MOMENT, help="Look at the state at this tid or time.")


def _inspector(storage: Any, at: bytes | None) -> Any:
    return perdure.Inspector(storage, Tid(p64(u64(at) + 1)) if at else None)


class _Bounded(reprlib.Repr):
    """Writes values as `repr` does, up to a number of pieces: a small record can hold endless ones."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self._left = pieces
        self.maxlevel = _LEVELS_MAX
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = sys.maxsize
        self.maxstring = self.maxlong = self.maxother = sys.maxsize

    def repr1(self, x: Any, level: int) -> str:
        """Write a value, or dots once there were enough."""
        self._left -= 1
        return "..." if self._left < 0 else super().repr1(x, level)

    def repr_dict(self, x: Any, level: int) -> str:
        """Write a dict in its own order."""
        if level <= 0:
            return "{...}"
        return (
            "{" + ", ".join(f"{self._next(k, level)}: {self._next(x[k], level)}" for k in x) + "}"
        )

    def repr_Made(self, x: Any, level: int) -> str:
        """Write what stands for an object of a class that isn't loaded."""
        if level <= 0:
            return f"{x.class_name}(...)"
        state = [] if x.state is None else [x.state]
        inner = (self._next(each, level) for each in (*x.arguments, *x.items, *state))
        return f"{x.class_name}({', '.join(inner)})"

    def _next(self, value: Any, level: int) -> str:
        return self.repr1(value, level - 1)


def _written(value: Any, pieces: int = _PIECES_MAX) -> str:
    return _Bounded(pieces).repr(value)


def _described(value: Any) -> str:
    class_name = getattr(value, "class_name", None)
    if class_name is not None and hasattr(value, "oid"):
        return f"{class_name} {oid_repr(value.oid)}"
    text = _written(value, _PIECES_OF_LINE)
    return text if len(text) <= 100 else text[:97] + "..."


def _resolved(inspector: Any, value: Any) -> Any:
    try:
        return inspector.resolved(value)
    except (KeyError, ValueError):
        return value


@click.command()
@click.argument("file", type=SOURCE)
@click.argument("path", default="/")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10**9), help="[default: 100; all with --json]"
)
@_AT
@MEMBER
@JSON
def ls(
    file: Source,
    path: str,
    limit: int | None,
    at: bytes | None,
    *,
    member: str | None,
    as_json: bool,
) -> None:
    """List what is in the object at PATH: its attributes, or a collection's items, as of a plain list or dict.

    PATH has names from the root on, or begins with an oid (`#0x2a`). No class is imported.

    Example: perdure ls demo/packages.fs /packages

    Example: perdure ls --member orders perdure.toml /open
    """
    with reading(file, member) as storage, progressing("reading"):
        inspector = _inspector(storage, at)
        found = inspector.at(path)
        shown = limit or (None if as_json else _ITEMS_SHOWN)
        items = list(islice(inspector.items(found), shown and shown + 1))
        if not items and not (hasattr(found, "oid") or isinstance(found, (dict, list, tuple))):
            raise click.ClickException(f"{path} is a plain value: {_described(found)}")
        rows = [(name, _described(_resolved(inspector, value))) for name, value in items[:shown]]
    if as_json:
        print_json([{"name": name, "value": value} for name, value in rows])
        return
    for name, value in rows:
        click.echo(f"{name}  {value}")
    if len(items) > len(rows):
        click.echo(f"... and more: --limit shows more than {shown}")


@click.command()
@click.argument("file", type=SOURCE)
@click.argument("path", default="/")
@_AT
@MEMBER
@JSON
def show(file: Source, path: str, at: bytes | None, *, member: str | None, as_json: bool) -> None:
    """Show the object at PATH: its class, its record and its state.

    Example: perdure show demo/packages.fs '#0x1'
    """
    with reading(file, member) as storage, progressing("reading"):
        found = _inspector(storage, at).at(path)
    if not hasattr(found, "oid"):
        print_json(_written(found)) if as_json else click.echo(_written(found))
        return
    if as_json:
        state = _written(found.state)
        facts = {"oid": found.oid, "class": found.class_name, "tid": found.tid}
        print_json(facts | {"data_bytes": found.data_bytes, "state": state})
        return
    click.echo(f"{found.class_name} {oid_repr(found.oid)}")
    click.echo(f"written {time_of(found.tid)} (tid {found.tid.hex()}), {size(found.data_bytes)}")
    for name, value in found.items or [("state", found.state)]:
        click.echo(f"  {name}: {_written(value)}")
