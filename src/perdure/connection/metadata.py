"""What a storage is told about a transaction."""

import pickle
from typing import Any

from zope.interface import implementer

from perdure.interfaces import IStorageTransactionMetaData
from perdure.storage._extension import extension_of

__all__ = ["TransactionMetaData"]


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8")


@implementer(IStorageTransactionMetaData)
class TransactionMetaData:
    """User, description and further notes of a transaction, as storages take them.

    The extension is given as a dictionary or as the pickle of one; each is made
    from the other when it is asked for.
    """

    def __init__(
        self,
        user: str | bytes = b"",
        description: str | bytes = b"",
        extension: dict[str, Any] | bytes | None = None,
    ) -> None:
        # Not by `_as_bytes`: each transaction comes by.
        self.user = user.encode() if isinstance(user, str) else user
        self.description = description.encode() if isinstance(description, str) else description
        self._dict: dict[str, Any] | None = None
        self._pickle: bytes | None = None
        if isinstance(extension, bytes):
            self._pickle = extension
        else:
            self._dict = {} if extension is None else extension
        self._kept: dict[int, Any] = {}

    @property
    def extension(self) -> dict[str, Any]:
        """The further notes as a dictionary: an empty one where they aren't plain values."""
        if self._dict is not None:
            return self._dict
        return extension_of(self._pickle or b"")

    @extension.setter
    def extension(self, value: dict[str, Any]) -> None:
        self._dict = value

    _extension = extension

    @property
    def extension_bytes(self) -> bytes:
        """The further notes as a pickle; empty when there are none."""
        if self._pickle is not None:
            return self._pickle
        return pickle.dumps(self._dict, 3) if self._dict else b""

    @extension_bytes.setter
    def extension_bytes(self, value: bytes) -> None:
        self._pickle = value

    def note(self, text: str | bytes) -> None:
        """Add *text* to the description."""
        added = _as_bytes(text).strip()
        self.description = b" ".join(filter(None, (self.description.strip(), added)))

    def set_data(self, ob: object, data: Any) -> None:
        """Keep *data* for the storage *ob* as long as the transaction runs."""
        self._kept[id(ob)] = data

    def data(self, ob: object) -> Any:
        """Return what was kept for the storage *ob*, or raise KeyError."""
        try:
            return self._kept[id(ob)]
        except KeyError:
            raise KeyError(ob) from None
