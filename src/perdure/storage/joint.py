"""One transaction in several databases of a collection: in all of them or in none.

The storages' locks are taken together, in the order of their sort keys, by the
first vote; all get one tid; the first one that is written to decides.  See
`docs/internals/joint-commit.md`.
"""

import time
from collections.abc import Iterable
from typing import Any

from perdure import _native
from perdure.errors import ConflictError, StorageTransactionError
from perdure.ids import Oid, Tid
from perdure.storage.view import EngineView

__all__ = ["JointCommit", "lock_place"]


def lock_place(storage: Any) -> tuple[str, int]:
    """Return the place of *storage* in the order in which the locks of several are taken."""
    # Storages in memory may have one name, and still have to be locked in one order.
    return storage.sortKey(), id(storage)


class JointCommit:
    """What the views of perdure's own storages do together in one transaction.

    Each of them asks for the vote and the finish when it is its turn; the first
    one that does has it done for all.
    """

    def __init__(self, gate: _native.Gate) -> None:
        self._gate = gate
        self._views: list[EngineView] = []
        self._writing: list[_native.Draft] = []
        self._checking: list[_native.Draft] = []
        self._resolved: dict[int, list[Oid]] | None = None
        self._tid: Tid | None = None

    def join(self, view: object) -> None:
        """Have *view*, whose transaction has begun, take part; ignored for foreign ones."""
        if not isinstance(view, EngineView):
            return
        for other in self._views:
            if other.engine is view.engine:
                raise StorageTransactionError(
                    f"{view.getName()} takes part in this transaction twice: "
                    "undo in a transaction of its own"
                )
        self._views.append(view)
        view._joint = self

    def is_of_one(self) -> bool:
        """Tell whether no other of perdure's storages takes part."""
        return len(self._views) == 1

    def vote(self, view: EngineView) -> Iterable[Oid]:
        """Return the oids of *view* whose conflicts were resolved; all have voted then."""
        if self._resolved is None:
            self._resolved = self._vote_all()
        return self._resolved.get(id(view), ())

    def _vote_all(self) -> dict[int, list[Oid]]:
        views = self._views
        views.sort(key=lambda view: lock_place(view.engine))
        drafts = [view.drafted() for view in views]
        tid = None
        if all(view.is_indifferent() for view in views):
            tid = _native.vote_together(drafts, time.time())
        if tid is None:
            return self._vote_in_turn()
        self._writing = drafts
        for view in views:
            view.voted([], tid, self.finish)
        return {}

    def _vote_in_turn(self) -> dict[int, list[Oid]]:
        """Do the same step by step, where conflicts are to be resolved or somebody has a say."""
        locked = [(view, *self._lock(view)) for view in self._views]
        # Who only checks what was read holds its lock until the end, and writes nothing.
        writing = [(view, draft) for view, draft, _resolved in locked if len(draft)]
        self._writing = [draft for _view, draft in writing]
        self._checking = [draft for _view, draft, _resolved in locked if not len(draft)]
        tid = None
        if writing:
            now = time.time()
            tid = max(draft.least_tid(now) for draft in self._writing)
            for view, _draft in writing:
                view.tie_draft(tid)
            _native.prepare_together(self._writing, tid)
        for view, _draft, resolved in locked:
            view.voted(resolved, tid, self.finish)
        return {id(view): resolved for view, _draft, resolved in locked}

    def _lock(self, view: EngineView) -> tuple[_native.Draft, list[Oid]]:
        try:
            return view.lock_draft()
        except ConflictError as error:
            # Whose turn it is to vote may be another member.
            if view.judge is not None:
                view.judge.describe(error)
            raise

    def finish(self) -> Tid:
        """Return the tid; the transaction is durable and visible everywhere then."""
        if self._tid is None:
            try:
                self._tid = self._finish()
            finally:
                # Nothing of theirs was finished: this frees their locks.
                for draft in self._checking:
                    draft.abort()
        return self._tid

    def _finish(self) -> Tid:
        if not self._writing:
            return max(view.lastTransaction() for view in self._views)
        tid = self._gate.finish_together(self._writing)
        for view in self._views:
            view.note_own(tid)
        return tid
