"""Export files: an object with all that it refers to, in a file of its own.

The format is that of ZODB's export files (`.zexp`), both ways.
"""

from perdure.exportimport.connections import ExportImport
from perdure.exportimport.format import BLOB_MARKER, END_MARKER, MAGIC

__all__ = ["BLOB_MARKER", "END_MARKER", "MAGIC", "ExportImport"]
