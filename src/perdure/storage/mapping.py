"""The storage in memory."""

from perdure import _native
from perdure.storage.engine import EngineStorage

__all__ = ["MappingStorage"]


class MappingStorage(EngineStorage):
    """A storage that keeps its records in memory, with history, as a file storage does.

    What it holds is gone when it is closed.

    Args:
        name: what `getName` and `sortKey` return.
    """

    def __init__(self, name: str = "MappingStorage") -> None:
        super().__init__(_native.Storage.in_memory(name), name)
        self._opened = True

    def opened(self) -> bool:
        """Tell whether the storage is open."""
        return self._opened

    def close(self) -> None:
        """Close the storage; what it holds is gone."""
        self._opened = False
        super().close()

    def cleanup(self) -> None:
        """Do nothing: there are no files to be removed."""
