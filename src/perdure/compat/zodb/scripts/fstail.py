"""Show the last transactions in a data file.

usage: fstail.py [-n count] Data.fs
"""

import getopt
import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from perdure.compat._tool import running
from perdure.errors import CorruptedError

from ..fstools import TxnHeader, prev_txn


def main(path: str, ntxn: int) -> None:
    """Print the last *ntxn* transactions of the data file *path*, newest first."""
    with Path(path).open("rb") as file:
        if file.seek(0, os.SEEK_END) <= 4:
            return
        header: TxnHeader | None = _last(file, path)
        while header is not None and ntxn > 0:
            digest = hashlib.sha1(header.get_raw_data()).hexdigest()  # noqa: S324 - to compare
            header.read_meta()
            print(f"{header.get_timestamp()}: hash={digest}")
            print(
                f"user={header.user!r} description={header.descr!r} length={header.length} "
                f"offset={header.get_offset()} (+{len(header)})\n"
            )
            header = header.prev_txn()
            ntxn -= 1


def _last(file: BinaryIO, path: str) -> TxnHeader | None:
    """Return the last transaction; exit where the file doesn't end with one."""
    end = file.tell()
    with suppress(CorruptedError):
        found = prev_txn(file)
        if found.get_offset() + found.length + 8 == end:
            return found
    sys.exit(f"fstail: {path} doesn't end with a whole transaction: see `perdure check {path}`")


def Main() -> None:
    """Print what the command line asks for."""
    try:
        options, (path,) = getopt.getopt(sys.argv[1:], "n:")
    except (getopt.error, ValueError):
        sys.exit((__doc__ or "").strip())
    main(path, int(dict(options).get("-n", 10)))


if __name__ == "__main__":
    with running("fstail"):
        Main()
