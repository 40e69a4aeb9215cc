"""What the commands share: opening files, errors, times, progress and JSON."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

import perdure
from perdure.errors import POSError
from perdure.timestamp import TimeStamp, tid_at_datetime

__all__ = [
    "FILE",
    "JSON",
    "MOMENT",
    "class_of",
    "errors_reported",
    "print_json",
    "progressing",
    "reading",
    "time_of",
    "writing",
]

_SHOWN_AFTER_SECONDS = 1.0

FILE = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Report what goes wrong with a database as a command does: one line, exit code 1."""
    try:
        yield
    except (POSError, OSError, ValueError, LookupError) as error:
        message = str(error.args[0]) if type(error) is KeyError else str(error)
        raise click.ClickException(message or repr(error)) from error


@contextmanager
def reading(file: Path) -> Iterator[Any]:
    """Open a data file read-only; a writer may have it open, too."""
    _require_file(file)
    with errors_reported(), closing(perdure.FileStorage(str(file), read_only=True)) as storage:
        yield storage


@contextmanager
def writing(file: Path, **options: Any) -> Iterator[Any]:
    """Open a database that exists for writing."""
    _require_file(file)
    with errors_reported(), closing(perdure.DB(str(file), **options)) as db:
        yield db


def _require_file(file: Path) -> None:
    if not file.is_file():
        problem = "a folder, not a data file" if file.is_dir() else "no such file"
        raise click.ClickException(f"{file}: {problem}")


@contextmanager
def progressing(title: str) -> Iterator[Callable[..., None]]:
    """Give a function that shows progress on a terminal, once it has taken a second.

    It is called with how much of how much is done, perhaps after the name of the phase.
    """
    console = Console(file=sys.stderr)
    display = Progress(console=console, transient=True)
    task = display.add_task(title, total=None)
    begun = time.monotonic()

    def show(*arguments: Any) -> None:
        *phase, done, total = arguments
        if not console.is_terminal or time.monotonic() - begun < _SHOWN_AFTER_SECONDS:
            return
        display.start()
        description = f"{title} ({phase[0]})" if phase else title
        display.update(task, description=description, completed=done, total=total or None)

    try:
        yield show
    finally:
        if display.live.is_started:
            display.stop()


class _Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A tid (16 hexadecimal digits) or a time (ISO 8601, UTC where it names no zone)."""

    name = "moment"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, bytes):
            return value
        text = str(value).removeprefix("0x")
        try:
            if len(text) in (15, 16) and "-" not in text:
                return bytes.fromhex(text.rjust(16, "0"))
            # The zone "Z" is read by later Pythons only.
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            self.fail(f"{value!r} is neither a tid nor a time such as 2026-05-01T12:00", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return tid_at_datetime(moment)


MOMENT = _Moment()


def print_json(value: Any) -> None:
    """Print a value as JSON; ids in it become hexadecimal digits."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def class_of(data: bytes | None) -> str:
    """Return the name of a record's class; nothing is imported."""
    from perdure.utils import get_pickle_metadata

    if data is None:
        return "(deleted)"
    return ".".join(get_pickle_metadata(data)).strip(".") or "(unreadable)"


def time_of(tid: bytes) -> str:
    """Return a tid's time: ISO 8601, UTC; `never` for zeros."""
    if not any(tid):
        return "never"
    seconds = TimeStamp(tid).timeTime()
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
