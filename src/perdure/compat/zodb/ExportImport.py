"""Export files."""

from perdure.compat._names import known_as
from perdure.errors import ExportError
from perdure.exportimport import BLOB_MARKER, END_MARKER, ExportImport

blob_begin_marker = BLOB_MARKER
export_end_marker = END_MARKER

known_as(__name__, ExportImport)
