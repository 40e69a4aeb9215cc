"""The database: a storage and a pool of connections to it."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Literal

from persistent.mapping import PersistentMapping
from transaction.interfaces import NoTransaction
from zope.interface import implementer

from perdure.broken import find_global
from perdure.conflict import limit_classes
from perdure.connection.connection import Connection
from perdure.db.history import History
from perdure.db.inonetransaction import ContextManager
from perdure.db.moments import Moment, tid_before
from perdure.db.policy import CachePolicy
from perdure.db.pool import ConnectionPool
from perdure.db.routes import Routes
from perdure.db.settings import Settings
from perdure.db.shared import shared_by
from perdure.db.statistics import CacheStatistics
from perdure.errors import ConnectionStateError, ForbiddenClassError
from perdure.ids import ROOT_OID, Tid
from perdure.interfaces import IDatabase
from perdure.mvcc import adapter_for
from perdure.serialize import referencesf

if TYPE_CHECKING:
    from typing_extensions import Self

    from perdure.connection.unflagged import Reaction, UnflaggedChanges
    from perdure.serialize.classes import AllowedClasses, ClassPolicy

__all__ = ["DB", "connection"]

logger = logging.getLogger("perdure.db")

_FOREVER = 1 << 31


def _unflagged(wanted: "Reaction | bool") -> "UnflaggedChanges | None":
    if not wanted:
        return None
    from perdure.connection.unflagged import UnflaggedChanges  # late: it is for development

    return UnflaggedChanges("raise" if wanted is True else wanted)


def _allowed(policy: "ClassPolicy | None") -> "AllowedClasses | None":
    if policy is None:
        return None
    from perdure.serialize.classes import AllowedClasses  # late: few databases have a policy

    return AllowedClasses(policy)


@implementer(IDatabase)
class DB(CacheStatistics, History, Settings):
    """A storage and a pool of connections to it.

    A connection that is closed goes back to the pool with its object cache, and
    is used again by one of the next calls of `open`.  Any number may be open;
    more than `pool_size` are logged as a warning, more than twice as many as
    critical.

    Arguments of the constructor:

    *storage* is a storage, the path of a file (a `FileStorage` is made from
    it) or None (a `MappingStorage`); for the latter two, *storage_args* go
    to its constructor.

    *pool_size* connections are expected to be open at most; one that was idle
    for *pool_timeout* seconds is let go.  Their caches shrink to *cache_size*
    objects and, unless 0, *cache_size_bytes*.  The same, with *historical_*,
    for connections to past states.

    *database_name* is its name in *databases*, the mapping that ties a
    collection together, to which it adds itself (ValueError if the name is
    taken).  With *xrefs* false, its objects can't refer to those of other
    members.

    With *check_references*, a new reference to an object that isn't there makes the
    commit raise DanglingReferenceError; switch it off for bulk loads.

    Records of *large_record_size* bytes or more bring a warning.
    *class_factory(connection, module, name)* finds the classes of records.
    *class_policy* is what classes records may bring in: names of classes and of
    packages, or a callable that is given a module's and a class's name; any other
    makes loading raise ForbiddenClassError.
    *detect_unflagged_changes* ("raise", which True means, or "warn") looks
    at each commit for changes of plain lists, dicts and sets that would be
    lost; it is slow, and meant for development.
    """

    klass: type[Connection] = Connection
    """The class of its connections."""

    def __init__(  # noqa: PLR0913, PLR0917 - the documented signature
        self,
        storage: Any,
        pool_size: int = 7,
        pool_timeout: float = _FOREVER,
        cache_size: int = 400,
        cache_size_bytes: int = 0,
        historical_pool_size: int = 3,
        historical_cache_size: int = 1000,
        historical_cache_size_bytes: int = 0,
        historical_timeout: float = 300,
        database_name: str = "unnamed",
        databases: MutableMapping[str, Any] | None = None,
        xrefs: bool = True,
        large_record_size: int = 1 << 24,
        class_factory: Callable[[Any, str, str], Any] | None = None,
        detect_unflagged_changes: Literal["raise", "warn"] | bool = False,
        check_references: bool = True,
        class_policy: "ClassPolicy | None" = None,
        **storage_args: Any,
    ) -> None:
        if class_policy is not None and class_factory is not None:
            raise TypeError("class_policy and class_factory: only one of them can find the classes")
        self._allowed = _allowed(class_policy)
        self.databases = {} if databases is None else databases
        self.database_name = database_name
        self.closed = False
        self._shared = shared_by(self.databases)
        self._shared.add(database_name, self)
        self.pool = ConnectionPool(pool_size, pool_timeout)
        self.historical_pool = ConnectionPool(
            historical_pool_size, historical_timeout, "DB.open(at/before)"
        )
        self._cache_policy = CachePolicy(cache_size, cache_size_bytes)
        self._historical_cache_policy = CachePolicy(
            historical_cache_size, historical_cache_size_bytes
        )
        self.references = referencesf
        self.xrefs = xrefs
        self.check_references = check_references
        self.large_record_size = large_record_size
        if class_factory is not None:
            self.classFactory = class_factory  # type: ignore[assignment,method-assign]
        self._unflagged = _unflagged(detect_unflagged_changes)
        try:
            self._open_storage(storage, storage_args)
        except BaseException:
            del self.databases[database_name]
            raise

    def _open_storage(self, storage: Any, storage_args: dict[str, Any]) -> None:
        given = storage is not None and not isinstance(storage, (str, os.PathLike))
        if given and storage_args:
            raise TypeError(
                f"arguments for a storage that is made already: {', '.join(storage_args)}"
            )
        self.storage = storage if given else _made_storage(storage, storage_args)
        try:
            limit_classes(self.storage, self._allowed)
            self._mvcc_storage = adapter_for(self.storage)
            if not self.storage.isReadOnly():
                self._create_root()
        except BaseException:
            if not given:
                self.storage.close()
            raise

    def _create_root(self) -> None:
        with self.transaction("initial database creation") as conn:
            try:
                conn.get(ROOT_OID)
            except KeyError:
                conn._add(PersistentMapping(), ROOT_OID)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.database_name!r} at {id(self):#x}>"

    @property
    def _storage(self) -> Any:
        return self.storage

    def classFactory(self, connection: Any, modulename: str, globalname: str) -> Any:
        """Return the class that records call by these names.

        Raises ForbiddenClassError if the database's class policy doesn't allow it.
        """
        if self._allowed is None:
            return find_global(modulename, globalname)
        try:
            return self._allowed.find(modulename, globalname)
        except ForbiddenClassError as error:
            error.database = self.database_name
            raise

    def transform_record_data(self, data: bytes) -> bytes:
        """Return the data as it is."""
        return data

    def untransform_record_data(self, data: bytes) -> bytes:
        """Return the data as it is."""
        return data

    def invalidate(self, transaction_id: Tid, oids: Any) -> None:
        """Take note of a transaction that was committed elsewhere."""
        self._mvcc_storage.invalidate(transaction_id, oids)

    def invalidateCache(self) -> None:
        """Have all connections forget what they have cached."""
        self._mvcc_storage.invalidateCache()

    def open(
        self,
        transaction_manager: Any = None,
        at: Moment | None = None,
        before: Moment | None = None,
    ) -> Connection:
        """Return a connection, used before if possible.

        It belongs to *transaction_manager* (default: the thread's).  *at* (a tid,
        or a datetime, taken as UTC if it has no time zone) makes it a read-only
        view of the state at that time, *before* one of the state before it: in a
        collection, what other members are still finishing before then is waited for.

        Raises ValueError for both at once and for times to come,
        ConnectionStateError if the database is closed.
        """
        self._require_open()
        moment = None
        if at is not None or before is not None:
            moment = tid_before(at, before)
            self._require_past(moment)
            if moment is not None:
                self._shared.settle_past(moment)
        found = self._shared.lend(self, moment) or self._new_connection(moment)
        self._shared.release_superfluous(self.pool, self.historical_pool)
        found.open(transaction_manager)
        return found

    def _join(self, name: str, databases: MutableMapping[str, Any]) -> None:
        """Leave a collection of one to be the member *name* of another; none may be open."""
        for conn in self._all_connections():
            self._shared.release(conn._set)
        shared = shared_by(databases)
        shared.add(name, self)
        del self.databases[self.database_name]
        self.databases, self._shared, self.database_name = databases, shared, name

    def _route(self, routes: Mapping[Any, str]) -> None:
        """Have new objects go to members of the collection by *routes*, a mapping for `Routes`."""
        self._shared.routes = Routes(routes, self.databases)

    def _require_open(self) -> None:
        if self.closed:
            raise ConnectionStateError(f"The database {self.database_name!r} is closed")

    def _require_past(self, moment: Tid | None) -> None:
        # What a transaction in another member has made the present isn't the future here.
        last = max([self.lastTransaction(), *self._shared.snapshots().values()])
        end = tid_before(last, None)
        if moment is not None and end is not None and moment > end:
            raise ValueError(
                f"cannot open an historical connection in the future: {moment.hex()} is "
                f"later than the last transaction, {last.hex()}"
            )

    def _new_connection(self, before: Tid | None) -> Connection:
        policy = self._cache_policy if before is None else self._historical_cache_policy
        made = self.klass(self, policy.objects_max, before, policy.bytes_max)
        with self._shared.lock:
            self._pool_for(before).add(made)
        return made

    def _lend_to_set(self, before: Tid | None) -> Connection:
        """Return a connection that can join a set of connections in use."""
        self._require_open()
        return self._shared.lend_alone(self, before) or self._new_connection(before)

    def _take_back(self, group: Any) -> None:
        self._shared.take_back(group)

    def _pool_for(self, before: Tid | None) -> ConnectionPool:
        return self.historical_pool if before else self.pool

    def transaction(self, note: str | None = None) -> ContextManager:
        """Return a context manager that makes a `with` block a transaction.

        It gives a connection; *note* goes into the transaction's description.
        """
        return ContextManager(self, note)

    def open_then_close_db_when_connection_closes(self) -> Connection:
        """Return a connection whose closing closes the database."""
        conn = self.open()
        conn.onCloseCallback(self.close)
        return conn

    def __enter__(self) -> "Self":
        """Return the database, which the end of the `with` block closes."""
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, its storage and all its connections.

        Transactions that are under way are aborted. One of another thread is left to it:
        what it does next with its connection raises ConnectionStateError, the commit, too.
        """
        if self.closed:
            return
        self.closed = True
        self._shared.forget_members()
        for conn in self._all_connections():
            group = conn._set
            manager = conn.transaction_manager
            if manager is not None:
                for member in list(group.members.values()):
                    # So that the abort doesn't begin anything anew.
                    member.explicit_transactions = True
                group.leave(manager)
                if not conn._is_used_elsewhere():
                    with contextlib.suppress(NoTransaction):
                        manager.abort()
            self._shared.release(group)
        self._mvcc_storage.close()
        self.databases = {}


def _made_storage(path: str | os.PathLike[str] | None, arguments: dict[str, Any]) -> Any:
    # Not at the top: storages are a layer of their own, and needn't be loaded
    # by those who bring theirs.
    if path is None:
        from perdure.storage.mapping import MappingStorage

        return MappingStorage(**arguments)
    from perdure.storage.file import FileStorage

    return FileStorage(os.fspath(path), **arguments)


def connection(*args: Any, **kw: Any) -> Connection:
    """Make a database from the arguments and return a connection to it.

    Closing the connection closes the database.
    """
    return DB(*args, **kw).open_then_close_db_when_connection_closes()
