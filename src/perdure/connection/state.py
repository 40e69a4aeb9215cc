"""What the parts of a connection share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.errors import ConflictError, ConnectionStateError, POSKeyError
from perdure.ids import NO_TID, Oid, Tid
from perdure.serialize import ConnectionBase

if TYPE_CHECKING:
    from threading import Thread

    from perdure.connection.commit import Commit
    from perdure.connection.group import ConnectionSet
    from perdure.connection.integrity import ForeignTargets
    from perdure.connection.savepoint import SavepointStorage
    from perdure.connection.unflagged import UnflaggedChanges
    from perdure.db import DB


class ConnectionState(ConnectionBase):
    """The attributes of a connection.

    The class `Connection` is put together from parts (reading, adding,
    committing, ...) that all work on these.
    """

    _db: "DB"
    before: Tid | None
    """The tid that a connection to a past state looks from; None: the newest state."""

    _normal_storage: Any
    """The view of the storage."""
    _storage: Any
    """The same, or what lies over it while the transaction has savepoints."""
    _savepoint_storage: "SavepointStorage | None"
    _cache: Any

    transaction_manager: Any
    """The transaction manager that the connection was opened with; None while closed."""
    explicit_transactions: bool
    """Whether every transaction has to be begun by hand."""
    _user: "Thread | None"
    """The thread that opened it; None while closed."""
    opened: float | None
    """When it was opened, in seconds since the epoch; None while closed."""
    _needs_to_join: bool
    _sort_key: str | None = None
    """What `sortKey` returns, once it was asked for."""
    _set: "ConnectionSet"
    connections: dict[str, Any]
    """The connections that were opened together, by database name."""

    _registered_objects: list[Any]
    """Objects that were changed or added since the transaction or savepoint began."""
    _added: dict[Oid, Any]
    """Objects that were added explicitly and are not serialised yet."""
    _creating: dict[Oid, bool]
    """Objects that the commit (or savepoint) creates; True: because they were reached."""
    _added_during_commit: list[Any] | None
    _arrived: list[Any]
    """New objects that other members of the set reached, and that are not serialised yet."""
    _readCurrent: dict[Oid, Tid]
    _missing: list[tuple[str, Oid, Any]]
    """What the object being serialised refers to in other members, and isn't there."""
    _foreign_targets: "dict[Any, ForeignTargets]"
    """What this transaction has come to refer to, by connection to the member that has it."""
    _commit_running: "Commit | None"
    _unflagged: "UnflaggedChanges | None"
    """What looks for unnoticed changes, if the database is opened to do so."""
    _load_count: int
    _store_count: int
    _close_callbacks: list[Callable[[], object]]
    _debug_info: tuple[Any, ...]

    large_record_size: int

    def _require_open(self) -> None:
        if self.opened is None:
            raise ConnectionStateError(
                f"The database connection is closed (to {self._db.database_name!r})"
            )

    def _describe_failure(self, error: BaseException, obj: Any) -> None:
        """Have an error that names an object name its class and database, too."""
        if isinstance(error, (POSKeyError, ConflictError)):
            cls = None if obj is None else type(obj)
            error.describe(
                database=self._db.database_name,
                class_name=None if cls is None else f"{cls.__module__}.{cls.__qualname__}",
            )

    def _describe_conflict(self, error: ConflictError) -> None:
        """Have a conflict name class and database, and its object load anew."""
        # Its member did, where it was met in another one's turn.
        if error.oid and error.database is None:
            self._describe_failure(error, self._cache.get(error.oid))
            self._cache.invalidate(error.oid)

    def _register(self, obj: Any = None) -> None:
        """Join the transaction, if that hasn't been done, and note a changed object."""
        # First join: joining may take a savepoint, which must not contain the change.
        if self._needs_to_join:
            if self.opened is None:
                self._require_open()
            self.transaction_manager.get().join(self)
            self._needs_to_join = False
        if obj is not None:
            self._registered_objects.append(obj)

    def _disown(self, obj: Any) -> None:
        """Make a new object that wasn't committed belong to no database again."""
        if obj._p_changed:
            obj._p_changed = False
        del obj._p_jar
        del obj._p_oid

    def _is_new(self, obj: Any) -> bool:
        """Tell whether no transaction has written *obj* yet."""
        return bool(getattr(obj, "_p_serial", NO_TID) == NO_TID)
