"""The interface of what `FileStorage` takes as its ``packer``."""
# The methods of an interface have no `self`, which mypy and ruff can't know.
# mypy: disable-error-code="misc,empty-body"
# ruff: noqa: N805

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface

__all__ = ["IFileStorage", "IFileStoragePacker"]


class IFileStoragePacker(Interface):
    """Packs a file storage into a new file."""

    __module__ = "ZODB.FileStorage.interfaces"

    def __call__(
        storage: Any, referencesf: Callable[..., Any], stop: bytes, gc: bool
    ) -> tuple[int, Any] | None:
        """Write the data file packed up to the tid *stop*, as its name with ``.pack``.

        Returns the packed file's size and index, and has the commit lock then; or
        None, where there is nothing to pack. *referencesf* gives the references in a
        record; *gc* tells whether objects that nothing refers to are dropped.
        """


class IFileStorage(Interface):
    """A file storage, as far as a packer sees it."""

    __module__ = "ZODB.FileStorage.interfaces"

    packer = Attribute("What packs the storage, an `IFileStoragePacker`.")
