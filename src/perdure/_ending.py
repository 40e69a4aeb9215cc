"""How programs that a shell runs end when they are interrupted, or nobody reads on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["INTERRUPTED", "OUTPUT_CLOSED", "ending_quietly"]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of other programs that a shell runs."""

OUTPUT_CLOSED = 141
"""The exit code where the reader of the output is gone (`... | head`), as of other programs."""


@contextmanager
def ending_quietly(name: str) -> Iterator[None]:
    """Exit with the usual codes, and without a traceback, where the block is cut short.

    *name* is the program's, which says that it was interrupted.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # Or Python would try to write the rest when it ends, and tell of that.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise SystemExit(OUTPUT_CLOSED) from None
