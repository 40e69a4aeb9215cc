"""Which names classes go by inside records.

Records carry the names that stock ZODB writes, whichever package reads or wrote them: a blob is
`ZODB.blob.Blob` in the file and `perdure.blob.Blob` in the process. Neither side needs the other
installed. `zodbpickle.binary` in a record is read as `bytes`.
"""

from typing import Final

_MODULES_IN_RECORDS: Final = {
    "perdure.blob": "ZODB.blob",
    "perdure.broken": "ZODB.broken",
    "perdure.errors": "ZODB.POSException",
    "perdure.interfaces": "ZODB.interfaces",
    "perdure.persistentclass": "ZODB.persistentclass",
}
_MODULES_IN_PROCESS: Final = {stored: own for own, stored in _MODULES_IN_RECORDS.items()}
_GLOBALS_IN_PROCESS: Final = {("zodbpickle", "binary"): ("builtins", "bytes")}


def stored_name(module: str, name: str) -> tuple[str, str]:
    """Return the module and name that a record carries for the global *module*.*name*."""
    return _MODULES_IN_RECORDS.get(module, module), name


def process_name(module: str, name: str) -> tuple[str, str]:
    """Return where this process finds what a record calls *module*.*name*."""
    renamed = _GLOBALS_IN_PROCESS.get((module, name))
    if renamed is not None:
        return renamed
    return _MODULES_IN_PROCESS.get(module, module), name
