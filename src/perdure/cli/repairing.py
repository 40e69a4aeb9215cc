"""`perdure repair`."""

from typing import Any

import click

from perdure.cli.collections import SOURCE, Source, oid_in, writable
from perdure.cli.opening import JSON, errors_reported, print_json, progressing
from perdure.ids import Oid

__all__ = ["repair"]


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=SOURCE)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--only", multiple=True, metavar="MEMBER:OID", help="Only this lost object.")
@JSON
def repair(
    files: tuple[Source, ...], *, dry_run: bool, only: tuple[str, ...], as_json: bool
) -> None:
    """Put placeholders in the places of lost objects that something refers to.

    FILE is a data file; or a collection, as a perdure.toml, ZConfig file or URI, or as NAME=FILE for each member. Make a
    backup before. All is one transaction, which can be undone.

    Example: perdure repair --dry-run orders=orders.fs customers=customers.fs

    Example: perdure repair --only customers:0x2a perdure.toml
    """
    wanted = [_lost(each) for each in only] or None
    with errors_reported(), progressing("looking"), writable(files) as collection:
        done = collection.repair(wanted, dry_run=dry_run)
    if as_json:
        facts = {"tid": done.tid, "dry_run": done.dry_run, "rewritten": done.rewritten}
        print_json(facts | {"placed": _rows(done.placed), "left": _rows(done.left)})
    else:
        click.echo(str(done))


def _lost(text: str) -> tuple[str, Oid]:
    member, colon, number = text.rpartition(":")
    if not colon:
        raise click.UsageError(f"--only takes MEMBER:OID, such as customers:0x2a, not {text!r}")
    return member, oid_in(number)


def _rows(found: Any) -> list[dict[str, Any]]:
    return [
        {
            "member": each.member,
            "oid": each.oid,
            "class_names": each.class_names,
            "referrers": [referrer._asdict() for referrer in each.referrers],
        }
        for each in found
    ]
