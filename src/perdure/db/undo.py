"""Undo as part of a transaction."""

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import transaction
from transaction._transaction import Status

from perdure.connection.metadata import TransactionMetaData
from perdure.connection.once import require_once
from perdure.errors import ConflictError, MultipleUndoErrors, ReadOnlyError, UndoError
from perdure.ids import Oid
from perdure.storage.joint import JointCommit
from perdure.storage.undo import UndoStep, tid_of_undo_id
from perdure.storage.view import EngineView

if TYPE_CHECKING:
    from perdure.db.undoreferences import Problem, UndoReferences

__all__ = ["TransactionalUndo", "planned_undo"]


class _UndoJudge:
    """Has no undo leave references that lead nowhere, and conflicts name the database (`Judge`)."""

    def __init__(self, database_name: str) -> None:
        self._database_name = database_name
        self.references: UndoReferences | None = None

    def __call__(self, draft: Any) -> None:
        """Raise UndoError for references that would lead nowhere."""
        if self.references is None:
            return
        problems = self.references.problems(settled=True)
        if len(problems) == 1:
            raise UndoError(problems[0][1], problems[0][0])
        if problems:
            raise MultipleUndoErrors(problems)

    def describe(self, error: ConflictError) -> None:
        """Have a conflict name the database."""
        error.describe(database=self._database_name)

    def is_content(self) -> bool:
        """Tell whether nothing is undone: what else there is was there before."""
        return self.references is None


class TransactionalUndo:
    """A resource of a transaction that undoes others when it commits."""

    def __init__(
        self, database: Any, ids: Sequence[bytes], oids: Container[Any] | None = None
    ) -> None:
        self._database = database
        self._undone = [(each, oids) for each in ids]
        self._view: Any = None
        self._meta: TransactionMetaData | None = None
        self._joint: JointCommit | None = None
        self._judge = _UndoJudge(database.database_name)

    def join(self, transaction: Any) -> None:
        """Become part of *transaction*, with what that undoes in the database already.

        There, the storage's lock can be had only once, and an undo builds on those before it.
        """
        if transaction.status == Status.ACTIVE:
            for resource in getattr(transaction, "_resources", ()):
                if type(resource) is type(self) and resource._database is self._database:
                    resource._undone += self._undone
                    return
        transaction.join(self)

    @property
    def _written_database(self) -> Any:
        """The database, once it is told; else None."""
        return None if self._view is None else self._database

    def steps(self) -> list[UndoStep]:
        """Say what it would do, but for references that would lead nowhere."""
        storage = self._database._mvcc_storage
        return [step for undone in self._undone for step in storage.undo_plan(*undone)]

    def sortKey(self) -> str:
        """Return the place among the resources of the transaction."""
        return f"{self._database._mvcc_storage.sortKey()}:{id(self)}"

    def abort(self, transaction: Any) -> None:
        """Do nothing: nothing has happened yet."""

    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        require_once(self._database, transaction)
        self._meta = TransactionMetaData(
            transaction.user, transaction.description, transaction.extension
        )
        self._view = self._database._mvcc_storage.undo_instance()
        self._joint = self._database._shared.joint_commit(transaction)
        if isinstance(self._view, EngineView):
            self._view.judge = self._judge
        self._view.tpc_begin(self._meta)
        if self._joint is not None:
            self._joint.join(self._view)

    def commit(self, transaction: Any) -> None:
        """Undo; raises UndoError where that isn't possible."""
        for transaction_id, oids in self._undone:
            if oids is None:
                self._view.undo(transaction_id, self._meta)
            else:
                self._view.undo(transaction_id, self._meta, oids)
        is_checked = self._database.check_references and isinstance(self._view, EngineView)
        if is_checked and self._undone:
            # Late: a program that undoes nothing needs no memory for it.
            from perdure.db.undoreferences import UndoReferences

            since = min(tid_of_undo_id(each) for each, _oids in self._undone)
            references = UndoReferences(self._database, self._view, since, self._joint)
            references.look()
            self._judge.references = references

    def problems(self) -> "list[Problem]":
        """Return what would keep the vote from succeeding, as things are now."""
        references = self._judge.references
        return [] if references is None else references.problems(settled=False)

    def tpc_vote(self, transaction: Any) -> None:
        """Get ready to finish."""
        try:
            self._view.tpc_vote(self._meta)
        except ConflictError as error:
            # Another member's, met in this one's turn, has its name already.
            error.describe(database=self._database.database_name)
            raise

    def tpc_finish(self, transaction: Any) -> None:
        """Make it permanent."""
        try:
            self._view.tpc_finish(self._meta)
        finally:
            self._release()

    def tpc_abort(self, transaction: Any) -> None:
        """Leave everything as it was."""
        if self._view is None:
            return
        try:
            self._view.tpc_abort(self._meta)
        finally:
            if self._joint is not None:
                self._joint.let_go()
            self._release()

    def _release(self) -> None:
        # Released, not closed: closing could change what others see.
        view, self._view = self._view, None
        view.release()


def planned_undo(undos: Sequence[TransactionalUndo]) -> list[list[UndoStep]]:
    """Say what undos that one transaction would make do, object by object; nothing is changed."""
    steps = [undo.steps() for undo in undos]
    if any(step.effect == "impossible" for each in steps for step in each):
        return steps
    current = transaction.TransactionManager().begin()
    try:
        for undo in undos:
            undo.tpc_begin(current)
        for undo in undos:
            undo.commit(current)
        problems = [undo.problems() for undo in undos]
    except ReadOnlyError:
        return steps
    finally:
        for undo in undos:
            undo.tpc_abort(current)
    return [
        [_with_reason(step, dict(reversed(found))) for step in each]
        for each, found in zip(steps, problems, strict=True)
    ]


def _with_reason(step: UndoStep, reasons: Mapping[Oid, str]) -> UndoStep:
    reason = reasons.get(step.oid)
    return step if reason is None else step._replace(effect="impossible", reason=reason)
