"""Check a data file for references to objects that aren't there.

usage: fsrefs.py [-v] Data.fs

Nothing is printed where all is well. The data file is only read, and no class of the
application is imported.
"""

import getopt
import sys
import traceback
from typing import Any

from perdure.compat._tool import running
from perdure.errors import POSKeyError
from perdure.ids import Oid, Tid
from perdure.serialize import get_refs
from perdure.storage import FileStorage
from perdure.timestamp import TimeStamp
from perdure.utils import get_pickle_metadata, oid_repr, u64

Missing = tuple[Oid, Any, str]


def report(oid: Oid, data: bytes, serial: Tid, missing: list[Missing]) -> None:
    """Print that the object *oid* refers to what can't be loaded."""
    print(f"oid {hex(u64(oid))} {'.'.join(get_pickle_metadata(data))}")
    print(f"last updated: {TimeStamp(serial)}, tid={hex(u64(serial))}")
    print(f"refers to invalid object{'s' if len(missing) > 1 else ''}:")
    for target, described, reason in missing:
        name = f"{described[0]}.{described[1]}" if isinstance(described, tuple) else str(described)
        print(f"\toid {oid_repr(target)} {reason}: {name!r}")
    print()


def _unusable(storage: FileStorage, oids: list[Oid], verbose: int) -> dict[Oid, str]:
    """What is wrong with those objects that can't be loaded."""
    wrong: dict[Oid, str] = {}
    for oid in oids:
        try:
            get_refs(storage.load(oid)[0])
        except POSKeyError:  # noqa: PERF203 - each object may fail in its own way
            wrong[oid] = "object creation was undone"
        except Exception:  # noqa: BLE001 - garbage makes pickle raise anything
            if verbose:
                traceback.print_exc()
            wrong[oid] = "failed to load"
    return wrong


def main(path: str | None = None) -> None:
    """Check the data file *path*, by default the one that the command line names."""
    verbose = 0
    if path is None:
        try:
            options, (path,) = getopt.getopt(sys.argv[1:], "v")
        except (getopt.error, ValueError):
            sys.exit((__doc__ or "").strip())
        verbose = len(options)
    storage = FileStorage(path, read_only=True)
    index = storage._index
    oids = [oid for oid, _position in sorted(index.items(), key=lambda item: item[1])]
    wrong = _unusable(storage, oids, verbose)
    known = set(oids)
    for oid in oids:
        if oid in wrong:
            continue
        data, serial = storage.load(oid)
        missing: list[Missing] = []
        for target, described in get_refs(data):
            reason = wrong.get(target, "" if target in known else "missing")
            if reason:
                missing.append((target, "<unknown>" if described is None else described, reason))
        if missing:
            report(oid, data, serial, missing)
    storage.close()


if __name__ == "__main__":
    with running("fsrefs"):
        main()
