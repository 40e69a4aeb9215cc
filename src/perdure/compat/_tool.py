"""How ZODB's command line tools end."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from perdure._ending import ending_quietly
from perdure.errors import CorruptedDataError, POSError
from perdure.ids import Oid

__all__ = ["reading", "running", "the_file"]


@contextmanager
def reading(path: str, oid: Oid) -> Iterator[None]:
    """Tell what goes wrong as damage to the record of *oid* in the data file *path*."""
    try:
        yield
    except Exception as error:  # garbage makes pickle raise anything
        about = f"{type(error).__name__}: {error}"
        raise CorruptedDataError(oid, path=path, expected="a record", found=about) from error


@contextmanager
def running(name: str) -> Iterator[None]:
    """Run a tool: what is wrong with a file or an argument is one line, and exit code 1."""
    with ending_quietly(name):
        try:
            yield
        except BrokenPipeError:
            raise
        except (POSError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                if error.filename is None:
                    raise  # the output's
                sys.exit(f"{name}: {error.filename}: {os.strerror(error.errno)}")
            sys.exit(f"{name}: {error}")


def the_file(usage: str | None) -> str:
    """Return the one argument of the command line; with any other, print *usage* and exit."""
    arguments = sys.argv[1:]
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.exit((usage or "").strip())
    return arguments[0]
