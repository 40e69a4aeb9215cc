"""Tell how much space the objects under the root take, with everything that they lead to.

usage: netspace.py [-P | -v] Data.fs

-v also names the objects with their own sizes; -P, of old for profiling, is accepted.
"""

import getopt
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from perdure.compat._tool import reading, running
from perdure.ids import ROOT_OID, Oid, oid_repr
from perdure.serialize import referencesf
from perdure.storage.file import FileStorage
from perdure.utils import get_pickle_metadata

__all__ = ["main"]


def _reached(storage: Any, start: Oid) -> dict[Oid, int]:
    sizes: dict[Oid, int] = {}
    waiting = [start]
    while waiting:
        oid = waiting.pop()
        if oid in sizes:
            continue
        try:
            data = storage.load(oid)[0]
        except KeyError:
            continue
        sizes[oid] = len(data)
        waiting += _references(storage, oid, data)
    return sizes


def _references(storage: Any, oid: Oid, data: bytes) -> list[Oid]:
    with reading(storage.getName(), oid):
        return referencesf(data)


def main(argv: Sequence[str] | None = None) -> None:
    """Print class, own bytes and bytes of all that is reached, for each object of the root."""
    try:
        options, (path,) = getopt.getopt(sys.argv[1:] if argv is None else list(argv), "Pv")
    except (getopt.error, ValueError) as error:
        told = f"netspace: {error}\n" if isinstance(error, getopt.error) else ""
        sys.exit(told + (__doc__ or "").strip())
    verbose = ("-v", "") in options
    with closing(FileStorage(path, read_only=True)) as storage:
        if not len(storage):
            sys.exit(f"netspace: {path} is empty: it has no root")
        for oid in dict.fromkeys(_references(storage, ROOT_OID, storage.load(ROOT_OID)[0])):
            sizes = _reached(storage, oid)
            data = storage.load(oid)[0]
            name = ".".join(get_pickle_metadata(data))
            print(f"{oid_repr(oid)} {name} {len(data)} {sum(sizes.values())}")
            for inner in sorted(sizes) if verbose else ():
                print(f"    {oid_repr(inner)} {sizes[inner]}")


Main = main

if __name__ == "__main__":
    with running("netspace"):
        main()
