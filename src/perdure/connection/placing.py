"""Giving new objects the members that routes, or blocks of `using`, have for them.

An object that one member reaches may so belong to another, whose turn to commit has
passed, or that takes no part in the transaction yet.  Therefore the first member to
commit has all members of the set serialise what they have, in turns, until nothing
new arrives anywhere; only then the storages are told, each when it is its member's turn.

A member that becomes part of a transaction only then is a *guest*: the transaction's
list of resources is fixed by that time, so a member that is on it carries the guest
along.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from perdure.connection.commit import Record, into_cache, serialised
from perdure.errors import InvalidObjectReference
from perdure.storage.view import EngineView

if TYPE_CHECKING:
    from perdure.connection.committing import Committing

__all__ = ["Together"]


class Together:
    """One commit, or savepoint, of all members of a set."""

    def __init__(self, first: "Committing", choose: Callable[[type], str | None]) -> None:
        self._first = first
        self._set = first._set
        self._choose = choose
        self._saved: dict[Committing, list[Record]] = {}
        """Records for storages that take their lock when they are told of the commit."""
        self._seen: dict[Committing, int] = {}
        """How many of its changed objects a member has serialised."""
        self._joined: list[Committing] = []
        """The members that became part of the transaction because objects went there."""
        self._carried: dict[Committing, list[Committing]] = {}
        """The guests of each member that carries some."""

    # Placing new objects.

    def place(self, connection: "Committing", obj: Any) -> bool:
        """Give *obj*, which *connection* reached, its place; false: it has no other."""
        name = self._choose(type(obj))
        if name is None:
            return False
        target = connection if name == connection._db.database_name else self._member(name, obj)
        oid = target.new_oid()
        obj._p_oid = oid
        obj._p_jar = target
        # Not because it was reached: others may refer to it, too.
        target._creating[oid] = False
        if target is not connection:
            into_cache(target, oid, obj)
            target._arrived.append(obj)
        return True

    def _member(self, name: str, obj: Any) -> "Committing":
        try:
            member: Any = self._set.get(name)
        except KeyError:
            cls = type(obj)
            raise InvalidObjectReference(
                f"a new {cls.__module__}.{cls.__qualname__} belongs in database {name!r}, which "
                "is no member of the collection any more",
                object=obj,
                databases=(name,),
            ) from None
        member._placing = self
        if member._needs_to_join:
            self._bring_in(member)
        found: Committing = member
        return found

    def _bring_in(self, member: "Committing") -> None:
        running = self._first._commit_running
        if running is None:
            member._register()
        else:
            member._needs_to_join = False
            member._running_commit(running.transaction).together = self
        self._joined.append(member)

    def _active(self) -> "list[Committing]":
        """Return the members that take part, in the order of the transaction."""
        found = [
            each
            for each in self._set.members.values()
            if each is self._first or not each._needs_to_join
        ]
        if len(found) > 1:
            found.sort(key=lambda each: each.sortKey())
        return found

    def _settle(self, active: "list[Committing]", write: "Callable[[Committing], None]") -> None:
        """Have members write what they have, until none has anything left."""
        members = self._set.members
        for member in members.values():
            member._placing = self
        try:
            while active:
                for member in active:
                    write(member)
                active = [
                    each
                    for each in members.values()
                    if each._arrived or len(each._registered_objects) > self._seen.get(each, 0)
                ]
        finally:
            for member in members.values():
                member._placing = None

    # Savepoints.

    def write_savepoints(self) -> "list[Committing]":
        """Write what all members have; return those that have become part of the transaction."""
        self._settle(self._active(), lambda member: member._write_savepoint(member._savepoint()))
        return self._joined

    # Commits.

    def serialise(self) -> None:
        """Serialise what all members of the set have."""
        running = self._first._commit_running
        assert running is not None
        running.together = self
        active = self._active()
        for member in active:
            if member is not self._first:
                member._running_commit(running.transaction).together = self
            if member._unflagged is not None:
                member._unflagged.check(member)
        self._settle(active, self._serialise)
        if self._joined:
            self._share_out(active)
        elif len(active) == 1 and not self._saved:
            # Nothing but a commit of one member, as most are.
            running.together = None

    def _serialise(self, member: "Committing") -> None:
        running = member._commit_running
        assert running is not None
        if member._savepoint_storage is not None:
            member._write_savepoint(member._savepoint_storage)
            return
        records = serialised(member, self._seen.get(member, 0))
        if isinstance(member._normal_storage, EngineView):
            running.store_objects(member._normal_storage, records)
        else:
            self._saved.setdefault(member, []).extend(records)
        self._seen[member] = len(member._registered_objects)

    def _share_out(self, resources: "list[Committing]") -> None:
        """Give each guest to the member whose turn comes next after its own would."""
        for guest in self._joined:
            later = (each for each in resources if each.sortKey() > guest.sortKey())
            carrier = next(later, resources[-1])
            self._carried.setdefault(carrier, []).append(guest)

    def carried_by(self, member: "Committing") -> "list[Committing]":
        """Return the guests of a member."""
        return self._carried.get(member, [])

    def store(self, member: "Committing") -> None:
        """Give the storages of *member* and its guests what is theirs."""
        members = [member, *self.carried_by(member)]
        if len(members) > 1:
            members.sort(key=lambda each: each.sortKey())
        for each in members:
            running = each._commit_running
            assert running is not None
            if each._savepoint_storage is not None:
                each._store_savepoint(running, each._savepoint_storage)
            elif each in self._saved:
                running.store_objects(each._normal_storage, self._saved.pop(each))
            if each._readCurrent:
                each._check_read_current(running)

    def abort(self, transaction: Any) -> None:
        """Abort all guests, even where aborting one of them fails."""
        with ExitStack() as stack:
            while self._joined:
                stack.callback(self._joined.pop().tpc_abort, transaction)
