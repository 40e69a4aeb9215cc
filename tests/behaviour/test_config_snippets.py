"""Pieces of configuration as ZODB's documentation prints them: each loads as it stands."""

from pathlib import Path

import pytest
import ZConfig

from perdure.config import (
    databaseFromFile,
    databaseFromString,
    databaseFromURL,
    getDbSchema,
    storageFromString,
)
from perdure.db import DB
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_database_in_memory() -> None:
    db = databaseFromString(
        """<zodb>
cache-size-bytes 100MB
<mappingstorage>
</mappingstorage>
</zodb>
"""
    )
    assert type(db.storage) is MappingStorage
    assert db.getCacheSizeBytes() == 100 * 1024 * 1024
    db.close()


def test_two_databases_that_know_each_other() -> None:
    db = databaseFromString(
        """<zodb first>
cache-size-bytes 100MB
<mappingstorage>
</mappingstorage>
</zodb>
<zodb second>
<mappingstorage>
</mappingstorage>
</zodb>
"""
    )
    assert db.database_name == "first"
    assert sorted(db.databases) == ["first", "second"]
    for member in list(db.databases.values()):
        member.close()


def test_a_file_storage(here: Path) -> None:
    storage = storageFromString("<filestorage>\npath Data.fs\n</filestorage>\n")
    assert type(storage) is FileStorage
    assert (here / "Data.fs").exists()
    storage.close()


def test_a_mapping_storage() -> None:
    storage = storageFromString("<mappingstorage>\n</mappingstorage>\n")
    assert storage.getName() == "Mapping Storage"


def test_a_demo_storage(here: Path) -> None:
    FileStorage("base.fs").close()
    storage = storageFromString(
        """<demostorage>
<filestorage base>
path base.fs
</filestorage>
<mappingstorage changes>
name Changes
</mappingstorage>
</demostorage>
"""
    )
    assert type(storage) is DemoStorage
    assert (storage.base.getName(), storage.changes.getName()) == ("base.fs", "Changes")
    storage.close()


def test_a_file_of_a_database_in_a_file(here: Path) -> None:
    (here / "test.conf").write_text(
        f"""<zodb>
<filestorage>
path {here}/test-filestorage.fs
</filestorage>
</zodb>
"""
    )
    db = databaseFromURL(str(here / "test.conf"))
    conn = db.open()
    assert conn.root() == {}
    conn.close()
    db.close()
    assert (here / "test-filestorage.fs").exists()


def test_a_database_with_a_name_whose_storage_has_one_too(here: Path) -> None:
    (here / "refdb.conf").write_text(
        """<zodb main>
<filestorage 1>
path refdb.fs
</filestorage>
</zodb>
"""
    )
    with (here / "refdb.conf").open() as file:
        db = databaseFromFile(file)
    assert (type(db), db.database_name) == (DB, "main")
    db.close()


def test_a_demo_storage_with_oids_of_its_own(here: Path) -> None:
    FileStorage("base.fs").close()
    storage = storageFromString(
        """
 %import zc.demostorage2
 <demostorage2>
    <filestorage base>
       path base.fs
    </filestorage>
    <filestorage changes>
       path changes.fs
    </filestorage>
 </demostorage2>
 """
    )
    assert repr(storage) == "<DemoStorage2: DemoStorage2(base.fs, changes.fs)>"
    storage.close()


CLIENT = """<zodb>
<zeoclient>
server localhost:9100
</zeoclient>
</zodb>
"""

CLIENT_WITH_BLOBS = """<zodb main>
<zeoclient>
blob-dir var/blobstorage
shared-blob-dir yes
server 127.0.0.1:8100
storage 1
name zeostorage
var var
</zeoclient>
</zodb>
"""


@pytest.mark.parametrize(
    ("text", "address"), [(CLIENT, ("localhost", 9100)), (CLIENT_WITH_BLOBS, ("127.0.0.1", 8100))]
)
def test_a_client_of_a_server(here: Path, text: str, address: tuple[str, int]) -> None:
    pytest.importorskip("ZEO")
    (here / "var").mkdir()
    (here / "zeo.conf").write_text(text)
    config, _ = ZConfig.loadConfig(getDbSchema(), str(here / "zeo.conf"))
    (database,) = config.database
    (server,) = database.config.storage.config.server
    assert server.address == address


def test_a_client_of_a_server_is_opened_from_its_file(here: Path) -> None:
    ZEO = pytest.importorskip("ZEO")
    (host, port), stop = ZEO.server(str(here / "served.fs"))
    try:
        text = CLIENT.replace("localhost:9100", f"{host or 'localhost'}:{port}")
        (here / "zeo.conf").write_text(text)
        db = databaseFromURL(str(here / "zeo.conf"))
        with db.transaction() as connection:
            connection.root.x = 1
        with db.transaction() as connection:
            assert connection.root.x == 1
        db.close()
    finally:
        stop()
