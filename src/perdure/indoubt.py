"""Joint transactions in doubt: voted, and not finished when the process died.

Opening the data file settles them by asking the member that decides. Only where
that one can't be asked, somebody has to say by hand what becomes of them.
"""

import os
from pathlib import Path
from typing import NamedTuple

from perdure import _native
from perdure.ids import Tid

__all__ = ["InDoubt", "find", "resolve"]


class InDoubt(NamedTuple):
    """A joint transaction at the end of a data file, whose outcome is open."""

    tid: Tid
    """The transaction, in all its members."""
    members: list[str]
    """The paths of the members' data files when it was voted; the first one decides."""
    own: int
    """Which of them the file is."""

    @property
    def decider(self) -> str:
        """The path that the deciding member's data file had."""
        return self.members[0]


def find(path: str | os.PathLike[str]) -> InDoubt | None:
    """Return what is in doubt at the end of the data file *path*, None for nothing.

    Only reads.  OSError is raised where the file can't be read.
    """
    found = _native.in_doubt(Path(path))
    return None if found is None else InDoubt(*found)


def resolve(path: str | os.PathLike[str], *, commit: bool) -> InDoubt:
    """Finish (*commit*) or drop what is in doubt at the end of the data file *path*.

    The same has to be said of all members. What is dropped is kept in a `.trN` file.

    Raises:
        ValueError: nothing is in doubt there.
        StorageLocked: the file is open for writing somewhere.
        OSError: it can't be read or written.
    """
    return InDoubt(*_native.settle_in_doubt_by_hand(Path(path), commit))
