"""Export files: an object with all that it refers to, in a file of its own.

The format is that of ZODB's export files (`.zexp`), both ways.
"""

from typing import TYPE_CHECKING

from perdure._lazy import importing_late
from perdure.exportimport.connections import ExportImport

if TYPE_CHECKING:
    from perdure.exportimport.format import BLOB_MARKER, END_MARKER, MAGIC

__all__ = ["BLOB_MARKER", "END_MARKER", "MAGIC", "ExportImport"]

__getattr__ = importing_late(
    __name__,
    dict.fromkeys(("BLOB_MARKER", "END_MARKER", "MAGIC"), "perdure.exportimport.format"),
    ("exporting", "format", "importing"),
)
