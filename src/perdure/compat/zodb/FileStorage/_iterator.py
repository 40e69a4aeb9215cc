"""Walking over a data file by its name."""

from typing import TYPE_CHECKING, Any

from perdure.ids import Tid
from perdure.storage import FileStorage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FileIterator"]


class FileIterator:
    """Walks over the transactions of the data file *filename*, which is only read.

    *start* and *stop* are the first and last tid to be met. The file stays open until
    `close`, or until the walk is over.
    """

    def __init__(
        self, filename: str, start: Tid | None = None, stop: Tid | None = None, pos: int = 0
    ) -> None:
        del pos
        self._storage: FileStorage | None = FileStorage(filename, read_only=True)
        self._file_name = filename
        self._transactions = self._storage.iterator(start, stop)

    def __iter__(self) -> "FileIterator":
        return self

    def __next__(self) -> Any:
        if self._storage is None:
            raise StopIteration
        try:
            return next(self._transactions)
        except StopIteration:
            self.close()
            raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        storage, self._storage = self._storage, None
        if storage is not None:
            storage.close()
