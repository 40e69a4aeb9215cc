"""How blob files are spread over directories."""

import os
import re
from typing import Final

from perdure._folders import sync_folder
from perdure.errors import StorageError
from perdure.ids import Oid, Tid, oid_repr, repr_to_oid, tid_repr

__all__ = [
    "BLOB_SUFFIX",
    "LAYOUTS",
    "LAYOUT_MARKER",
    "BushyLayout",
    "LawnLayout",
    "auto_layout_select",
    "mark_layout",
    "marked_layout",
]

BLOB_SUFFIX: Final = ".blob"
_BETWEEN: Final = f"{os.sep}0x"
_NAME_CHARACTERS_MAX: Final = 64

LAYOUT_MARKER: Final = ".layout"
"""The file in a blob directory that names its layout."""


class BushyLayout:
    """One level of directories for each byte of the oid: none of them grows large."""

    _pattern = re.compile(r"(?:0x[0-9a-f]{2}/){7}0x[0-9a-f]{2}")

    def oid_to_path(self, oid: Oid) -> str:
        """Return the directory of an object's blobs, relative to the blob directory."""
        digits = oid.hex("/")
        return f"0x{digits.replace('/', _BETWEEN)}"

    def path_to_oid(self, path: str) -> Oid:
        """Return the oid whose directory *path* is; ValueError if it isn't one's."""
        plain = path.replace(os.path.sep, "/")
        if not self._pattern.fullmatch(plain):
            raise ValueError(f"not the directory of an object's blobs: {path!r}")
        return Oid(bytes.fromhex(plain.replace("0x", "").replace("/", "")))

    def getBlobFilePath(self, oid: Oid, tid: Tid) -> str:
        """Return the file of one revision of a blob, relative to the blob directory."""
        return f"{self.oid_to_path(oid)}{os.sep}{tid_repr(tid)}{BLOB_SUFFIX}"


class LawnLayout(BushyLayout):
    """One directory for each object, all beside one another: for what exists already."""

    def oid_to_path(self, oid: Oid) -> str:
        """Return the directory of an object's blobs, relative to the blob directory."""
        return oid_repr(oid)

    def path_to_oid(self, path: str) -> Oid:
        """Return the oid whose directory *path* is; ValueError if it isn't one's."""
        if re.fullmatch("0x[0-9a-f]{2,16}", path) and len(path) % 2 == 0:
            return repr_to_oid(path)
        raise ValueError(f"not the directory of an object's blobs: {path!r}")


LAYOUTS: dict[str, BushyLayout] = {"bushy": BushyLayout(), "lawn": LawnLayout()}
"""The layouts by name."""


def marked_layout(path: str) -> str | None:
    """Return what the marker in a blob directory says; None where there is none, or an empty one.

    ZODB does not make it durable: a power loss can leave it without what was written to it.
    StorageError where it names no layout.
    """
    marker = os.path.join(path, LAYOUT_MARKER)
    try:
        with open(marker, encoding="ascii", errors="replace") as file:
            name = file.read(_NAME_CHARACTERS_MAX).strip()
    except FileNotFoundError:
        return None
    if name and name not in LAYOUTS:
        raise StorageError(
            f"{marker} names no layout: {name!r} ({', '.join(LAYOUTS)}): restore it from a backup, "
            "or remove it if the folders of blobs beside it tell"
        )
    return name or None


def mark_layout(path: str, name: str) -> None:
    """Write the marker of a blob directory; it is whole, and durable, or not there."""
    marker = os.path.join(path, LAYOUT_MARKER)
    with open(f"{marker}.new", "w", encoding="ascii") as file:
        file.write(name)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{marker}.new", marker)
    sync_folder(path)


def auto_layout_select(path: str) -> str:
    """Return the name of the layout that the blob directory at *path* has, or should get.

    It is what the marker in it says. A directory without marker is as old as the lawn
    layout, if there is something in it, unless a power loss took the marker; else it is new.
    """
    marked = marked_layout(path)
    if marked:
        return marked
    names = os.listdir(path) if os.path.isdir(path) else []
    used = [name for name in names if not name.startswith(".") and name != "tmp"]
    return "lawn" if used and not any(_holds_bushes(path, name) for name in used) else "bushy"


def _holds_bushes(path: str, name: str) -> bool:
    """Tell whether there are directories in a directory of a blob directory: no lawn has any."""
    inside = os.path.join(path, name)
    if not os.path.isdir(inside):
        return False
    with os.scandir(inside) as entries:
        return any(entry.is_dir() for entry in entries)
