"""``undoInfo`` for storages that only have ``undoLog``."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["UndoLogCompatible"]

Description = Mapping[str, Any]


class UndoLogCompatible:
    """Base class that adds `undoInfo` to a storage with a method ``undoLog``."""

    undoLog: Callable[..., Any]

    def undoInfo(
        self, first: int = 0, last: int = -20, specification: Description | None = None
    ) -> Any:
        """Return the descriptions that agree with each item of *specification*."""
        if not specification:
            return self.undoLog(first, last, None)
        wanted = dict(specification)

        def agrees(description: Description) -> bool:
            return wanted.items() <= {name: description.get(name) for name in wanted}.items()

        return self.undoLog(first, last, agrees)
