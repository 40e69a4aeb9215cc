"""ZEO: stock ZODB's client and server, the server a process of its own behind a Unix socket."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any

import ZODB
import ZODB.FileStorage
import ZODB.serialize
from ZEO.ClientStorage import ClientStorage

from benchmarks.peers import ZEO, Peer

_START_SECONDS_MAX = 300
_SOCKETS = gettempdir()
"""Not beside the data: a socket's path has to be short."""


def peer(until: ExitStack) -> Peer:
    """Return the peer; each data file's server runs to the end of *until*."""
    addresses: dict[Path, str] = {}

    def storage(path: Path, **options: Any) -> Any:
        if path not in addresses:
            addresses[path] = _serve(path, until, options.get("blob_dir"))
        if "blob_dir" in options:
            options["shared_blob_dir"] = True
        return ClientStorage(addresses[path], wait_timeout=_START_SECONDS_MAX, **options)

    return Peer(ZEO, storage, ZODB.DB, ZODB.serialize.referencesf)


def _serve(path: Path, until: ExitStack, blob_directory: str | None) -> str:
    """Start a server for the data file; return its socket's path."""
    place = Path(mkdtemp(prefix="zeo", dir=_SOCKETS))
    address, configured = place / "socket", place / "zeo.conf"
    blobs = f"blob-dir {blob_directory}\n" if blob_directory else ""
    configured.write_text(
        f"<zeo>\naddress {address}\n</zeo>\n"
        f"<filestorage>\npath {path}\n{blobs}</filestorage>\n"
        "<eventlog>\nlevel error\n<logfile>\npath STDERR\n</logfile>\n</eventlog>\n",
        encoding="utf-8",
    )
    server = subprocess.Popen([sys.executable, "-m", "ZEO.runzeo", "-C", str(configured)])
    until.callback(_stop, server, place)
    return str(address)


def _stop(server: "subprocess.Popen[bytes]", place: Path) -> None:
    server.terminate()
    server.wait()
    for each in place.iterdir():
        each.unlink()
    place.rmdir()
