"""Salvage what is whole from a damaged data file.

usage: fsrecover.py [-f] [-v level] [-p] [-P seconds] input output

    -f          overwrite the output file if it exists
    -v level    0: what was lost (the default), 1 and 2: every transaction, too
    -p          accepted; what is whole in a damaged transaction, by its checksums, is
                salvaged in any case
    -P seconds  pack the output to that many seconds in the past
"""

import getopt
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from perdure.compat._tool import running
from perdure.errors import NotADatabase, PackError
from perdure.maintenance import recover as _recover
from perdure.serialize import referencesf
from perdure.storage import FileStorage
from perdure.utils import tid_repr

from .FileStorage import TransactionRecord

__all__ = ["die", "main", "recover"]


def die(mess: str = "", show_docstring: bool = False) -> NoReturn:
    """Say *mess*, and how to use the program if asked to, and exit."""
    if mess:
        print(mess, file=sys.stderr)
    if show_docstring:
        print(__doc__, file=sys.stderr)
    sys.exit(1)


def recover(
    inp: str,
    outp: str,
    verbose: int = 0,
    partial: bool = False,
    force: bool = False,
    pack: float | None = None,
) -> None:
    """Copy what is whole in the data file *inp* into the new file *outp*.

    With *force* an existing output is overwritten; *pack* is how many seconds in the
    past the output is packed to. *partial* is accepted and makes no difference.
    """
    del partial
    print("Recovering", inp, "into", outp)
    if Path(outp).exists() and not force:
        die(f"{outp} exists")
    # An output that is overwritten stays as it was until the new one is whole.
    written = Path(f"{outp}.new" if Path(outp).exists() else outp)
    if written != Path(outp):
        if any(path.exists() and path.samefile(inp) for path in (Path(outp), written)):
            die(f"{inp} would be overwritten: recover it into a file of another name")
        written.unlink(missing_ok=True)
    try:
        found = _recover(inp, written)
    except NotADatabase:
        die("input is not a file storage")
    with closing(FileStorage(written, pack_keep_old=False)) as storage:
        for transaction in storage.iterator() if verbose else ():
            print(tid_repr(transaction.tid), transaction.user, transaction.description)
        for lost in (*found.lost, *found.lost_records, *found.doubtful):
            print(lost)
        removed = Path(inp).stat().st_size - written.stat().st_size
        print(f"\n{removed} bytes removed during recovery")
        problem = None if pack is None else _packed(storage, time.time() - pack)
    _put_in_place(written, Path(outp))
    if problem is not None:
        die(f"what was recovered is not packed: {problem}")


def _packed(storage: FileStorage, until: float) -> PackError | None:
    try:
        storage.pack(until, referencesf)
    except PackError as error:
        return error
    return None


def _put_in_place(written: Path, output: Path) -> None:
    if written == output:
        return
    for suffix in ("", ".psums", ".pindex"):
        if Path(f"{written}{suffix}").exists():
            Path(f"{written}{suffix}").replace(f"{output}{suffix}")
    # What was saved of the file that was there before.
    Path(f"{output}.index").unlink(missing_ok=True)
    Path(f"{written}.lock").unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    """Recover what the command line names."""
    arguments = sys.argv[1:] if argv is None else argv[1:]
    try:
        options, (inp, outp) = getopt.getopt(arguments, "fv:pP:")
        given = dict(options)
        pack = float(given["-P"]) if "-P" in given else None
        verbose = int(given.get("-v", 0))
    except (getopt.error, ValueError) as error:
        die(str(error), show_docstring=True)
    recover(inp, outp, verbose, "-p" in given, "-f" in given, pack)


if __name__ == "__main__":
    with running("fsrecover"):
        main()
