"""The collection: databases that are opened, used and closed together."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from perdure.db.database import DB
from perdure.db.garbage import GarbageReport, Progress, collect_garbage
from perdure.db.inonetransaction import ContextManager
from perdure.db.jointundo import joint_undo, joint_undo_log
from perdure.db.maintained import Maintained
from perdure.db.moments import Moment
from perdure.db.moving import Moved, move
from perdure.db.packing import require_packable
from perdure.db.routes import Routes, using
from perdure.db.shared import shared_by
from perdure.db.tying import common_mapping, made, require_members, tie
from perdure.db.validating import Finding, validate
from perdure.ids import Tid
from perdure.storage.undo import UndoStep

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from perdure.connection.connection import Connection

__all__ = ["Collection"]


class Collection(Maintained):
    """Databases that are tied together: a mapping from their names to them.

    Objects of one member may refer to objects of the others, and a transaction
    covers them all.  A collection is a context manager that closes its members.

    *members* gives for each name a storage, the path of a file, None (for a database in
    memory), a URI or a dict that describes a database (as in `perdure.toml`), or a `DB`;
    databases that exist already have to be tied together by one `databases` mapping under
    these names, or be alone and without open connections.
    *primary* is the member that `open` and `transaction` give a connection to (default:
    the first); the others are reached from there, by `connection[name]`.  *routes* says
    which member new objects go to, by the names of their classes, modules or packages
    (see `Routes`); they take the place of any that the members had.  *options* are
    arguments of `DB`, for each member that is made here; what a URI or a dict says goes
    before them.

    Raises ValueError for no members, the same database or storage under two names, a primary
    that is none of them, a route that leads to none of them, and databases that belong to
    another collection (ConfigurationError, a ValueError, for a description that doesn't fit);
    TypeError for what is no member; whatever opening a member raises.  Members that were made
    here are closed then.
    """

    def __init__(
        self,
        members: Mapping[str, Any],
        *,
        primary: str | None = None,
        routes: Mapping[Any, str] | None = None,
        **options: Any,
    ) -> None:
        require_members(members)
        self._primary = next(iter(members)) if primary is None else primary
        if self._primary not in members:
            raise ValueError(
                f"the primary member {primary!r} is none of {', '.join(sorted(members))}"
            )
        self.databases: MutableMapping[str, Any] = common_mapping(members)
        """The members by name, as `databases` of each of them."""
        found = None if routes is None else Routes(routes, {*members, *self.databases})
        with contextlib.ExitStack() as opened:
            for name, member in members.items():
                if isinstance(member, DB):
                    tie(name, member, self.databases)
                else:
                    opened.callback(made(name, member, self.databases, options).close)
            opened.pop_all()
        self._shared = shared_by(self.databases)
        if found is not None:
            self._shared.routes = found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self)} (primary: {self._primary})>"

    def __getitem__(self, name: str) -> DB:
        """Return a member; KeyError, naming those there are, for an unknown name."""
        try:
            member: DB = self.databases[name]
        except KeyError:
            raise KeyError(f"no member {name!r} among {', '.join(sorted(self))}") from None
        return member

    def __iter__(self) -> Iterator[str]:
        """Iterate over the members' names."""
        return iter(list(self.databases))

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.databases)

    # As for any container that is an identity of its own, not a value.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same collection."""
        return self is other

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.close()

    @property
    def primary(self) -> DB:
        """The member that `open` and `transaction` give a connection to."""
        return self[self._primary]

    @property
    def routes(self) -> Routes:
        """Which member new objects go to, by the names of classes, modules and packages."""
        return self._shared.routes or Routes({}, self)

    def using(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that has new objects go to the member *name*.

        It holds for the commits and savepoints that are made in its block, in this
        thread or asyncio task, and for all objects that these reach first; it goes before
        all routes, and the innermost block before those around it.  What was given its
        place by `Connection.add` stays there.

        Raises KeyError for a name that is no member's.
        """
        self[name]
        return using(self._shared, name)

    def open(
        self,
        transaction_manager: Any = None,
        at: Moment | None = None,
        before: Moment | None = None,
    ) -> "Connection":
        """Return a connection to the primary member, with those to the others at hand.

        The arguments are those of `DB.open`; *at* and *before* hold for all members.
        """
        return self.primary.open(transaction_manager, at, before)

    def transaction(self, note: str | None = None) -> ContextManager:
        """Return a context manager that makes a `with` block a transaction.

        It gives a connection to the primary member; see `DB.transaction`.
        """
        return self.primary.transaction(note)

    @contextlib.contextmanager
    def at(self, when: Moment) -> "Iterator[Connection]":
        """Give a `with` block a read-only connection to the state at *when*.

        *when* is a tid or a datetime.  All members show their state at that time: a
        transaction is in the past of every member that it changed, or of none.
        """
        connection = self.open(at=when)
        try:
            yield connection
        finally:
            connection.transaction_manager.abort()
            connection.close()

    def lastTransaction(self) -> Tid:
        """Return the tid of the newest transaction of any member."""
        return max(member.lastTransaction() for member in self.values())

    def close(self) -> None:
        """Close all members.  Transactions that are under way are aborted.

        All are closed even where closing one of them fails; the error is raised then.
        """
        with contextlib.ExitStack() as stack:
            for member in reversed(list(self.values())):
                stack.callback(member.close)

    # All members together.

    def gc(
        self, days: float = 0, *, dry_run: bool = False, progress: Progress | None = None
    ) -> GarbageReport:
        """Delete all objects that can't be reached from any member's root object.

        References are followed through all members.  What was reachable *days* days ago,
        and what was written or referred to since, is kept; commits go on meanwhile.  Each
        transaction deletes up to 10,000 objects, in all members at once; their records stay
        until the members are packed.  With *dry_run*, nothing is deleted.
        *progress(phase, done, total)* is called now and then ("scan", "mark", "delete");
        what it raises stops the collection: what was deleted by then stays deleted.

        An object that a connection still has from before, and that is referred to again
        after it was deleted, is gone, and the commit that refers to it is refused: let *days*
        be longer than connections live.

        Raises Unsupported where a member's storage is not perdure's own, with or without
        layers, ReadOnlyError where it is read-only, MissingMemberError where a reference
        leads to a database that is no member, PackError where a member is being packed,
        ConnectionStateError if one is closed, ValueError if *days* is negative, and whatever a
        layer raises for a record that it can't decode; nothing is deleted then.
        """
        return collect_garbage(dict(self), days, dry_run=dry_run, progress=progress)

    def undoLog(
        self,
        first: int = 0,
        last: int = -20,
        filter: Callable[[dict[str, Any]], object] | None = None,  # noqa: A002 - ZODB's name
    ) -> list[dict[str, Any]]:
        """Return descriptions of transactions that can be undone, newest first.

        As `DB.undoLog`, but a transaction that changed several members is one entry;
        `members` names those, and `size` is what it wrote to all of them.
        """
        return joint_undo_log(self, first, last, filter)

    def undo(
        self,
        id: bytes,  # noqa: A002 - ZODB's name
        txn: Any = None,
        *,
        dry_run: bool = False,
    ) -> dict[str, list[UndoStep]] | None:
        """Undo a transaction, in all members that it changed, when *txn* commits.

        *id* is an `id` that `undoLog` gave, *txn* defaults to the thread's transaction.
        The commit raises UndoError if it can't be undone in one of them; nothing is
        undone then.  With *dry_run*, what would change is returned for each member.

        Raises UndoError for an id that no member has, Unsupported where a member's
        storage is not perdure's own.
        """
        return joint_undo(self, id, txn, dry_run=dry_run)

    def validate(self, *, warn: bool = True) -> list[Finding]:
        """Look for what contradicts the routes and `xrefs=False`; return and warn of it.

        All members are read: for references that lead out of a member with `xrefs=False`,
        or that would if they were made anew now, and for objects that are in another member
        than their routes say.  The routes are looked at, too: whether what they name can be
        imported (modules are), and whether the members they lead to can take objects and be
        referred to.  Nothing is changed.  Each finding is a `CollectionWarning` as well,
        unless *warn* is false.

        Members whose storage can't list its current records are not read.
        """
        return validate(dict(self), self.routes, warn=warn)

    def move(self, obj: Any, target: str, *, reachable: bool = False) -> Moved:
        """Move *obj* to the member *target*, and have all that refers to it refer to it there.

        With *reachable*, the objects of its member that only it leads to move with it: those
        that nothing else refers to, weakly neither.  It is done in a transaction of its own,
        committed at once.  What refers to them, in any member, is written again; their old
        records are deleted, and stay in the history until the member is packed.  All
        connections see that with their next transaction: the old object can't be loaded any
        more, and what referred to it has the one in *target*.

        All references are looked up first, which takes a while in a large collection.

        Raises ConflictError, and nothing is changed, if others change these objects or come
        to refer to them meanwhile: try again.  ValueError for an object that isn't stored, has
        uncommitted changes or is a root object, KeyError for an unknown member, Unsupported
        where a member's storage is not perdure's own, with or without layers,
        InvalidObjectReference where a member with `xrefs=False` would have to refer to another.
        """
        return move(dict(self), obj, target, reachable=reachable)

    def pack(
        self,
        t: float | None = None,
        days: float = 0,
        *,
        gc: bool | None = None,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        """Drop revisions that were no longer current at a time, and garbage, in all members.

        The time is *days* days before *t* (seconds since the epoch, default: now).  What
        any member refers to is no garbage; see `DB.pack` for *gc*, *progress* and what may
        be raised.  Where a member can't be packed so, none is.
        """
        when = time.time() if t is None else t
        for member in self.values():
            require_packable(member, gc=gc)
        for member in self.values():
            member.pack(when, days, gc=gc, progress=progress)

    def cacheMinimize(self) -> None:
        """Make all unchanged objects in the caches of all members ghosts."""
        for member in self.values():
            member.cacheMinimize()

    def cacheSize(self) -> int:
        """Return how many objects that aren't ghosts are in the caches of all members."""
        return sum(member.cacheSize() for member in self.values())

    def sync(self) -> None:
        """Have the storages of all members learn what was committed by others.

        Open connections see it with their next transaction.  (`Connection.sync` begins one.)
        """
        for member in self.values():
            for connection in member._all_connections():
                if connection.opened is not None and connection.before is None:
                    connection._normal_storage.sync(True)

    def connectionDebugInfo(self) -> dict[str, list[dict[str, Any]]]:
        """Return `DB.connectionDebugInfo` of each member, by its name."""
        return {name: member.connectionDebugInfo() for name, member in self.items()}
