"""One transaction in several databases of a collection: in all of them or in none.

The storages' locks are taken together, in the order of their sort keys, by the
first vote; all get one tid; the first one that is written to decides.  See
`docs/internals/joint-commit.md`.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from perdure import _native
from perdure.errors import ConflictError, StorageTransactionError
from perdure.ids import Oid, Tid
from perdure.storage.engine import EngineStorage
from perdure.storage.view import EngineView

__all__ = ["JointCommit", "lock_place"]


@contextlib.contextmanager
def _described(view: EngineView) -> Iterator[None]:
    """Have a conflict name class and database: whose turn it is to vote may be another member."""
    try:
        yield
    except ConflictError as error:
        if view.judge is not None:
            view.judge.describe(error)
        raise


class _Held:
    """A storage to which nobody may commit while others of its collection are changed."""

    def __init__(self, engine: EngineStorage) -> None:
        self.engine = engine
        self._draft: _native.Draft | None = None

    def lock(self) -> None:
        """Wait for the turn."""
        self._draft = self.engine._native.begin(b"", b"", b"")
        self._draft.lock()

    def let_go(self) -> None:
        """Let others commit."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.abort()


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
        self._held: list[_Held] = []
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

    def hold(self, engines: Iterable[EngineStorage]) -> None:
        """Have nobody commit to these storages, either, from the vote to the end."""
        known = [held.engine for held in self._held]
        self._held += [
            _Held(engine)
            for engine in engines
            if not engine.isReadOnly() and not any(engine is one for one in known)
        ]

    def let_go(self) -> None:
        """Let others commit to the storages that were only held."""
        for held in self._held:
            held.let_go()

    def views(self) -> Sequence[EngineView]:
        """Return the views that take part."""
        return tuple(self._views)

    def is_of_one(self) -> bool:
        """Tell whether no other of perdure's storages takes part."""
        return len(self._views) == 1 and not self._held

    def vote(self, view: EngineView) -> Iterable[Oid]:
        """Return the oids of *view* whose conflicts were resolved; all have voted then."""
        if self._resolved is None:
            self._resolved = self._vote_all()
        return self._resolved.get(id(view), ())

    def _vote_all(self) -> dict[int, list[Oid]]:
        views = self._views
        if self._held:
            return self._vote_in_turn()
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
        locked = self._lock_all()
        for view, draft, _resolved in locked:
            if view.judge is not None:
                with _described(view):
                    view.judge(draft)
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

    def _lock_all(self) -> list[tuple[EngineView, _native.Draft, list[Oid]]]:
        """Wait for the turn of all; return them with their drafts and what was resolved."""
        engines = [view.engine for view in self._views]
        held = [one for one in self._held if not any(one.engine is each for each in engines)]
        locked = []
        parts: list[EngineView | _Held] = [*self._views, *held]
        for part in sorted(parts, key=lambda part: lock_place(part.engine)):
            if isinstance(part, _Held):
                part.lock()
                continue
            with _described(part):
                locked.append((part, *part.lock_draft()))
        return locked

    def finish(self) -> Tid:
        """Return the tid; the transaction is durable and visible everywhere then."""
        if self._tid is None:
            try:
                self._tid = self._finish()
            finally:
                # Nothing of theirs was finished: this frees their locks.
                for draft in self._checking:
                    draft.abort()
                self.let_go()
        return self._tid

    def _finish(self) -> Tid:
        if not self._writing:
            return max(view.lastTransaction() for view in self._views)
        tid = self._gate.finish_together(self._writing)
        for view in self._views:
            view.note_own(tid)
        return tid
