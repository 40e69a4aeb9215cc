"""Functions that run in a transaction of their own and try again after a conflict."""

import functools
from collections.abc import Callable
from typing import TypeVar

import transaction

from perdure.errors import ConflictError, ReadConflictError

__all__ = ["transact"]

Result = TypeVar("Result")


def transact(
    f: Callable[..., Result], note: str | None = None, retries: int = 5
) -> Callable[..., Result]:
    """Return *f* as a function that commits what it did, noted as *note*.

    After a conflict it is called again, at most *retries* times in all; then the
    conflict's error is raised. Any other error of *f* is raised at once.
    """

    @functools.wraps(f)
    def transactional(*args: object, **kwargs: object) -> Result:
        for attempt in range(1, retries + 1):
            try:
                return _attempt(f, note, args, kwargs)
            except ConflictError:  # noqa: PERF203 - to try again is the purpose
                if attempt == retries:
                    raise
        raise RuntimeError("transact: there was to be no attempt")

    return transactional


def _attempt(
    f: Callable[..., Result], note: str | None, args: tuple[object, ...], kwargs: dict[str, object]
) -> Result:
    try:
        result = f(*args, **kwargs)
    except ReadConflictError:
        transaction.abort()
        raise
    try:
        current = transaction.get()
        if note:
            current.note(note)
        current.commit()
    except ConflictError:
        transaction.abort()
        raise
    return result
