"""`perdure export` and `perdure import`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import click
import transaction

import perdure
from perdure.cli.collections import (
    SOURCE,
    Source,
    chosen,
    is_collection,
    opened,
    writable,
)
from perdure.cli.opening import (
    FILE,
    JSON,
    MEMBER,
    errors_reported,
    print_json,
    progressing,
    reading,
    writing,
)
from perdure.cli.output import size
from perdure.errors import ExportError
from perdure.ids import oid_repr

__all__ = ["export", "import_"]


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=SOURCE)
@click.argument("path")
@click.argument("target", type=FILE)
@click.option("--follow", is_flag=True, help="Take along what other members have of it.")
@MEMBER
@JSON
def export(
    files: tuple[Source, ...],
    path: str,
    target: Path,
    *,
    follow: bool,
    member: str | None,
    as_json: bool,
) -> None:
    """Write the object at PATH (see `perdure ls`), and all it refers to, into the file TARGET.

    FILE may be a collection (a perdure.toml, ZConfig file or URI, or NAME=FILE for each member). References to other
    members are kept by name, or followed with --follow; only perdure reads such a file.

    Example: perdure export Data.fs /packages packages.zexp

    Example: perdure export --follow perdure.toml /orders orders.pexc
    """
    with _read_only(files) as databases:
        database = chosen(databases, member)
        found = perdure.Inspector(database.storage).at(path)
        oid = getattr(found, "oid", None)
        if oid is None:
            raise click.ClickException(f"{path} is a plain value: only objects can be exported")
        connection = database.open(transaction.TransactionManager())
        with progressing("exporting") as progress:
            connection.exportFile(oid, str(target), follow=follow, progress=progress).close()
        connection.close()
    facts = {"oid": oid, "class": found.class_name, "bytes": target.stat().st_size}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{target}: {found.class_name} {oid_repr(oid)}, {size(target.stat().st_size)}")


@contextmanager
def _read_only(files: Sequence[Source]) -> Iterator[dict[str, Any]]:
    if not is_collection(files):
        with reading(files[0]) as storage:
            yield {"": perdure.DB(storage)}
        return
    with errors_reported(), opened(files) as storages, perdure.Collection(storages) as collection:
        yield dict(collection)


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=SOURCE)
@click.argument("source", type=FILE)
@click.argument("name")
@click.option("--rename", "renamed", multiple=True, metavar="OLD=NEW", help="A member's name here.")
@MEMBER
@JSON
def import_(
    files: tuple[Source, ...],
    source: Path,
    name: str,
    *,
    renamed: tuple[str, ...],
    member: str | None,
    as_json: bool,
) -> None:
    """Add what the export file SOURCE holds to the root of FILE, as NAME.

    FILE may be a collection (a perdure.toml, ZConfig file or URI, or NAME=FILE for each member). What came along from
    other members goes to those of the same names, or to the ones that --rename says.

    Example: perdure import Data.fs packages.zexp packages

    Example: perdure import --rename customers=clients perdure.toml orders.pexc orders
    """
    if not source.is_file():
        raise click.ClickException(f"{source}: no such file")
    if not name:
        raise click.UsageError("NAME is empty: say what the object is called in the root")
    names = _names(renamed)
    with _writable(files) as databases:
        database = chosen(databases, member)
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        root = connection.root()
        if name in root:
            raise click.ClickException(
                f"the root of {database.storage.getName()} has {name!r} already"
            )
        try:
            with progressing("importing") as progress, _Watched(source, progress) as file:
                clue = f"import of {source.name}"
                imported = connection.importFile(file, clue=clue, members=names)
                root[name] = imported
                manager.commit()
        except ExportError as error:
            manager.abort()
            raise _in_options(error, source, list(connection.db().databases)) from error
        except BaseException:
            manager.abort()
            raise
        oid = imported._p_oid
        connection.close()
    if as_json:
        print_json({"oid": oid, "name": name})
    else:
        click.echo(f"{database.storage.getName()}: /{name} is {oid_repr(oid)}")


def _in_options(error: ExportError, source: Path, members: list[str]) -> Exception:
    """Return the error with the option that helps, where one does."""
    if error.member is None:
        return error
    among = ", ".join(map(repr, sorted(members)))
    return click.ClickException(
        f"{source} has objects of, or references to, member {error.member!r}, which isn't among "
        f"{among}: say which one is meant, as in --rename {error.member}={min(members)}"
    )


class _Watched(BufferedReader):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, progress: Callable[[int, int], None]) -> None:
        super().__init__(FileIO(path))
        self._bytes_read, self._bytes = 0, path.stat().st_size
        self._progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self._bytes_read += len(found)
        self._progress(self._bytes_read, self._bytes)
        return found


def _names(renamed: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for each in renamed:
        old, equals, new = each.partition("=")
        if not equals:
            raise click.UsageError(f"--rename takes OLD=NEW, not {each!r}")
        names[old] = new
    return names


@contextmanager
def _writable(files: Sequence[Source]) -> Iterator[dict[str, Any]]:
    if not is_collection(files):
        with writing(files[0]) as db:
            yield {"": db}
        return
    with errors_reported(), writable(files) as collection:
        yield dict(collection)
