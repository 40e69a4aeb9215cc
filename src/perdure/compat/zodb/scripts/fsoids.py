"""Find every place where some objects occur in a data file.

usage: fsoids.py [-f oid_file] Data.fs [oid]...

The oids are numbers as Python writes them (0x2a, 42), given on the command line or,
one to a line, in a file. For each, all revisions are shown, what they refer to, and
what refers to them. The data file is only read.
"""

import getopt
import sys
from pathlib import Path

from perdure.compat._tool import running

from ..FileStorage.fsoids import Tracer


def main() -> None:
    """Trace what the command line names."""
    try:
        options, arguments = getopt.getopt(sys.argv[1:], "f:")
    except getopt.error as error:
        sys.exit(f"{error}\n{__doc__}")
    if not arguments:
        sys.exit(f"Must specify a FileStorage\n{__doc__}")
    numbers = arguments[1:]
    for _option, path in options:
        numbers += Path(path).read_text().split()
    if not numbers:
        sys.exit("no oids specified")
    tracer = Tracer(arguments[0])
    tracer.register_oids(*(int(number, 0) for number in numbers))
    tracer.run()
    tracer.report()


if __name__ == "__main__":
    with running("fsoids"):
        main()
