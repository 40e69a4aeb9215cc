"""`perdure check`, `perdure recover` and `perdure copy`."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.cli.collections import (
    SOURCE,
    Source,
    data_files,
    is_collection,
    is_described,
    members,
    oid_in,
    opened,
    single_data_file,
)
from perdure.cli.opening import (
    FILE,
    JSON,
    errors_reported,
    print_json,
    progressing,
)
from perdure.config import has_layers, storages_of
from perdure.ids import oid_repr

__all__ = ["check", "copy", "recover", "referrers"]

FOUND_SOMETHING = 3
"""The exit code of a check that found something wrong."""
_DAMAGE = ("damaged", "checksum")
"""The kinds of findings for which there is `recover`."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=SOURCE)
@click.option("--blob-dir", type=FILE, help="The folder of its blobs, to check them, too.")
@JSON
def check(files: tuple[Source, ...], *, blob_dir: Path | None, as_json: bool) -> None:
    """Read everything in data files, and say what is wrong. They are only read.

    Several files are checked as a collection, by the names NAME=FILE or the files' own; so are the
    members that a perdure.toml, a ZConfig file or a URI describes. References to what isn't there are told with all who
    refer to it, and the way from a root object.

    Exit code 0: nothing is wrong; 3: something is; 1: a file can't be read.

    Example: perdure check packages=packages.fs maintainers=maintainers.fs
    """
    if blob_dir is not None and is_collection(files):
        raise click.UsageError("the blobs of a member are given as NAME=FILE,BLOB_DIR")
    with errors_reported(), progressing("checking") as progress:
        if not is_collection(files):
            reports = [perdure.check(perdure.DataFile(Path(files[0]), blob_dir), progress)]
        else:
            with members(files) as given:
                reports = list(perdure.check_collection(given, progress).values())
    if as_json:
        print_json([asdict(report) | {"ok": report.ok} for report in reports])
    else:
        for report in reports:
            _tell(report)
    if not all(report.ok for report in reports):
        sys.exit(FOUND_SOMETHING)


def _tell(report: Any) -> None:
    click.echo(str(report))
    encoded: Counter[str] = Counter()
    for finding in report.findings:
        if finding.encoding is not None:
            encoded[finding.problem] += 1
        else:
            click.echo(f"  {finding.kind}: {finding}")
    for problem, count in encoded.items():
        click.echo(f"  unreadable, {count:,} times: {problem}")
    if any(finding.kind in _DAMAGE for finding in report.findings):
        click.echo(f"  what is whole is salvaged by: perdure recover {report.name} NEW_FILE")


@click.command()
@click.argument("source", type=SOURCE)
@click.argument("target", type=FILE)
@JSON
def recover(source: Source, target: Path, *, as_json: bool) -> None:
    """Copy what is whole in the damaged file SOURCE into the new file TARGET.

    Where SOURCE has checksums beside it, in SOURCE.psums, each record is compared with its own. One that isn't what was
    written is left out, and told with its object and the revision that takes its place; the others of its transaction are kept.

    SOURCE is a data file, or what describes one: layers that compress or encrypt need not be known,
    since the records are copied as they are; but then what they refer to is left to `perdure check`.
    Blob files stay where they are. Where its device fails, what can be read of it is copied beside TARGET first.

    Exit code 0: everything was whole; 3: something was lost; 1: nothing could be done.

    Example: perdure recover Data.fs Data.new.fs
    """
    with errors_reported(), progressing("recovering") as progress:
        done = perdure.recover(single_data_file(source).path, target, progress)
        if is_described(source) and has_layers(source):
            # What is in the records only the layers know.
            done = replace(done, remaining=None)
    if as_json:
        print_json(asdict(done) | {"ok": done.ok})
    else:
        click.echo(f"{target}: {done.transactions:,} transactions, {done.records:,} records")
        for part in done.unread:
            click.echo(f"  unread: {part}")
        for lost in done.lost:
            click.echo(f"  lost: {lost}")
        for record in done.lost_records:
            click.echo(f"  left out: {record}")
        for record in done.doubtful:
            click.echo(f"  doubtful: {record}")
        for finding in done.remaining.findings if done.remaining else ():
            click.echo(f"  remaining: {finding.kind}: {finding}")
    if not done.ok:
        sys.exit(FOUND_SOMETHING)


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=SOURCE)
@click.argument("target", type=SOURCE)
@JSON
def copy(sources: tuple[Source, ...], target: Source, *, as_json: bool) -> None:
    """Copy the transactions of SOURCE that TARGET hasn't yet.

    Interrupted, it can be called again: it goes on where it was. SOURCE may be a collection (a
    perdure.toml, or NAME=FILE for each member) and TARGET a folder, in which the member NAME gets
    NAME.fs; all members are copied up to one moment, as their files have them.

    Where TARGET is a perdure.toml, a ZConfig file or a URI, its databases get the transactions of
    those of the same names (or the only one that of the only one), with the layers of both: this
    compresses, encrypts, or moves to another storage.

    Exit code 3: all was copied, but files of blobs are missing or cut.

    Example: perdure copy Data.fs copies/Data.fs

    Example: perdure copy Data.fs encrypted.toml
    """
    if is_described(target):
        _copy_databases(sources, target, as_json=as_json)
        return
    if is_collection(sources):
        _copy_collection(sources, Path(target), as_json=as_json)
        return
    with errors_reported(), progressing("copying") as progress:
        done = perdure.copy(Path(sources[0]), Path(target), progress)
    if as_json:
        print_json(asdict(done))
    else:
        _tell_copied(str(target), done)
    _exit_for_blobs([done])


def _copy_databases(sources: Sequence[Source], target: Source, *, as_json: bool) -> None:
    done: dict[str, Any] = {}
    with (
        errors_reported(),
        opened(sources) as found,
        storages_of(target, read_only=False) as storages,
        progressing("copying") as progress,
    ):
        for name, storage in _by_names(found, storages, target).items():
            done[name] = perdure.copy(storage, storages[name], progress)
    if as_json:
        print_json({name: asdict(each) for name, each in done.items()})
    for name, each in () if as_json else done.items():
        _tell_copied(name, each)
    _exit_for_blobs(done.values())


def _tell_copied(name: str, done: Any) -> None:
    click.echo(f"{name}: {done.transactions:,} transactions copied")
    for problem in done.damaged_blobs:
        click.echo(f"  blob: {problem}")


def _exit_for_blobs(done: Iterable[Any]) -> None:
    if any(each.damaged_blobs for each in done):
        sys.exit(FOUND_SOMETHING)


def _by_names(found: dict[str, Any], storages: dict[str, Any], target: Source) -> dict[str, Any]:
    """Return what to copy into each of the databases."""
    if len(found) == len(storages) == 1:
        return dict(zip(storages, found.values(), strict=True))
    if set(found) != set(storages):
        given, wanted = ", ".join(sorted(found)), ", ".join(sorted(storages))
        raise click.UsageError(f"{target} describes {wanted}; the sources are {given}")
    return found


def _copy_collection(sources: Sequence[Source], target: Path, *, as_json: bool) -> None:
    with errors_reported(), progressing("copying") as progress:
        done = perdure.copy_collection(data_files(sources), target, progress)
    if as_json:
        print_json({"tid": done.tid, "members": {k: asdict(v) for k, v in done.members.items()}})
    else:
        for name, member in done.members.items():
            _tell_copied(name, member)
        click.echo(f"{target}: {len(done.members)} members up to {done.tid.hex()}")
    _exit_for_blobs(done.members.values())


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=SOURCE)
@click.argument("oid")
@JSON
def referrers(files: tuple[Source, ...], oid: str, *, as_json: bool) -> None:
    """Tell which objects refer to the object OID (such as 0x2a).

    The index of references is kept beside the file, in FILE.refs. In a collection (a perdure.toml,
    or NAME=FILE for each member), the object is MEMBER:OID, and those of all members are told.

    Example: perdure referrers Data.fs 0x2a

    Example: perdure referrers orders=orders.fs customers=customers.fs customers:0x2a
    """
    member, colon, text = oid.rpartition(":")
    wanted = oid_in(text)
    with errors_reported(), progressing("reading") as progress:
        if bool(colon) != is_collection(files):
            raise click.UsageError("in a collection, and only there, the object is MEMBER:OID")
        if not colon:
            found: list[Any] = list(perdure.refers_to(Path(files[0]), wanted, progress))
        else:
            with opened(files) as given:
                if member not in given:
                    raise click.UsageError(f"no member {member!r} among {', '.join(given)}")
                found = perdure.References(given, progress).referrers(member, wanted)
    if as_json:
        print_json([each._asdict() if colon else each for each in found])
    elif not found:
        click.echo(f"nothing refers to {oid}")
    else:
        for each in found:
            click.echo(f"{each.member}:{oid_repr(each.oid)}" if colon else oid_repr(each))
