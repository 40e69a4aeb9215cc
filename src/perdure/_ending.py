"""How programs that a shell runs end when they are interrupted, or nobody reads on."""

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["INTERRUPTED", "OUTPUT_CLOSED", "ending_quietly", "nobody_reads"]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as of other programs that a shell runs."""

OUTPUT_CLOSED = 141
"""The exit code where the reader of the output is gone (`... | head`), as of other programs."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def ending_quietly(name: str) -> Iterator[None]:
    """Exit with the usual codes, and without a traceback, where the block is cut short.

    *name* is the program's, which says that it was interrupted.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as where the output was closed before
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(OUTPUT_CLOSED) from None
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        # No file's: the output's.
        sys.stderr.write(f"{name}: the output can't be written: {os.strerror(error.errno or 0)}\n")
        _drop_output()
        raise SystemExit(1) from None


def nobody_reads() -> bool:
    """Tell whether the reader of the output is gone."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _output, event in poll.poll(0))


def _drop_output() -> None:
    """Keep Python from trying to write the rest when it ends, and from telling of that."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
