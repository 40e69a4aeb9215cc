"""`perdure shell`: a Python prompt with a database open."""

import code
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import click
import transaction

import perdure
from perdure._ending import nobody_reads
from perdure.cli.collections import SOURCE, Source, chosen, is_described, opened, writable
from perdure.cli.opening import (
    MEMBER,
    errors_reported,
    progressing,
    require_description,
    required_file,
)

__all__ = ["shell"]

_BANNER = """perdure {mode}: {file}
conn, root, db, commit(), abort()"""


@click.command()
@click.argument("file", type=SOURCE)
@click.option("--write", is_flag=True, help="Open it for writing.")
@click.option("-c", "--command", help="Run this program instead of asking for input.")
@MEMBER
def shell(file: Source, command: str | None, *, write: bool, member: str | None) -> None:
    """Open FILE and give a Python prompt (IPython's where it is installed) with `conn` and `root`.

    FILE is a data file, a perdure.toml, a ZConfig file or a URI.

    Example: perdure shell --write Data.fs
    """
    with ExitStack() as stack:
        # What the program or the prompt does wrong is its own to tell.
        with errors_reported(), progressing("opening"):
            db = _opened(stack, file, member, write=write)
        conn = db.open()
        stack.callback(conn.close)
        stack.callback(transaction.abort)
        names: dict[str, Any] = {
            "abort": transaction.abort,
            "commit": transaction.commit,
            "conn": conn,
            "db": db,
            "perdure": perdure,
            "root": conn.root,
            "transaction": transaction,
        }
        if command is not None:
            _run(command, names)
        else:
            mode = "(writing)" if write else "(read-only)"
            _prompt(names, _BANNER.format(mode=mode, file=file))


def _run(program: str, names: dict[str, Any]) -> None:
    """Run what the user asks for; what it raises is told without the frames of this command."""
    try:
        exec(compile(program, "<command>", "exec"), names)  # noqa: S102
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            raise
        place = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(type(error), error, place)
        sys.exit(1)


def _opened(stack: ExitStack, file: Source, member: str | None, *, write: bool) -> perdure.DB:
    """Return the database, which *stack* closes."""
    if not is_described(file):
        storage = perdure.FileStorage(str(required_file(file, member)), read_only=not write)
        stack.callback(storage.close)
        found = perdure.DB(storage)
        stack.callback(found.close)
        return found
    require_description(file)
    if write:
        collection = stack.enter_context(writable([file]))
    else:
        collection = stack.enter_context(perdure.Collection(stack.enter_context(opened([file]))))
    chosen_one: perdure.DB = chosen(collection, member)
    return chosen_one


def _prompt(names: dict[str, Any], banner: str) -> None:
    embed = _ipython()
    if embed is not None:
        embed(user_ns=names, banner1=banner)
        return
    with suppress(ImportError):
        # Only where it is there does the prompt remember lines.
        import readline  # noqa: F401
    code.interact(banner, local=names, exitmsg="")


def _ipython() -> Callable[..., Any] | None:
    try:
        from IPython import embed  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    found: Callable[..., Any] = embed
    return found
