"""`perdure ls` and `perdure show`: objects by their paths, without their classes."""

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
_AT = click.option("--at", type=MOMENT, help="Look at the state at this tid or time.")


def _inspector(storage: Any, at: bytes | None) -> Any:
    return perdure.Inspector(storage, Tid(p64(u64(at) + 1)) if at else None)


def _described(value: Any) -> str:
    class_name = getattr(value, "class_name", None)
    if class_name is not None and hasattr(value, "oid"):
        return f"{class_name} {oid_repr(value.oid)}"
    text = repr(value)
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
        print_json(repr(found)) if as_json else click.echo(repr(found))
        return
    if as_json:
        state = repr(found.state)
        facts = {"oid": found.oid, "class": found.class_name, "tid": found.tid}
        print_json(facts | {"data_bytes": found.data_bytes, "state": state})
        return
    click.echo(f"{found.class_name} {oid_repr(found.oid)}")
    click.echo(f"written {time_of(found.tid)} (tid {found.tid.hex()}), {size(found.data_bytes)}")
    for name, value in found.items or [("state", found.state)]:
        click.echo(f"  {name}: {value!r}")
