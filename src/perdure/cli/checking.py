"""`perdure check`, `perdure recover` and `perdure copy`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

import perdure
from perdure.cli.opening import FILE, JSON, errors_reported, print_json, progressing
from perdure.ids import oid_repr

__all__ = ["check", "copy", "recover", "referrers"]

FOUND_SOMETHING = 3
"""The exit code of a check that found something wrong."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@JSON
def check(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Read everything in data files, and say what is wrong. They are only read.

    Several files are checked as a collection, by the names NAME=FILE or the files' own.

    Exit code 0: nothing is wrong; 3: something is; 1: a file can't be read.

    Example: perdure check packages=packages.fs maintainers=maintainers.fs
    """
    with errors_reported(), progressing("checking") as progress:
        if len(files) == 1 and "=" not in files[0].name:
            reports = [perdure.check(files[0], progress)]
        else:
            members = dict(map(_named, files))
            reports = list(perdure.check_collection(members, progress).values())
    if as_json:
        print_json([asdict(report) | {"ok": report.ok} for report in reports])
    else:
        for report in reports:
            click.echo(str(report))
            for finding in report.findings:
                click.echo(f"  {finding.kind}: {finding}")
    if not all(report.ok for report in reports):
        sys.exit(FOUND_SOMETHING)


def _named(file: Path) -> tuple[str, Path]:
    name, equals, path = str(file).partition("=")
    return (name, Path(path)) if equals else (file.stem, file)


@click.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@JSON
def recover(source: Path, target: Path, *, as_json: bool) -> None:
    """Copy every whole transaction of the damaged file SOURCE into the new file TARGET.

    Exit code 0: everything was whole; 3: something was lost; 1: nothing could be done.

    Example: perdure recover Data.fs Data.new.fs
    """
    with errors_reported(), progressing("recovering") as progress:
        done = perdure.recover(source, target, progress)
    if as_json:
        print_json(asdict(done) | {"ok": done.ok})
    else:
        click.echo(f"{target}: {done.transactions:,} transactions, {done.records:,} records")
        for lost in done.lost:
            click.echo(f"  lost: {lost}")
        for record in done.lost_records:
            click.echo(f"  left out: {record}")
        for finding in done.remaining.findings if done.remaining else ():
            click.echo(f"  remaining: {finding.kind}: {finding}")
    if not done.ok:
        sys.exit(FOUND_SOMETHING)


@click.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@JSON
def copy(source: Path, target: Path, *, as_json: bool) -> None:
    """Copy the transactions of the data file SOURCE that TARGET hasn't yet.

    Interrupted, it can be called again: it goes on where it was.

    Example: perdure copy Data.fs copies/Data.fs
    """
    with errors_reported(), progressing("copying") as progress:
        done = perdure.copy(source, target, progress)
    if as_json:
        print_json(asdict(done))
    else:
        click.echo(f"{target}: {done.transactions:,} transactions copied")


@click.command()
@click.argument("file", type=FILE)
@click.argument("oid")
@JSON
def referrers(file: Path, oid: str, *, as_json: bool) -> None:
    """Tell which objects refer to the object OID (such as 0x2a).

    The index of references is kept beside the file, in FILE.refs.

    Example: perdure referrers Data.fs 0x2a
    """
    with errors_reported(), progressing("reading") as progress:
        number = int(oid.removeprefix("#"), 16)
        found = perdure.refers_to(file, perdure.Oid(number.to_bytes(8, "big")), progress)
    if as_json:
        print_json(found)
    else:
        for each in found:
            click.echo(oid_repr(each))
