"""Show how much space the objects of each class take in a data file.

usage: space.py [-v] Data.fs
"""

import getopt
import sys

from perdure.compat._tool import running
from perdure.storage import FileStorage
from perdure.utils import get_pickle_metadata, u64


def run(path: str, v: int = 0) -> None:
    """Print count and bytes of the current records, by class; with *v* each object, too."""
    storage = FileStorage(path, read_only=True)
    totals: dict[str, tuple[int, int]] = {}
    for oid in storage._index:
        data, _serial = storage.load(oid)
        name = ".".join(get_pickle_metadata(data))
        size, count = totals.get(name, (0, 0))
        totals[name] = size + len(data), count + 1
        if v:
            print(f"{u64(oid):8} {len(data):5} {name}")
    storage.close()
    print("Totals per object class:")
    for name, (size, count) in sorted(totals.items(), key=lambda item: item[1], reverse=True):
        print(f"{count:8} {size:8} {name}")


def main() -> None:
    """Print what the command line asks for."""
    try:
        options, (path,) = getopt.getopt(sys.argv[1:], "v")
    except (getopt.error, ValueError):
        print("usage: space.py [-v] Data.fs")
        sys.exit(2)
    run(path, len(options))


if __name__ == "__main__":
    with running("space"):
        main()
