"""Connections that are used together: one for each member of a collection.

The connections of a set belong to one transaction manager, are opened and
closed together, and refer to one another's objects.  A set goes back to its
databases' pools as a whole; so whichever member is opened first next time, the
same connections, with the same objects, come together again.
"""

import contextlib
from typing import TYPE_CHECKING, Any

from perdure.errors import ConnectionStateError
from perdure.ids import Oid, Tid
from perdure.storage.view import EngineView

if TYPE_CHECKING:
    from perdure.connection.connection import Connection

__all__ = ["ConnectionSet"]


class ConnectionSet:
    """The connections that are used together, by database name."""

    def __init__(self, first: "Connection") -> None:
        self.members: dict[str, Any] = {first._db.database_name: first}
        self._leader = first
        """The member that listens to the transaction manager on behalf of all."""
        self._snapshots: dict[str, Any] = {}
        """Up to where each member is read in this transaction, those to join later, too."""
        self.is_behind = False
        """Whether the last attempt to move on failed: nothing is read until one succeeds."""

    def get(self, database_name: str) -> "Connection":
        """Return the connection to a member of the collection, opened if need be.

        Raises KeyError for a name that isn't in the collection.
        """
        found: Connection | None = self.members.get(database_name)
        return self._join(database_name) if found is None else found

    def _join(self, database_name: str) -> "Connection":
        leader = self._leader
        leader._require_open()
        database = leader._db.databases.get(database_name)
        if database is None:
            names = ", ".join(sorted(leader._db.databases))
            raise KeyError(f"no member {database_name!r} among {names}")
        joining: Connection = database._lend_to_set(leader.before)
        joining._set = self
        joining.connections = self.members
        self.members[database_name] = joining
        joining._start(leader.transaction_manager)
        try:
            if not joining.explicit_transactions or leader._in_transaction:
                self._advance([(database_name, joining)], force=False)
        except BaseException:
            del self.members[database_name]
            leader._db._shared.release(ConnectionSet(joining))
            raise
        return joining

    def open(self, leader: "Connection", transaction_manager: Any) -> None:
        """Put all members to work for *transaction_manager*."""
        self._leader = leader
        for member in self.members.values():
            member._start(transaction_manager)
        try:
            if not leader.explicit_transactions:
                # For those who go on without begin().  No sync: begin() will do it.
                self.advance(force=False)
            transaction_manager.registerSynch(leader)
        except BaseException:
            self.leave(transaction_manager)
            leader._db._shared.release(self)
            raise

    def require_closable(self) -> None:
        """Raise ConnectionStateError if a member still takes part in a transaction."""
        for name, member in self.members.items():
            if not member._needs_to_join:
                raise ConnectionStateError(
                    f"Cannot close a connection joined to a transaction (database {name!r}): "
                    "commit or abort first"
                )

    def leave(self, transaction_manager: Any) -> None:
        """Stop listening to *transaction_manager*; who has left already is left alone."""
        # The database and the connection may be closed by two threads at once.
        with contextlib.suppress(KeyError):
            transaction_manager.unregisterSynch(self._leader)

    def advance(self, *, force: bool) -> None:
        """Move all members to their newest states, which become one snapshot.

        Where that fails, nothing can be read until it succeeds.
        """
        leader = self._leader
        try:
            if len(leader._db.databases) != 1 or self.is_behind:
                self._advance(list(self.members.items()), force=force, renew=True)
                return
            # The same steps as for many, and what every transaction of most programs does.
            leader._readCurrent.clear()
            view = leader._normal_storage
            view.sync(force)
            changed = _news(view, None, leader)
            if changed != [] or leader._own_commit is not None:
                leader._invalidate(changed)
        except BaseException as error:
            self._fall_behind(error)
            raise

    def _advance(self, members: list[tuple[str, Any]], *, force: bool, renew: bool = False) -> None:
        # One loop for each step: the snapshots of all members are taken together,
        # those of foreign storages as close to one another as these allow.
        for _name, member in members:
            member._readCurrent.clear()
            member._normal_storage.sync(force)
        if renew:
            self._snapshots = self._leader._db._shared.snapshots()
        snapshots = self._snapshots
        news = []
        for name, member in members:
            changed = _news(member._normal_storage, snapshots.get(name), member)
            news.append((member, changed))
        if renew and self.is_behind:
            news = self._caught_up()
        for member, changed in news:
            if changed != [] or member._own_commit is not None:
                member._invalidate(changed)

    def _fall_behind(self, error: BaseException) -> None:
        """Have nothing be read: what *error* kept from moving on is of no one moment."""
        self.is_behind = True
        for member in self.members.values():
            member._forget_state(error)

    def _caught_up(self) -> list[tuple[Any, list[Oid] | None]]:
        """Read through the views again; return what is news: everything."""
        self.is_behind = False
        members = list(self.members.values())
        for member in members:
            member._storage = member._normal_storage
        return [(member, None) for member in members]


def _news(view: Any, at: Tid | None, connection: "Connection") -> list[Oid] | None:
    """Move a view on, one of perdure's own to *at*; return what others changed since."""
    changed: list[Oid] | None
    if isinstance(view, EngineView):
        changed = view.poll_invalidations(at, connection)
    else:
        changed = view.poll_invalidations()
    return changed
