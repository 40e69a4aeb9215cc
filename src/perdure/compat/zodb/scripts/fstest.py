"""Check the structure of a data file.

usage: fstest.py [-v] Data.fs

The first thing that is wrong is printed; nothing where all is well. With -v each
transaction is printed, with a second one each record, too.
"""

import getopt
import sys
from pathlib import Path

from perdure.compat._tool import running
from perdure.errors import NotADatabase
from perdure.maintenance import check as _check

from ..FileStorage import FileIterator

VERBOSE = 0


class FormatError(ValueError):
    """There is something wrong in the data file."""


def hexify(s: bytes) -> str:
    """Return bytes as digits."""
    return "0x" + s.hex()


def chatter(msg: str, level: int = 1) -> None:
    """Print *msg*, if that much is to be printed."""
    if level <= VERBOSE:
        sys.stdout.write(msg)


def check(path: str) -> None:
    """Raise FormatError where something is wrong in the data file *path*."""
    if not Path(path).stat().st_size:
        raise FormatError("empty file")
    try:
        found = _check(path)
    except NotADatabase as error:
        raise FormatError(f"invalid file header: {error}") from error
    wrong = [str(finding) for finding in found.findings if finding.kind != "missing"]
    if wrong:
        raise FormatError(f"{path}: {wrong[0]}")
    if VERBOSE:
        _show(path)


def _show(path: str) -> None:
    with FileIterator(path) as transactions:
        for number, transaction in enumerate(transactions):
            for place, record in enumerate(transaction):
                chatter(f"{record.pos:10}: object oid {hexify(record.oid)} #{place}\n", level=2)
            start, tid = transaction._tpos, hexify(transaction.tid)
            chatter(f"{start:10}: transaction tid {tid} #{number} \n")


def usage() -> None:
    """Print how to use the program, and exit."""
    sys.exit(__doc__)


def main(args: list[str] | None = None) -> None:
    """Check what the command line names."""
    global VERBOSE  # noqa: PLW0603 - where code written for ZODB looks for it
    try:
        options, (path,) = getopt.getopt(sys.argv[1:] if args is None else args, "v")
    except (getopt.error, ValueError):
        usage()
        return
    VERBOSE += len(options)
    try:
        check(path)
    except FormatError as error:
        sys.exit(str(error))
    chatter("no errors detected\n")


if __name__ == "__main__":
    with running("fstest"):
        main()
