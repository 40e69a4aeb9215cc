"""Show how the records of a data file are spread over classes.

usage: analyze.py Data.fs
"""

from typing import Any

from perdure.compat._tool import running, the_file
from perdure.ids import Oid
from perdure.storage import FileStorage
from perdure.utils import get_pickle_metadata


class Report:
    """What was counted."""

    def __init__(self) -> None:
        self.OIDMAP: dict[Oid, str] = {}
        self.TYPEMAP: dict[str, int] = {}
        self.TYPESIZE: dict[str, int] = {}
        self.FREEMAP: dict[Oid, int] = {}
        self.USEDMAP: dict[Oid, int] = {}
        self.TIDS = self.OIDS = self.DBYTES = 0
        self.COIDS = self.CBYTES = self.FOIDS = self.FBYTES = 0


def shorten(s: str, n: int) -> str:
    """Return *s*, without its first parts if it is longer than *n*."""
    if len(s) <= n:
        return s
    while len(s) + 3 > n:
        _, dot, rest = s.partition(".")
        if not dot:
            return s[-n:]
        s = rest
    return "..." + s


def report(rep: Report) -> None:
    """Print what was counted."""
    print(f"Processed {rep.OIDS} records in {rep.TIDS} transactions")
    if not rep.DBYTES:
        return
    print(f"Average record size is {rep.DBYTES / rep.OIDS:7.2f} bytes")
    print(f"Average transaction size is {rep.DBYTES / rep.TIDS:7.2f} bytes")
    print("Types used:")
    _line("Class Name", "Count", "TBytes", "Pct", "AvgSize")
    _line("-" * 46, "-" * 7, "-" * 9, "-" * 5, "-" * 7)
    for name in sorted(rep.TYPEMAP):
        count, size = rep.TYPEMAP[name], rep.TYPESIZE[name]
        share = f"{size * 100 / rep.DBYTES:5.1f}%"
        _line(shorten(name, 46), str(count), str(size), share, f"{size / count:7.2f}")
    _line("=" * 46, "=" * 7, "=" * 9, "=" * 5, "=" * 7)
    per_transaction = rep.DBYTES / rep.TIDS / 1024
    print(f"{'Total Transactions':>46} {rep.TIDS:7} {'':>9} {'':>6} {per_transaction:6.2f}k")
    _sum("Total Records", rep.OIDS, rep.DBYTES, rep)
    _sum("Current Objects", rep.COIDS, rep.CBYTES, rep)
    if rep.FOIDS:
        _sum("Old Objects", rep.FOIDS, rep.FBYTES, rep)


def _line(name: str, count: str, size: str, share: str, average: str) -> None:
    print(f"{name:<46} {count:>7} {size:>9} {share:>6} {average:>7}")


def _sum(name: str, count: int, size: int, rep: Report) -> None:
    share = size * 100 / rep.DBYTES
    print(f"{name:>46} {count:7} {int(size / 1024):8}k {share:5.1f}% {size / count:7.2f}")


def analyze(path: str) -> Report:
    """Return what there is in the data file *path*."""
    storage = FileStorage(path, read_only=True)
    counted = Report()
    for transaction in storage.iterator():
        analyze_trans(counted, transaction)
    storage.close()
    return counted


def analyze_trans(report: Report, txn: Any) -> None:
    """Count a transaction."""
    report.TIDS += 1
    for record in txn:
        analyze_rec(report, record)


def get_type(record: Any) -> str:
    """Return the full name of the class that a record describes."""
    return ".".join(get_pickle_metadata(record.data))


def analyze_rec(report: Report, record: Any) -> None:
    """Count a record."""
    report.OIDS += 1
    if record.data is None:
        return
    size = len(record.data)
    report.DBYTES += size
    name = report.OIDMAP.get(record.oid)
    if name is None:
        name = report.OIDMAP[record.oid] = get_type(record)
        report.COIDS += 1
    else:
        old = report.USEDMAP[record.oid]
        report.FREEMAP[record.oid] = report.FREEMAP.get(record.oid, 0) + old
        report.FOIDS += 1
        report.FBYTES += old
        report.CBYTES -= old
    report.CBYTES += size
    report.USEDMAP[record.oid] = size
    report.TYPEMAP[name] = report.TYPEMAP.get(name, 0) + 1
    report.TYPESIZE[name] = report.TYPESIZE.get(name, 0) + size


if __name__ == "__main__":
    with running("analyze"):
        report(analyze(the_file(__doc__)))
