"""A transaction on its way into a storage of perdure's own."""

from collections.abc import Callable
from typing import Any, Protocol

from perdure import _native
from perdure.errors import ConflictError
from perdure.ids import Oid, Tid

__all__ = ["Judge", "Running", "Tie"]


class Judge(Protocol):
    """Says whether a transaction that holds the commit lock may be committed."""

    def __call__(self, draft: _native.Draft) -> None:
        """Raise an error if it must not be committed."""

    def describe(self, error: ConflictError) -> None:
        """Have a conflict of the transaction name class and database."""

    def is_content(self) -> bool:
        """Tell whether it may be where all that it refers to within the storage exists."""


Tie = Callable[[bytes, Tid], bytes]
"""Returns a record of a transaction that gets a tid as it is kept in that."""


class Running:
    """A transaction that was begun and is neither finished nor aborted."""

    def __init__(self, transaction: Any, draft: _native.Draft) -> None:
        self.transaction = transaction
        self.draft = draft
        self.voted = False
        self.tid: Tid | None = None
        self.resolved: list[Oid] = []
        self.judge: Judge | None = None
        self.tie: Tie | None = None
        """What a layer has to do with the records when their tid is known."""
        self.finish: Callable[[], Tid] | None = None
        """Finishes it, where it has voted together with others."""

    def tie_to(self, tid: Tid) -> None:
        """Put the records, under the commit lock, as they are kept in *tid*."""
        if self.tie is None:
            return
        draft = self.draft
        for number in range(len(draft)):
            data = draft.data(number)
            if data and (tied := self.tie(data, tid)) is not data:
                draft.resolve(number, tied)
