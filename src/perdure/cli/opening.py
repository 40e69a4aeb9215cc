"""What the commands share: opening files, errors, times, progress and JSON."""

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import click
from ZConfig import ConfigurationError

import perdure
from perdure._messages import encoding_of
from perdure.cli.collections import Source, chosen, is_described, opened, writable
from perdure.errors import POSError, POSKeyError
from perdure.timestamp import TimeStamp, tid_at_datetime

__all__ = [
    "FILE",
    "JSON",
    "MEMBER",
    "MOMENT",
    "class_of",
    "errors_reported",
    "print_json",
    "progressing",
    "reading",
    "require_description",
    "required_file",
    "time_of",
    "writing",
    "writing_all",
]

_T = TypeVar("_T")
_SHOWN_AFTER_SECONDS = 1.0

FILE = click.Path(path_type=Path)
MEMBER = click.option(
    "--member", help="Which of the databases that are described. [default: the first one]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Report what goes wrong with a database as a command does: one line, exit code 1."""
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads on, which is nothing wrong with a database
    except (POSError, OSError, ValueError, LookupError, ImportError, ConfigurationError) as error:
        message = str(error.args[0]) if type(error) is KeyError else str(error)
        if isinstance(error, POSKeyError) and not any(
            isinstance(detail, (str, dict)) for detail in error.args
        ):
            message = f"{message.split(' ')[0]}: there is no such object"
        if isinstance(error, OSError) and not isinstance(error, POSError) and error.filename:
            message = f"{error.filename}: {_reason(error)}"
        raise click.ClickException(message or repr(error)) from error


def _reason(error: OSError) -> str:
    """Return what is wrong, without the action and the path that some errors tell, too."""
    system, told = os.strerror(error.errno or 0), error.strerror or ""
    reason = system if system in told else told or system
    if error.errno == errno.EIO:
        return f"{reason}: what can be read is salvaged by: perdure recover"
    return reason


@contextmanager
def reading(source: Source, member: str | None = None) -> Iterator[Any]:
    """Give a storage, opened read-only; a writer may have a data file open, too.

    *member* says which one where *source* describes several databases.
    """
    if is_described(source):
        require_description(source)
        with errors_reported(), _opening(opened([source])) as storages:
            yield chosen(storages, member)
        return
    file = required_file(source, member)
    with errors_reported():
        with progressing("opening"):
            storage = perdure.FileStorage(str(file), read_only=True)
        with closing(storage):
            yield storage


@contextmanager
def writing(source: Source, member: str | None = None) -> Iterator[Any]:
    """Give a database that exists, opened for writing, as `reading` does a storage."""
    if is_described(source):
        with writing_all([source]) as collection:
            yield chosen(collection, member)
        return
    file = required_file(source, member)
    with errors_reported():
        with progressing("opening"):
            db = perdure.DB(str(file))
        with closing(db):
            yield db


@contextmanager
def writing_all(sources: Sequence[Source]) -> Iterator[perdure.Collection]:
    """Give the databases that *sources* describe, or are, opened for writing."""
    if len(sources) == 1 and is_described(sources[0]):
        require_description(sources[0])
    with errors_reported(), _opening(writable(sources)) as collection:
        yield collection


@contextmanager
def _opening(opened: AbstractContextManager[_T]) -> Iterator[_T]:
    """Enter what opens databases, which shows that it is at work."""
    with ExitStack() as stack:
        with progressing("opening"):
            found = stack.enter_context(opened)
        yield found


def require_description(source: Source) -> None:
    """Raise an error where the file that describes databases isn't there."""
    if isinstance(source, Path) and not source.is_file():
        raise click.ClickException(f"{source}: no such file")


def required_file(source: Source, member: str | None) -> Path:
    """Return the path of a data file that is there and has no members, or raise an error."""
    file = Path(source)
    if not file.is_file():
        problem = "a folder, not a data file" if file.is_dir() else "no such file"
        raise click.ClickException(f"{file}: {problem}")
    if member is not None:
        raise click.UsageError(f"{file} is one data file: it has no members")
    return file


@contextmanager
def progressing(title: str) -> Iterator[Callable[..., None]]:
    """Give a function that shows progress on a terminal, once it has taken a second.

    It is called with how much of how much is done, perhaps after the name of the phase. Where
    nothing is told, what is shown says that the command is at work.
    """
    if not sys.stderr.isatty():
        yield lambda *_arguments: None
        return
    bar = _Bar(title)
    try:
        yield bar.tell
    finally:
        bar.stop()


class _Bar:
    """A bar that appears after a second, told of progress or not."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._begun = time.monotonic()
        self._guard = threading.Lock()
        self._display: Any = None
        self._stopped = False
        self._timer = threading.Timer(_SHOWN_AFTER_SECONDS, self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._guard:
            if self._display is None and not self._stopped:
                self._display = _display(self._title)
                self._display.start()

    def tell(self, *arguments: Any) -> None:
        """Show how much of how much is done; the name of the phase may come first."""
        *phase, done, total = arguments
        if self._display is None:
            if time.monotonic() - self._begun < _SHOWN_AFTER_SECONDS:
                return
            self._show()
        description = f"{self._title} ({phase[0]})" if phase else self._title
        self._display.update(
            self._display.task_ids[0], description=description, completed=done, total=total or None
        )

    def stop(self) -> None:
        """Take it away."""
        self._timer.cancel()
        with self._guard:
            self._stopped = True
        if self._display is not None:
            self._display.stop()


def _display(title: str) -> Any:
    # Late: what is quick shows nothing.
    from rich.progress import Progress

    from perdure.cli._console import Console

    made = Progress(console=Console(file=sys.stderr), transient=True)
    made.add_task(title, total=None)
    return made


class _Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A tid (16 hexadecimal digits) or a time (ISO 8601, UTC where it names no zone)."""

    name = "moment"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, bytes):
            return value
        text = str(value).removeprefix("0x")
        try:
            digits = (16,) if text == value else (15, 16)
            if len(text) in digits and "-" not in text:
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
    """Print a value as JSON; ids in it become hexadecimal digits, named tuples objects."""
    click.echo(json.dumps(_named(value), indent=2, default=_plain))


def _named(value: Any) -> Any:
    """Return the value with dicts in place of named tuples."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(each) for each in value]
    return value


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def class_of(data: bytes | None) -> str:
    """Return the name of a record's class; nothing is imported."""
    from perdure.utils import get_pickle_metadata

    if data is None:
        return "(deleted)"
    name = ".".join(get_pickle_metadata(data)).strip(".")
    return name or f"({encoding_of(data) or 'unreadable'})"


def time_of(tid: bytes) -> str:
    """Return a tid's time: ISO 8601, UTC; `never` for zeros."""
    if not any(tid):
        return "never"
    seconds = TimeStamp(tid).timeTime()
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
