"""Looking at a past state of any storage."""

from typing import Any

from perdure.errors import POSKeyError, ReadOnlyError
from perdure.ids import Oid, Tid
from perdure.interfaces import IMVCCStorage
from perdure.mvcc.face import StorageFace
from perdure.utils import before2at

__all__ = ["HistoricalView"]


def _read_only(_self: Any, *_args: Any, **_kwargs: Any) -> Any:
    """Raise ReadOnlyError: this is a view of a past state."""
    raise ReadOnlyError("a past state can't be changed")


class HistoricalView(StorageFace):
    """A storage as it was before a tid."""

    def __init__(self, storage: Any, before: Tid) -> None:
        super().__init__(storage)
        self._before = before

    def isReadOnly(self) -> bool:
        """Return True."""
        return True

    def supportsUndo(self) -> bool:
        """Return False."""
        return False

    def release(self) -> None:
        """Give back what the view holds."""
        if IMVCCStorage.providedBy(self._storage):
            self._storage.release()

    close = release

    def sync(self, force: bool = True) -> None:
        """Do nothing: the past doesn't change."""

    def poll_invalidations(self) -> list[Oid]:
        """Return an empty list: the past doesn't change."""
        return []

    def load(self, oid: Oid) -> tuple[bytes, Tid]:
        """Return data and serial of *oid* as it was, or raise POSKeyError."""
        found = self.loadBefore(oid, self._before)
        if found is None:
            raise POSKeyError(oid, tid=before2at(self._before))
        return found[0], found[1]

    new_oid = store = storeBlob = pack = undo = deleteObject = _read_only
    tpc_begin = tpc_vote = tpc_finish = _read_only

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing: nothing can have been stored."""
