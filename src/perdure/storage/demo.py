"""Changes laid over a base storage that stays as it is."""

import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from zope.interface import alsoProvides

from perdure.ids import Oid, Tid, p64, u64
from perdure.interfaces import IBlobStorage, IStorageUndoable
from perdure.storage._overlay import Overlay
from perdure.storage._overlay_records import record_at
from perdure.storage._overlay_running import Running
from perdure.storage._planning import IPlansUndo
from perdure.storage.mapping import MappingStorage
from perdure.storage.undo import UndoStep, class_name_of

__all__ = ["DemoStorage", "DemoStorage2"]

_OIDS = 1 << 62
_FIRST_NEW_OID = 1 << 63


class _UndoableOverlay(Overlay):
    """An overlay whose changes can be undone, where the changes can undo.

    Undoing is the changes' own: an object whose first change is undone is as the base
    has it again.
    """

    def __init__(self, base: Any, changes: Any) -> None:
        super().__init__(base, changes)
        if self.supportsUndo():
            alsoProvides(self, IStorageUndoable)
            if IPlansUndo.providedBy(changes):
                alsoProvides(self, IPlansUndo)

    @property
    def supportsUndo(self) -> Callable[[], bool]:
        """Tells whether the transactions in the changes can be undone: the changes' method."""
        own: Callable[[], bool] = getattr(self.changes, "supportsUndo", _no)
        return own

    @property
    def undoLog(self) -> Callable[..., Sequence[Mapping[str, Any]]]:
        """Describes the transactions in the changes: the changes' method."""
        log: Callable[..., Sequence[Mapping[str, Any]]] = self.changes.undoLog
        return log

    @property
    def undoInfo(self) -> Callable[..., Sequence[Mapping[str, Any]]]:
        """Describes those that are like a given description: the changes' method."""
        info: Callable[..., Sequence[Mapping[str, Any]]] = self.changes.undoInfo
        return info

    @property
    def undo(self) -> Callable[..., tuple[Tid | None, list[Oid]]]:
        """Undoes a transaction in the changes: the changes' method."""
        undo: Callable[..., tuple[Tid | None, list[Oid]]] = self.changes.undo
        return undo

    def undo_plan(
        self, transaction_id: bytes, oids: Container[Oid] | None = None
    ) -> list[UndoStep]:
        """Say what undoing a transaction in the changes would do, where they can tell."""
        steps: list[UndoStep] = self.changes.undo_plan(transaction_id, oids)
        return [self._as_seen_here(step) for step in steps]

    def _as_seen_here(self, step: UndoStep) -> UndoStep:
        """Return what a step in the changes does to the object as it is seen over the base."""
        back = step.effect == "removed" and self._is_in_base(step.oid)
        return step._replace(
            class_name=class_name_of(self, step.oid),
            effect="restored" if back else step.effect,
        )

    def _pack_changes(
        self, t: float, referencesf: Any, gc: bool | None, progress: Any, *, alone: bool
    ) -> None:
        """Pack the changes; unless they stand *alone*, keep what the base may refer to."""
        options = {} if progress is None else {"progress": progress}
        if alone:
            self.changes.pack(t, referencesf, *(() if gc is None else (gc,)), **options)
            return
        if gc:
            raise TypeError(
                f"{self.getName()}: objects in the changes may be referred to by the base alone, "
                "so there is no collecting garbage; pack with gc=False"
            )
        self.changes.pack(t, referencesf, gc=False, **options)
        # The revision that undid the first change to an object of the base may be gone; the
        # base's own has another serial.
        if self._above is not None:
            self._above.invalidateCache()


def _no() -> bool:
    return False


class DemoStorage(_UndoableOverlay):
    """A storage that keeps what changes in *changes* and never writes to *base*.

    Either is a `MappingStorage` of its own where it isn't given; changes made that way
    keep blobs in a temporary directory. A layer that was given is closed with this
    storage, unless *close_base_on_close* or *close_changes_on_close* says otherwise.
    """

    def __init__(
        self,
        name: str | None = None,
        base: Any = None,
        changes: Any = None,
        close_base_on_close: bool | None = None,
        close_changes_on_close: bool | None = None,
    ) -> None:
        self._base_is_ours = base is None
        self._changes_are_ours = changes is None
        super().__init__(
            MappingStorage() if base is None else base,
            MappingStorage() if changes is None else changes,
        )
        self.close_base_on_close = _given(close_base_on_close, otherwise=base is not None)
        self.close_changes_on_close = _given(close_changes_on_close, otherwise=changes is not None)
        if self._changes_are_ours:
            alsoProvides(self, IBlobStorage)
        layers = f"{self.base.getName()!r}, {self.changes.getName()!r}"
        self.__name__ = f"DemoStorage({layers})" if name is None else name
        self._opened = True
        # Oids given out whose objects aren't committed.
        self._issued_oids: set[Oid] = set()
        self._next_oid = random.randint(1, _OIDS)  # noqa: S311 - only to be unlikely

    def __repr__(self) -> str:
        return self.__name__

    def getName(self) -> str:
        """Return the storage's name."""
        return self.__name__

    def opened(self) -> bool:
        """Tell whether the storage is open."""
        return self._opened

    def close(self) -> None:
        """Close the storage, and those of its layers that it is to close."""
        self._opened = False
        if self.close_base_on_close:
            self.base.close()
        if self.close_changes_on_close:
            self.changes.close()

    def cleanup(self) -> None:
        """Remove the files of both layers (a service for tests)."""
        self.base.cleanup()
        self.changes.cleanup()

    def push(self, changes: Any = None) -> "DemoStorage":
        """Return a storage of *changes* over this one, which it doesn't close."""
        return type(self)(base=self, changes=changes, close_base_on_close=False)

    def pop(self) -> Any:
        """Close the changes and return the base."""
        self.changes.close()
        return self.base

    def new_oid(self) -> Oid:
        """Return an oid that neither layer has."""
        with self._lock:
            while True:
                oid = Oid(p64(self._next_oid))
                if oid not in self._issued_oids and not self._is_used(oid):
                    self._next_oid += 1
                    self._issued_oids.add(oid)
                    return oid
                self._next_oid = random.randint(1, _OIDS)  # noqa: S311

    def _finished(self, running: Running) -> None:
        # After an abort the oids stay given out: their objects may be stored again.
        with self._lock:
            self._issued_oids -= running.oids

    def pack(
        self,
        t: float,
        referencesf: Callable[..., Any],
        gc: bool | None = None,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        """Pack the changes to the time *t* (seconds since the epoch).

        Objects that nothing refers to are only dropped where there is no base to
        refer to them; to ask for it otherwise (*gc* True) is a TypeError.
        """
        self._pack_changes(t, referencesf, gc, progress, alone=self._base_is_ours)

    def _blob_changes(self) -> Any:
        if self._changes_are_ours and not IBlobStorage.providedBy(self.changes):
            from perdure.blob import BlobStorage  # made where the first blob is met

            directory = tempfile.mkdtemp(".demoblobs")
            weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
            self.changes = BlobStorage(directory, self.changes)
        return self.changes


class DemoStorage2(_UndoableOverlay):
    """A storage of *changes* over *base* that gives out new oids in sequence.

    The oids of the base are below 2**63, new ones begin there: a new oid can't meet
    one of the base. Over another `DemoStorage2` they go on where its own end.
    """

    def __init__(self, base: Any, changes: Any) -> None:
        super().__init__(base, changes)
        self._next_oid = max(_next_oid_over(base), _next_oid_of(changes))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.getName()}>"

    def getName(self) -> str:
        """Return the names of both layers."""
        return f"DemoStorage2({self.base.getName()}, {self.changes.getName()})"

    def close(self) -> None:
        """Close both layers."""
        self.base.close()
        self.changes.close()

    def new_oid(self) -> Oid:
        """Return the next oid."""
        with self._lock:
            # The changes know what was stored in them that wasn't given out here.
            number = max(self._next_oid, u64(self.changes.new_oid()))
            self._next_oid = number + 1
        return Oid(p64(number))

    def pack(
        self,
        t: float,
        referencesf: Callable[..., Any],
        gc: bool | None = None,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        """Pack the changes; objects that nothing refers to stay (*gc* True: TypeError)."""
        self._pack_changes(t, referencesf, gc, progress, alone=False)


def _next_oid_over(storage: Any) -> int:
    """Return the first oid that no `DemoStorage2` in *storage*, the layers below it, gave out."""
    if isinstance(storage, DemoStorage2):
        return storage._next_oid
    layers = (getattr(storage, name, None) for name in ("base", "changes"))
    return max(
        (_next_oid_over(layer) for layer in layers if layer is not None), default=_FIRST_NEW_OID
    )


def _next_oid_of(changes: Any) -> int:
    """Return an oid from which on the changes have none."""
    if not changes.isReadOnly():
        return u64(changes.new_oid())
    found = record_at(changes, p64(_FIRST_NEW_OID))
    last = found
    while found is not None:
        last = found
        found = None if found.following is None else record_at(changes, found.following)
    return _FIRST_NEW_OID if last is None else u64(last.oid) + 1


def _given(choice: bool | None, *, otherwise: bool) -> bool:
    return otherwise if choice is None else choice
