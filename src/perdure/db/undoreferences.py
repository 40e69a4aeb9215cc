"""Keeping an undo from leaving references that lead nowhere.

What it brings back may refer to objects that were deleted or moved since, and what it takes
away may have come to be referred to.  Both are looked for before the vote, without a lock, and
once more under the locks of all members.  What led nowhere before the undone transaction is
let pass, and so is what leads nowhere already.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from perdure import _native
from perdure.classname import get_pickle_metadata
from perdure.ids import MAX_TID, Oid, Tid, oid_repr, readable_tid_repr
from perdure.storage._layers import decoder_of, draft_decoder_of
from perdure.storage.joint import JointCommit
from perdure.storage.view import EngineFace, EngineView

__all__ = ["Problem", "UndoReferences"]

Problem = tuple[Oid, str]
"""An object that keeps a transaction from being undone, and why."""

_Link = tuple[Oid, Oid]
"""An object that is referred to, and one that refers to it."""


class UndoReferences:
    """The references that an undo in *database* brings back, and those that it breaks.

    *view* has its changes; *since* is the oldest transaction that it undoes.
    """

    def __init__(
        self, database: Any, view: EngineView, since: Tid, joint: JointCommit | None
    ) -> None:
        self._database = database
        self._name: str = database.database_name
        self._view = view
        self._since = since
        self._joint = joint
        self._databases = {
            name: member for name, member in database._shared.databases.items() if not member.closed
        }
        self._members = {
            name: member
            for name, member in self._databases.items()
            if isinstance(member._mvcc_storage, EngineFace)
        }
        self._review: _native.DraftReview | None = None
        self._later: _native.LaterReferrers | None = None

    def look(self) -> None:
        """Look through the changes, which are all there, and at who refers to what they remove."""
        deletes = self._view.drafted().deletes()
        if not deletes and self._is_whole():
            return
        self._review = self._review_of(self._database, self._view)
        if deletes:
            self._later = self._referrers_to_removed(self._review)
            self._later.catch_up(False)
            if self._joint is not None:
                self._joint.hold(member._mvcc_storage.engine for member in self._members.values())

    def _referrers_to_removed(self, review: _native.DraftReview) -> _native.LaterReferrers:
        members = [
            (name, member._mvcc_storage.engine._native, decoder_of(member.storage))
            for name, member in self._members.items()
        ]
        return _native.LaterReferrers(
            [(member, self._since) for member in members], self._name, review
        )

    def problems(self, *, settled: bool) -> list[Problem]:
        """Return what would lead nowhere; *settled*: no member can commit meanwhile."""
        if self._review is None:
            if self._is_whole():
                return []
            # Something was deleted in between.
            self._review = self._review_of(self._database, self._view)
        others = self._others()
        found = [
            *self._brought_back(self._review, others),
            *self._taken_away(self._review, others, settled=settled),
        ]
        return list(dict.fromkeys(found))

    def _is_whole(self) -> bool:
        """Tell whether all that was there before the undone transactions is there still."""
        return len(self._members) == len(self._database._shared.databases) and all(
            member._mvcc_storage.engine._native.is_whole_since(self._since)
            for member in self._members.values()
        )

    def _review_of(self, member: Any, view: EngineView) -> _native.DraftReview:
        return view.drafted().review(member.database_name, draft_decoder_of(member.storage))

    def _others(self) -> dict[str, _native.DraftReview]:
        """Return what the transaction does in other members."""
        if self._joint is None:
            return {}
        return {
            name: self._review_of(member, view)
            for view in self._joint.views()
            for name, member in self._members.items()
            if member._mvcc_storage.engine is view.engine and view is not self._view
        }

    # What is brought back.

    def _brought_back(
        self, review: _native.DraftReview, others: dict[str, _native.DraftReview]
    ) -> Iterator[Problem]:
        for link in review.dangling():
            yield from self._problem(self._name, link)
        for name in review.databases():
            for link in self._leading_nowhere(name, review.links(name), others.get(name)):
                yield from self._problem(name, link)

    def _leading_nowhere(
        self, name: str, links: Iterable[_Link], changes: _native.DraftReview | None
    ) -> Iterator[_Link]:
        member = self._databases.get(name)
        if member is None:
            return
        if name in self._members:
            # What was deleted may not be visible yet.
            member._mvcc_storage.engine._native.catch_up()
        for link in links:
            # What the transaction itself takes away there is found there.
            is_left = changes is not None and changes.leaves(link[0]) is not None
            if not is_left and not _exists(member.storage, link[0]):
                yield link

    def _problem(self, name: str, link: _Link) -> Iterator[Problem]:
        target, referrer = link
        storage = self._databases[name].storage
        before = _state(storage, target, self._since)
        if before is None or self._refers(self._name, referrer, MAX_TID, (name, target)):
            return
        reason = (
            f"it would refer again to {_described(name, target, before)}, which was deleted or "
            f"moved since{_by(storage, target)}: undo that first, or both at once"
        )
        yield referrer, reason

    # What is taken away.

    def _taken_away(
        self,
        review: _native.DraftReview,
        others: dict[str, _native.DraftReview],
        *,
        settled: bool,
    ) -> Iterator[Problem]:
        if self._later is None:
            return
        self._later.catch_up(settled)
        links = [
            (name, link)
            for number, name in enumerate(self._members)
            for link in self._later.links(
                number, review if name == self._name else others.get(name)
            )
        ]
        for name, changes in others.items():
            back = changes.links(self._name)
            links += [(name, link) for link in back if review.leaves(link[0]) is False]
        for name, (target, referrer) in links:
            # Else it led there before the object was.
            if not self._refers(name, referrer, self._since, (self._name, target)):
                yield self._needed(target, name, referrer)

    def _needed(self, target: Oid, name: str, referrer: Oid) -> Problem:
        by = _described(name, referrer, _state(self._databases[name].storage, referrer, MAX_TID))
        return target, f"the transaction created it, and {by} has come to refer to it"

    # Objects.

    def _refers(self, name: str, referrer: Oid, before: Tid, target: tuple[str, Oid]) -> bool:
        """Tell whether an object referred to another, in its last state before a transaction."""
        data = _state(self._databases[name].storage, referrer, before)
        try:
            found = _native.all_references(data or b"")
        except ValueError:
            return False
        return any(
            kind != "weak" and (name if database is None else database, oid) == target
            for kind, oid, database in found
        )


def _described(name: str, oid: Oid, data: bytes | None) -> str:
    """Return how to call an object that has or had the data."""
    cls = ".".join(get_pickle_metadata(data)) if data else ""
    return f"{cls or 'object'} {oid_repr(oid)} in {name!r}"


def _state(storage: Any, oid: Oid, before: Tid) -> bytes | None:
    """Return an object's data before a transaction; None where it did not exist."""
    try:
        found = storage.loadBefore(oid, before)
    except KeyError:
        return None
    return None if found is None else found[0]


def _exists(storage: Any, oid: Oid) -> bool:
    return _state(storage, oid, MAX_TID) is not None


def _by(storage: Any, oid: Oid) -> str:
    """Say which transaction deleted an object, if that is known."""
    try:
        (entry,) = storage.history(oid, size=1)
    except (KeyError, ValueError):
        return ""
    return f" by {readable_tid_repr(entry['tid'])}"
