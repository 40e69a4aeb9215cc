"""Databases and storages from text configurations."""

import io
from collections import OrderedDict
from os.path import join
from pathlib import Path

import pytest
import transaction
import ZConfig

from perdure.blob import Blob
from perdure.config import (
    databaseFromFile,
    databaseFromString,
    databaseFromURL,
    getDbSchema,
    getStorageSchema,
    storageFromFile,
    storageFromString,
    storageFromURL,
)
from perdure.db import DB
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage
from perdure.storage.zlib import ServerZlibStorage, ZlibStorage


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def section(*lines: str) -> str:
    return "\n".join(["<zodb>", *lines, "<mappingstorage/>", "</zodb>"])


def test_a_database_has_the_storage_that_its_section_has() -> None:
    db = databaseFromString("<zodb>\n<mappingstorage/>\n</zodb>")
    assert type(db) is DB
    assert type(db.storage) is MappingStorage
    db.close()


@pytest.mark.parametrize(
    ("line", "getter", "value"),
    [
        ("", "getCacheSize", 5000),
        ("cache-size 100", "getCacheSize", 100),
        ("", "getCacheSizeBytes", 0),
        ("cache-size-bytes 100MB", "getCacheSizeBytes", 100 * 1024 * 1024),
        ("", "getPoolSize", 7),
        ("pool-size 3", "getPoolSize", 3),
        ("", "getHistoricalPoolSize", 3),
        ("historical-pool-size 5", "getHistoricalPoolSize", 5),
        ("", "getHistoricalCacheSize", 1000),
        ("historical-cache-size 55", "getHistoricalCacheSize", 55),
        ("", "getHistoricalCacheSizeBytes", 0),
        ("historical-cache-size-bytes 1KB", "getHistoricalCacheSizeBytes", 1024),
        ("", "getHistoricalTimeout", 300),
        ("historical-timeout 1h", "getHistoricalTimeout", 3600),
    ],
)
def test_options_of_a_database(line: str, getter: str, value: int) -> None:
    db = databaseFromString(section(line))
    assert getattr(db, getter)() == value
    db.close()


def test_a_large_record_warns_from_the_configured_size() -> None:
    db = databaseFromString(section("large-record-size 1KB"))
    connection = db.open(transaction.TransactionManager())
    connection.root()["text"] = "x" * 2000
    with pytest.warns(UserWarning, match="large"):
        connection.transaction_manager.commit()
    connection.close()
    db.close()


def test_implicit_cross_references_can_be_turned_off() -> None:
    db = databaseFromString(section("allow-implicit-cross-references false"))
    assert db.xrefs is False
    db.close()


def test_a_class_factory_finds_the_classes() -> None:
    db = databaseFromString(section("class-factory collections.OrderedDict"))
    assert db.classFactory is OrderedDict
    db.close()


def test_a_class_factory_that_is_not_there_is_an_error_in_the_configuration() -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=r"no_such_module\.name"):
        databaseFromString(section("class-factory no_such_module.name"))


def test_the_name_is_given_by_an_option_or_by_the_section() -> None:
    for text in (
        section("database-name main"),
        "<zodb main>\n<mappingstorage/>\n</zodb>",
        "<zodb other>\ndatabase-name main\n<mappingstorage/>\n</zodb>",
    ):
        db = databaseFromString(text)
        assert db.database_name == "main"
        assert list(db.databases) == ["main"]
        db.close()


TWO = """
<zodb first>
  cache-size-bytes 100MB
  <mappingstorage>
  </mappingstorage>
</zodb>
<zodb second>
  <mappingstorage>
  </mappingstorage>
</zodb>
"""


def test_several_sections_make_a_collection_and_the_first_is_returned() -> None:
    db = databaseFromString(TWO)
    assert db.database_name == "first"
    assert sorted(db.databases) == ["first", "second"]
    second = db.databases["second"]
    assert second.databases is db.databases
    assert db.getCacheSizeBytes() == 100 * 1024 * 1024
    connection = db.open()
    assert connection.get_connection("second").db() is second
    connection.close()
    for member in (db, second):
        member.close()


def test_two_sections_of_one_name_are_refused_and_nothing_stays_open(here: Path) -> None:
    text = """
        <zodb>
          database-name same
          <filestorage>
            path one.fs
          </filestorage>
        </zodb>
        <zodb>
          database-name same
          <filestorage>
            path two.fs
          </filestorage>
        </zodb>
    """
    for error in (ValueError, ZConfig.ConfigurationError):
        with pytest.raises(error, match="'same'"):
            databaseFromString(text)
    for name in ("one.fs", "two.fs"):
        FileStorage(name).close()


def test_a_factory_opens_a_database_into_a_collection_that_it_is_given() -> None:
    db = databaseFromString(section("database-name this_is_the_name"))
    config, _ = ZConfig.loadConfigFile(
        getDbSchema(), io.StringIO(section("database-name another_name"))
    )
    (factory,) = config.database
    other = factory.open(databases=db.databases)
    assert other.database_name == "another_name"
    assert other.databases is db.databases
    assert sorted(db.databases) == ["another_name", "this_is_the_name"]
    other.close()
    db.close()


def test_a_configuration_is_read_from_a_file_a_path_and_a_url(here: Path) -> None:
    path = here / "db.conf"
    path.write_text(section("database-name main"))
    with path.open() as file:
        databases = [databaseFromFile(file)]
    databases += [databaseFromURL(str(path)), databaseFromURL(path.as_uri())]
    assert [db.database_name for db in databases] == ["main"] * 3
    for db in databases:
        db.close()


def test_a_storage_is_read_from_text_a_file_a_path_and_a_url(here: Path) -> None:
    path = here / "storage.conf"
    path.write_text("<mappingstorage>\nname bob\n</mappingstorage>")
    with path.open() as file:
        storages = [storageFromFile(file), storageFromString(path.read_text())]
    storages += [storageFromURL(str(path)), storageFromURL(path.as_uri())]
    assert [storage.getName() for storage in storages] == ["bob"] * 4
    config, _ = ZConfig.loadConfig(getStorageSchema(), str(path))
    assert config.storage.open().sortKey().startswith("bob")


def test_a_file_can_include_another(here: Path) -> None:
    (here / "inner.conf").write_text(section("database-name inner"))
    (here / "outer.conf").write_text("%include inner.conf\n")
    db = databaseFromURL(str(here / "outer.conf"))
    assert db.database_name == "inner"
    db.close()


def test_a_file_storage_has_the_options_of_its_section(here: Path) -> None:
    storageFromString("<filestorage>\npath Data.fs\n</filestorage>").close()
    storage = storageFromString(
        """
        <filestorage>
          path Data.fs
          read-only true
          quota 1MB
          pack-gc false
          pack-keep-old false
        </filestorage>
        """
    )
    assert type(storage) is FileStorage
    assert storage.getName() == "Data.fs"
    assert storage.isReadOnly()
    storage.close()


def test_a_file_storage_can_begin_empty(here: Path) -> None:
    text = "<zodb>\n<filestorage>\npath Data.fs\ncreate {}\n</filestorage>\n</zodb>"
    sizes = []
    for create in ("false", "false", "true"):
        db = databaseFromString(text.format(create))
        with db.transaction() as connection:
            sizes.append(len(connection.root()))
            connection.root()["key"] = 1
        db.close()
    assert sizes == [0, 1, 0]


def test_a_file_storage_needs_a_path_in_a_directory_that_is_there(here: Path) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match="path"):
        storageFromString("<filestorage>\n</filestorage>")
    with pytest.raises(ZConfig.ConfigurationError, match="does not exist"):
        storageFromString("<filestorage>\npath no/such/Data.fs\n</filestorage>")


def test_a_file_storage_with_a_directory_for_blobs_keeps_them(here: Path) -> None:
    db = databaseFromString(
        "<zodb>\n<filestorage>\npath Data.fs\nblob-dir blobs\n</filestorage>\n</zodb>"
    )
    with db.transaction() as connection:
        connection.root()["blob"] = Blob(b"data")
    assert len(list((here / "blobs").rglob("*.blob"))) == 1
    db.close()


def test_a_blob_storage_adds_blobs_to_a_storage(here: Path) -> None:
    db = databaseFromString(
        "<zodb>\n<blobstorage>\nblob-dir blobs\n<mappingstorage/>\n</blobstorage>\n</zodb>"
    )
    with db.transaction() as connection:
        connection.root()["blob"] = Blob(b"data")
    assert len(list((here / "blobs").rglob("*.blob"))) == 1
    db.close()


def test_a_mapping_storage_has_a_name() -> None:
    text = "<mappingstorage>\nname {}\n</mappingstorage>"
    assert storageFromString(text.format("bob")).getName() == "bob"
    assert storageFromString("<mappingstorage/>").getName() == "Mapping Storage"


def test_a_demo_storage_has_a_base_and_changes(here: Path) -> None:
    FileStorage("base.fs").close()
    storage = storageFromString(
        """
        <demostorage>
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
    assert storage.getName() == "DemoStorage('base.fs', 'Changes')"
    assert type(storage.base) is FileStorage
    assert storage.changes.getName() == "Changes"
    storage.close()


def test_a_demo_storage_needs_no_layers_and_has_a_name() -> None:
    storage = storageFromString("<demostorage/>")
    assert storage.getName() == "DemoStorage('MappingStorage', 'MappingStorage')"
    assert storageFromString("<demostorage>\nname bob\n</demostorage>").getName() == "bob"


def test_a_demo_storage_with_two_bases_is_refused_and_nothing_stays_open(here: Path) -> None:
    text = """
        <demostorage>
          <filestorage one>
            path one.fs
          </filestorage>
          <filestorage two>
            path two.fs
          </filestorage>
        </demostorage>
    """
    with pytest.raises(ValueError, match="more than one storage section is the base"):
        storageFromString(text)
    for name in ("one.fs", "two.fs"):
        FileStorage(name).close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (section("cash-size 5"), "cash-size"),
        (section("cache-size many"), "invalid literal"),
        ("<zodb>\n</zodb>", "storage"),
        ("<zodb>\n<nostorage/>\n</zodb>", "nostorage"),
        ("", "required"),
        ("<zodb>\n<mappingstorage>\n</zodb>", "unbalanced"),
    ],
)
def test_what_does_not_fit_is_an_error_in_the_configuration(text: str, problem: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=problem):
        databaseFromString(text)


def test_an_error_names_file_and_line(here: Path) -> None:
    path = here / "db.conf"
    path.write_text(section("cache-size 5", "cash-size 5"))
    with pytest.raises(ZConfig.ConfigurationError) as caught:
        databaseFromURL(str(path))
    assert "db.conf" in str(caught.value)
    assert "line 3" in str(caught.value)


def test_a_storage_that_can_not_be_opened_leaves_nothing_open(here: Path) -> None:
    (here / "text.fs").write_text("this is no database, but a text")
    text = """
        <zodb one>
          <filestorage>
            path one.fs
          </filestorage>
        </zodb>
        <zodb two>
          <filestorage>
            path text.fs
          </filestorage>
        </zodb>
    """
    with pytest.raises(Exception, match=r"text\.fs"):
        databaseFromString(text)
    FileStorage("one.fs").close()


@pytest.mark.parametrize("name", ["os.path.join", "os:path.join", "os:getcwd() and path.join"])
def test_a_packer_is_named(here: Path, name: str) -> None:
    config, _ = ZConfig.loadConfigFile(
        getStorageSchema(), io.StringIO(f"<filestorage>\npath d.fs\npacker {name}\n</filestorage>")
    )
    assert config.storage.options()["packer"] is join


def test_demostorage2_needs_no_package(here: Path) -> None:
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


def test_a_compressing_layer_needs_no_package(here: Path) -> None:
    text = """
        %import zc.zlibstorage
        <zodb>
          <zlibstorage>
            compress {}
            <filestorage>
              path Data.fs
            </filestorage>
          </zlibstorage>
        </zodb>
    """
    for compress in ("true", "false"):
        db = databaseFromString(text.format(compress))
        assert type(db.storage) is ZlibStorage
        with db.transaction() as connection:
            connection.root()[compress] = "perdure " * 1000
        kept = db.storage.base.load(bytes(8))[0]
        assert kept.startswith(b".z") is (compress == "true")
        db.close()


def test_the_layer_of_a_server_whose_clients_compress_needs_no_package() -> None:
    text = "%import zc.zlibstorage\n<serverzlibstorage>\n<mappingstorage/>\n</serverzlibstorage>"
    assert type(storageFromString(text)) is ServerZlibStorage


BEFORE = """
    %import zc.beforestorage
    <before>
      {}
      <mappingstorage>
        name base
      </mappingstorage>
    </before>
"""


def test_a_view_of_the_past_needs_no_package() -> None:
    storage = storageFromString(BEFORE.format("before 2026-11-21T10:30"))
    assert storage.getName() == "base before 2026-11-21 10:30:00.000000"
    for moment in ("", "before now", "before startup"):
        assert storageFromString(BEFORE.format(moment)).isReadOnly()


def test_the_moment_of_a_view_can_be_kept_in_a_file(here: Path) -> None:
    text = BEFORE.format("before-from-file moment")
    made = storageFromString(text)
    assert (here / "moment").exists()
    assert storageFromString(text).before == made.before
    (here / "moment").write_text("2026-11-21")
    assert storageFromString(text).getName() == "base before 2026-11-21 00:00:00.000000"


def test_a_view_has_one_moment(here: Path) -> None:
    text = BEFORE.format("before now\nbefore-from-file moment")
    with pytest.raises(ValueError, match="not both"):
        storageFromString(text)
    with pytest.raises(ValueError, match="no moment"):
        storageFromString(BEFORE.format("before yesterday"))


def test_layers_can_be_stacked(here: Path) -> None:
    FileStorage("base.fs").close()
    db = databaseFromString(
        """
        %import zc.beforestorage
        %import zc.zlibstorage
        <zodb>
          <zlibstorage>
            <demostorage>
              <before base>
                <filestorage>
                  path base.fs
                  read-only true
                </filestorage>
              </before>
              <filestorage changes>
                path changes.fs
              </filestorage>
            </demostorage>
          </zlibstorage>
        </zodb>
        """
    )
    with db.transaction() as connection:
        connection.root()["text"] = "perdure " * 1000
    with db.transaction() as connection:
        assert len(connection.root()["text"]) == 8000
    db.close()
    assert Path("changes.fs").stat().st_size < 1000
