"""`perdure shell`: a Python prompt with a database open."""

import code
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import transaction

import perdure
from perdure.cli.opening import FILE, errors_reported

__all__ = ["shell"]

_BANNER = """perdure {mode}: {file}
conn, root, db, commit(), abort()"""


@click.command()
@click.argument("file", type=FILE)
@click.option("--write", is_flag=True, help="Open it for writing.")
@click.option("-c", "--command", help="Run this program instead of asking for input.")
def shell(file: Path, command: str | None, *, write: bool) -> None:
    """Open FILE and give a Python prompt (IPython's where it is installed) with `conn` and `root`.

    Example: perdure shell --write Data.fs
    """
    if not file.is_file():
        raise click.ClickException(f"{file}: no such file")
    with errors_reported():
        db = perdure.DB(perdure.FileStorage(str(file), read_only=not write))
    conn = db.open()
    names: dict[str, Any] = {
        "abort": transaction.abort,
        "commit": transaction.commit,
        "conn": conn,
        "db": db,
        "perdure": perdure,
        "root": conn.root,
        "transaction": transaction,
    }
    try:
        if command is not None:
            exec(command, names)  # noqa: S102 - what the user asks for
        else:
            mode = "(writing)" if write else "(read-only)"
            _prompt(names, _BANNER.format(mode=mode, file=file))
    finally:
        transaction.abort()
        conn.close()
        db.close()


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
