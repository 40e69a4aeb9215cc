"""`perdure demo DIR`: store real objects, then look at them in a fresh process."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from perdure.cli._console import Console
from perdure.cli.output import seconds, size
from perdure.demo import DemoError
from perdure.demo.distributions import read_distributions
from perdure.demo.dpkg import STATUS_FILE, read_status
from perdure.demo.results import Step, Stored
from perdure.demo.sources import Source, SourceError
from perdure.demo.storing import prepare, store
from perdure.errors import POSError


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--source",
    type=click.Choice(["auto", "dpkg", "python"]),
    default="auto",
    help="Debian's package database, or the installed Python distributions. [default: the former "
    "where it is, else the latter]",
)
@click.option(
    "--status",
    type=click.Path(path_type=Path, dir_okay=False),
    default=STATUS_FILE,
    help="Another file of the form of dpkg's status file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def demo(directory: Path, source: str, status: Path, *, as_json: bool) -> None:
    """Store the packages of this machine as objects in DIRECTORY, and look at them.

    DIRECTORY is new, empty or an earlier demonstration's, which is replaced. What is in it
    afterwards can be used from a Python prompt; the report says how.

    Example: perdure demo demo
    """
    try:
        found = _read(source, status)
        prepare(directory)
        stored = store(found, directory)
    except (DemoError, SourceError, POSError, OSError) as error:
        raise click.ClickException(str(error)) from error
    steps = _tour(directory)
    if as_json:
        report = {"stored": asdict(stored), "steps": [asdict(step) for step in steps]}
        click.echo(json.dumps(report, indent=2))
    else:
        _print(Console(highlight=False), directory, stored, steps)


def _read(source: str, status: Path) -> Source:
    dpkg = source == "dpkg" or (source == "auto" and status.exists())
    found = read_status(status) if dpkg else read_distributions()
    if not found.facts:
        raise SourceError(f"{found.title}: no package is installed")
    return found


def _tour(directory: Path) -> list[Step]:
    """Run the tour in a process of its own, so that nothing is in memory yet."""
    done = subprocess.run(  # noqa: S603 - this very program, without a shell
        [sys.executable, "-m", "perdure.demo.tour", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise click.ClickException("the tour of the stored objects failed; see above")
    return [Step(**step) for step in json.loads(done.stdout)]


def _print(console: Console, directory: Path, stored: Stored, steps: list[Step]) -> None:
    console.print(f"[bold]perdure demo[/]: {stored.source}\n")
    console.print(
        f"Stored {stored.packages:,} packages, {stored.dependencies:,} dependencies and "
        f"{stored.maintainers:,} maintainers, in one transaction over two databases:"
    )
    console.print(
        f"objects made in {seconds(stored.build_ms)}, safe on disk in {seconds(stored.commit_ms)}.",
        _members(stored),
        "",
        sep="\n",
    )
    for number, step in enumerate(steps, 1):
        console.print(f"[bold]{number}. {step.title}[/]  ({seconds(step.took_ms)})")
        for line in step.lines:
            console.print(Padding(Text(line), (0, 0, 0, 3), expand=False))
    console.print("\n[bold]What to try next[/], in Python:")
    click.echo(_NEXT.format(directory=directory))


def _members(stored: Stored) -> Table:
    table = Table("database", "objects", "size", "file", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:3]:
        column.justify = "right"
    for member in stored.members:
        table.add_row(member.name, f"{member.objects:,}", size(member.size_bytes), member.file)
    return table


_NEXT = """\
   from perdure.demo import open_demo

   with open_demo("{directory}") as demo:
       root = demo.packages.open().root
       package = max(root.packages.values(), key=lambda each: len(each.required_by))
       print(package, package.maintainer, len(package.required_by))
"""
