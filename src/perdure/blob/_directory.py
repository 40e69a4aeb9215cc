"""The directory that a storage keeps its blobs in."""

import os
import re
import tempfile
from collections.abc import Iterator
from typing import Final

from perdure import _native
from perdure._folders import make_folders
from perdure.blob._files import rename_or_copy_blob
from perdure.blob._layouts import (
    BLOB_SUFFIX,
    LAYOUTS,
    auto_layout_select,
    mark_layout,
    marked_layout,
)
from perdure.ids import Oid, Tid, p64, repr_to_oid, tid_repr

__all__ = ["BlobDirectory"]

_TRIES: Final = 100
_NAME: Final = re.compile(r"0x(?:[0-9a-f]{2}){1,8}\.blob")


class BlobDirectory:
    """The blob directory *base_dir*, in stock ZODB's *layout_name* (``bushy`` or ``lawn``).

    By default the layout is the one that the directory has. `create` makes the
    directory; ValueError, where it turns out to have another layout.
    """

    def __init__(self, base_dir: str, layout_name: str = "automatic") -> None:
        self.base_dir = os.path.abspath(base_dir) + os.path.sep
        self.temp_dir = os.path.join(self.base_dir, "tmp")
        self.layout_name = (
            auto_layout_select(base_dir) if layout_name == "automatic" else layout_name
        )
        self.layout = LAYOUTS[self.layout_name]
        # Knows the directories that were made here, and whose names a crash could still take away.
        self._places = _native.BlobPlaces()

    def create(self) -> None:
        """Make the directory, and what belongs into an empty one."""
        found = marked_layout(self.base_dir)
        if not found:
            # As the data file: what blobs hold is its owner's and group's business.
            make_folders(self.base_dir, 0o770)
        os.makedirs(self.temp_dir, exist_ok=True)
        if not found:
            mark_layout(self.base_dir, self.layout_name)
        elif found != self.layout_name:
            raise ValueError(
                f"the blob directory {self.base_dir} has the layout {found!r}, "
                f"not {self.layout_name!r}"
            )

    def getPathForOID(self, oid: Oid | int, create: bool = False) -> str:
        """Return the directory of an object's blobs, made where *create* says so."""
        path = os.path.join(self.base_dir, self.layout.oid_to_path(_oid(oid)))
        if create:
            self._places.make(path)
            self.make_safe([], [path])
        return path

    def createPathForOID(self, oid: Oid | int) -> str:
        """Return the directory of an object's blobs, made where it isn't there."""
        return self.getPathForOID(oid, create=True)

    def getOIDForPath(self, path: str) -> Oid:
        """Return the oid whose directory *path* is; ValueError if it isn't one's."""
        return self.layout.path_to_oid(path[len(self.base_dir) :])

    def getBlobFilename(self, oid: Oid | int, tid: Tid | int) -> str:
        """Return the path of the file that holds one revision of a blob."""
        return self.base_dir + self.layout.getBlobFilePath(_oid(oid), _tid(tid))

    def blob_mkstemp(self, oid: Oid | int, tid: Tid) -> tuple[int, str]:
        """Return descriptor and path of a new file beside an object's blobs."""
        return tempfile.mkstemp(suffix=".tmp", prefix=tid_repr(tid), dir=self.getPathForOID(oid))

    def splitBlobFilename(self, filename: str) -> tuple[Oid, Tid] | tuple[None, None]:
        """Return the oid and tid of a blob file; two None for another file."""
        path, name = os.path.split(filename)
        if not _NAME.fullmatch(name):
            return None, None
        return self.getOIDForPath(path), Tid(repr_to_oid(name.removesuffix(BLOB_SUFFIX)))

    def listOIDs(self) -> Iterator[tuple[Oid, str]]:
        """Iterate over the objects that have blobs: oid and directory of each."""
        for path, directories, _files in os.walk(self.base_dir):
            directories.sort()
            try:
                yield self.getOIDForPath(path), path
            except ValueError:
                continue

    def getOIDsForSerial(self, search_serial: Tid) -> list[Oid]:
        """Return the oids of the blobs that one transaction wrote."""
        name = tid_repr(search_serial) + BLOB_SUFFIX
        return [oid for oid, path in self.listOIDs() if os.path.exists(os.path.join(path, name))]

    def place(self, filename: str, oid: Oid, tid: Tid) -> str:
        """Move a file to where a blob's revision belongs, safe from a crash; return the path."""
        target = self.getBlobFilename(oid, tid)
        self.move([(filename, target)])
        self.make_safe([target])
        return target

    def move(self, moves: list[tuple[str, str]]) -> None:
        """Move files, each to where it belongs as `getBlobFilename` gave it.

        A crash can take them away until `make_safe` was called for them.
        """
        done = self._places.place(moves)
        while done < len(moves):
            self._move_across(*moves[done])
            done += 1
            done += self._places.place(moves[done:])

    def _move_across(self, filename: str, target: str) -> None:
        """Move a file that can't be renamed, from another device maybe."""
        for _ in range(_TRIES):
            self._places.make(os.path.dirname(target))
            try:
                rename_or_copy_blob(filename, target)
            except FileNotFoundError:
                # A pack may just have removed the directory, which was empty.
                if not os.path.exists(filename):
                    raise
            else:
                return
        raise FileNotFoundError(f"{os.path.dirname(target)} is removed as often as it is made")

    def make_safe(self, files: list[str], directories: list[str] | None = None) -> None:
        """Wait until *files*, and the names that lead to them and *directories*, are on the disk.

        Raises OSError where that can't be; then nothing may rely on them.
        """
        self._places.make_safe(files, directories or [])


def _oid(oid: Oid | int) -> Oid:
    return Oid(p64(oid)) if isinstance(oid, int) else oid


def _tid(tid: Tid | int) -> Tid:
    return Tid(p64(tid)) if isinstance(tid, int) else tid
