"""The connection: one consistent view of a database, with its object cache."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import transaction
from persistent import PickleCache
from persistent.interfaces import IPersistentDataManager
from transaction.interfaces import ISavepointDataManager, ISynchronizer
from zope.interface import implementer

from perdure.connection.adding import Adding
from perdure.connection.closed import ClosedStorage
from perdure.connection.committing import Committing
from perdure.connection.group import ConnectionSet
from perdure.connection.integrity import ConnectionJudge
from perdure.connection.reading import Reading
from perdure.connection.snapshot import _Resets
from perdure.exportimport import ExportImport
from perdure.ids import Tid
from perdure.interfaces import IConnection
from perdure.serialize import ConnectionBase
from perdure.storage.view import EngineView

if TYPE_CHECKING:
    from perdure.db import DB

__all__ = ["Connection"]

logger = logging.getLogger("perdure.connection")


def _call_logged(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:
        logger.exception("Close callback failed for %r", callback)


@implementer(IConnection, ISavepointDataManager, IPersistentDataManager, ISynchronizer)
class Connection(Adding, Reading, Committing, ExportImport):
    """One consistent view of a database, with its object cache.

    Made by `DB.open`; not to be used by several threads at once.  Objects that
    were loaded through one connection belong to it.
    """

    def __init__(
        self,
        db: "DB",
        cache_size: int = 400,
        before: Tid | None = None,
        cache_size_bytes: int = 0,
    ) -> None:
        """Make a closed connection to *db*.

        *cache_size* (objects) and *cache_size_bytes* (0: no limit) are what the
        cache shrinks to between transactions; *before* makes it a view of the
        state before that tid.
        """
        self._db = db
        self._allowed = db._allowed
        self.before = before
        self.large_record_size = db.large_record_size
        self._cache = PickleCache(self, cache_size, cache_size_bytes)
        self._set = ConnectionSet(self)
        self.connections = self._set.members
        adapter = db._mvcc_storage
        view = adapter.before_instance(before) if before else adapter.new_instance()
        self._storage = self._normal_storage = view
        self._savepoint_storage = None
        if isinstance(view, EngineView):
            view.judge = ConnectionJudge(self)
        # Databases of others' making may lack what is perdure's own.
        self._unflagged = getattr(db, "_unflagged", None) if before is None else None
        self._start_without_transaction()
        self._load_count = 0
        self._store_count = 0
        self._resets_seen = _Resets.count
        self._close_callbacks = []
        self._debug_info = ()

    # `persistent` looks these up by a name of its own making at every load and first change,
    # which Python finds by walking the classes from here: in the first one, it is quickly there.
    setstate = ConnectionBase.setstate
    register = ConnectionBase.register

    def _start_without_transaction(self) -> None:
        self.opened = None
        self.transaction_manager = None
        self._user = None
        self.explicit_transactions = False
        self._in_transaction = False
        self._needs_to_join = True
        self._registered_objects = []
        self._added = {}
        self._added_during_commit = None
        self._arrived = []
        self._creating = {}
        self._readCurrent = {}
        self._missing = []
        self._foreign_targets = {}
        self._commit_running = None
        self._own_commit = None

    def __repr__(self) -> str:
        past = f" before {self.before.hex()}" if self.before else ""
        return f"<Connection at {id(self):#x} to {self._db.database_name!r}{past}>"

    def db(self) -> "DB":
        """Return the database."""
        return self._db

    def open(self, transaction_manager: Any = None) -> None:
        """Put the connection to work, with all of its set (called by `DB.open`).

        *transaction_manager* defaults to that of the thread.
        """
        if transaction_manager is None:
            # The thread's own manager, not the thread-local face of all of them:
            # the connection may be closed from another thread.
            transaction_manager = transaction.manager.manager
        self._set.open(self, transaction_manager)

    def _start(self, transaction_manager: Any) -> None:
        self._reset_cache_if_asked()
        self.transaction_manager = transaction_manager
        self.explicit_transactions = getattr(transaction_manager, "explicit", False)
        self.opened = time.time()
        self._user = threading.current_thread()
        self._cache.incrgc()

    def onCloseCallback(self, f: Callable[[], object]) -> None:
        """Have *f* called by the next `close`, once."""
        self._close_callbacks.append(f)

    def close(self, primary: bool = True) -> None:
        """Close the connection and all of its set, and give it back to the pool.

        Its objects can't be loaded any more, but stay in its cache for the next
        to open it.  Raises ConnectionStateError while it takes part in a
        transaction: commit or abort first.  *primary* is of no more use.
        """
        if self.opened is None:
            return
        self._set.require_closable()
        members = list(self.connections.values())
        for member in members:
            member._before_close()
        if self.opened is None:
            # A callback has closed the database.
            return
        self._set.leave(self.transaction_manager)
        for member in members:
            member._closed()
        self._db._take_back(self._set)

    def _before_close(self) -> None:
        self._cache.incrgc()
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            _call_logged(callback)

    def _closed(self) -> None:
        monitor = self._db.getActivityMonitor()
        if monitor is not None:
            monitor.closedConnection(self)
        self._normal_storage.afterCompletion()
        self._debug_info = ()
        self.transaction_manager = None
        self._user = None
        self.opened = None

    def _is_used_elsewhere(self) -> bool:
        """Tell whether another thread opened the connection, and goes on."""
        user = self._user
        return user is not None and user is not threading.current_thread() and user.is_alive()

    def _release_resources(self) -> None:
        """Give up cache and view: the connection will never be opened again."""
        self._start_without_transaction()
        if self._savepoint_storage is not None:
            self._savepoint_storage.close()
            self._savepoint_storage = None
        view = self._normal_storage
        self._storage = self._normal_storage = ClosedStorage(self._db.database_name)
        if not isinstance(view, ClosedStorage):
            view.release()
        self._cache = PickleCache(self, 0, 0)

    def getDebugInfo(self) -> tuple[Any, ...]:
        """Return what `setDebugInfo` was given since the connection was opened."""
        return self._debug_info

    def setDebugInfo(self, *args: Any) -> None:
        """Add to what `DB.connectionDebugInfo` shows for this connection."""
        self._debug_info += args
