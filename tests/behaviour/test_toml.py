"""perdure.toml, URIs and PERDURE_URL."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import ZConfig
from tests.behaviour.models import Account

import perdure
import perdure.config
from perdure import errors
from perdure.config import ConfigurationError, databaseFromTOML, databaseFromURI, open_database
from perdure.sources.schema import schema

DATA = Path(__file__).parents[1] / "data"


def written(folder: Path, text: str) -> Path:
    path = folder / "perdure.toml"
    path.write_text(text)
    return path


def test_a_database_in_a_file_beside_the_configuration(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [database]
        cache_size = 5000
        [database.storage]
        type = "file"
        path = "Data.fs"
        """,
    )
    db = databaseFromTOML(path)
    assert (tmp_path / "Data.fs").exists()
    assert db.getCacheSize() == 5000
    db.close()


def test_several_databases_make_a_collection(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [databases.main]
        storage = { type = "file", path = "main.fs" }
        [databases.users]
        storage = { type = "memory" }
        xrefs = false
        """,
    )
    db = databaseFromTOML(path)
    assert db.database_name == "main"
    assert sorted(db.databases) == ["main", "users"]
    assert db.databases["users"].xrefs is False
    for each in db.databases.values():
        each.close()


def test_layers_are_written_from_the_outside_in(tmp_path: Path) -> None:
    shutil.copy(DATA / "basic.fs", tmp_path)
    path = written(
        tmp_path,
        """
        [database.storage]
        type = "demo"
        [database.storage.base]
        type = "zlib"
        base = { type = "file", path = "basic.fs", read_only = true }
        """,
    )
    db = databaseFromTOML(path)
    with db.transaction() as conn:
        conn.root.new = len(conn.root())
    db.close()
    assert (tmp_path / "basic.fs").read_bytes() == (DATA / "basic.fs").read_bytes()


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ('[database]\nstorage = {type = "memory"}\ncash = 1', 3, "database.cash", "unknown key"),
        (
            '[database]\nstorage = {type = "memory"}\ncache_size = "1"',
            3,
            "database.cache_size",
            "a whole number, not '1'",
        ),
        (
            '[database]\nstorage = {type = "memory"}\npool_size = 0',
            3,
            "database.pool_size",
            "at least 1",
        ),
        (
            '[database]\nstorage = {type = "memory"}\nxrefs = 1',
            3,
            "database.xrefs",
            "true or false",
        ),
        ('[database]\nstorage = {type = "disk"}', 2, "database.storage.type", "file, memory"),
        ('[database.storage]\ntype = "file"', 1, "database.storage", "'path' is missing"),
        (
            '[database.storage]\ntype = "file"\npath = "x"\nquotta = 3',
            4,
            "database.storage.quotta",
            "known are type, path",
        ),
        ("[database]\ncache_size = 1", 1, "database", "'storage' is missing"),
        ("x = ", 1, "", "nvalid"),
        ("", None, "", "give either"),
    ],
)
def test_what_does_not_fit_is_named_with_file_line_and_key(
    tmp_path: Path, text: str, line: int | None, key: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        databaseFromTOML(path)
    assert (raised.value.path, raised.value.line, raised.value.key) == (str(path), line, key)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("layer", "line", "key", "message"),
    [
        ('type = "zstd"\nlevel = 23', 7, "level", "at most 22"),
        ('type = "before"\nbefore = "yesterday"', 7, "before", "no moment"),
        ('type = "before"\nbefore = 2026-05-01', 7, "before", "has to be a string"),
        ('type = "demo2"', 5, "", "'changes' is missing"),
        ('type = "blobs"', 5, "", "'blob_dir' is missing"),
        ('type = "demo"\nchange = 1', 7, "change", "unknown key"),
        ('type = "zip"', 6, "type", "demo2, blobs, before"),
    ],
)
def test_what_does_not_fit_in_a_layer_below_is_named(
    tmp_path: Path, layer: str, line: int, key: str, message: str
) -> None:
    text = f"""
[database.storage]
type = "zlib"

[database.storage.base]
{layer}
base = {{ type = "memory" }}
"""
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        databaseFromTOML(path)
    keys = "database.storage.base" + (f".{key}" if key else "")
    assert (raised.value.path, raised.value.line, raised.value.key) == (str(path), line, keys)
    assert list(tmp_path.iterdir()) == [path]


LAYERS = {
    "zlib": 'type = "zlib"\nrecord_bytes_max = 1_000_000',
    "zstd": 'type = "zstd"\nlevel = 5\nrecord_bytes_max = 1_000_000',
    "encrypting": 'type = "encrypting"\nkey_file = "a.key"',
    "demo": 'type = "demo"\nname = "trial"\nchanges = { type = "memory" }',
    "demo2": 'type = "demo2"\nchanges = { type = "file", path = "changes.fs" }',
}


@pytest.mark.parametrize("upper", LAYERS)
@pytest.mark.parametrize("lower", [*LAYERS, "before"])
def test_layers_are_described_in_any_order(tmp_path: Path, upper: str, lower: str) -> None:
    (tmp_path / "a.key").write_text("00" * 32)
    (tmp_path / "a.key").chmod(0o600)
    below = LAYERS.get(lower, 'type = "before"')
    if upper == lower:
        below = below.replace("changes.fs", "lower.fs")
    text = f"""
[database.storage]
{LAYERS[upper]}

[database.storage.base]
{below}

[database.storage.base.base]
type = "file"
path = "data.fs"
"""
    db = databaseFromTOML(written(tmp_path, text))
    names = [type(each).__name__.removesuffix("Storage") for each in (db.storage, db.storage.base)]
    assert [name.removesuffix("Storage2").lower() for name in names] == [
        kind.removesuffix("2") for kind in (upper, lower)
    ]
    if lower != "before" or "demo" in upper:
        with db.transaction() as connection:
            connection.root.text = "perdure " * 100
        with db.transaction() as connection:
            assert len(connection.root.text) == 800
    db.close()


def test_a_layer_adds_blobs(tmp_path: Path) -> None:
    storage = '{ type = "blobs", blob_dir = "films", base = { type = "memory" } }'
    db = databaseFromTOML(written(tmp_path, f"[database]\nstorage = {storage}"))
    with db.transaction() as connection:
        connection.root.film = perdure.Blob(b"film")
    assert len(list((tmp_path / "films").rglob("*.blob"))) == 1
    db.close()


def test_layers_that_were_opened_are_closed_when_another_cannot_be(tmp_path: Path) -> None:
    text = """
[database.storage]
type = "demo2"
base = { type = "file", path = "base.fs" }
changes = { type = "encrypting", key_file = "none.key", base = { type = "file", path = "a.fs" } }
"""
    with pytest.raises(perdure.errors.EncryptionError, match=r"none\.key"):
        databaseFromTOML(written(tmp_path, text))
    for name in ("base.fs", "a.fs"):
        perdure.FileStorage(str(tmp_path / name)).close()


def test_what_was_opened_is_closed_when_another_cannot_be(tmp_path: Path) -> None:
    shutil.copy(DATA / "not_a_database.fs", tmp_path)
    path = written(
        tmp_path,
        """
        [databases.a]
        storage = { type = "file", path = "a.fs" }
        [databases.b]
        storage = { type = "file", path = "not_a_database.fs" }
        """,
    )
    with pytest.raises(perdure.errors.NotADatabase):
        databaseFromTOML(path)
    perdure.FileStorage(str(tmp_path / "a.fs")).close()


def test_the_schema_is_published_and_every_option_is_typed() -> None:
    published = json.loads(
        (Path(perdure.__file__).parent / "config" / "perdure.schema.json").read_text()
    )
    assert published == schema()
    for name, rule in published["$defs"].items():
        for option, each in rule.get("properties", {}).items():
            assert each.keys() & {"type", "const", "enum", "$ref"}, (name, option)


def uri_opened(uri: str) -> Any:
    db = databaseFromURI(uri)
    db.close()
    return db


def test_uris_name_files_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    db = uri_opened(f"file://{path}?database_name=main&connection_cache_size=77&quota=100000")
    assert path.exists()
    assert (db.database_name, db.getCacheSize()) == ("main", 77)
    assert uri_opened("memory://").database_name == "unnamed"
    assert uri_opened(f"file://{path}?demostorage").storage.base is not None


def test_a_demo_uri_has_two_layers(tmp_path: Path) -> None:
    shutil.copy(DATA / "basic.fs", tmp_path)
    uri = f"demo:(file://{tmp_path}/basic.fs?read_only=true)/(memory://)#database_name=demo"
    db = databaseFromURI(uri)
    assert db.database_name == "demo"
    with db.transaction() as conn:
        conn.root.x = 1
    db.close()
    assert (tmp_path / "basic.fs").read_bytes() == (DATA / "basic.fs").read_bytes()


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host",
        "file://",
        "memory://?cash=1",
        "memory://?xrefs=2",
        "file:~nobody-of-that-name/Data.fs",
        "demo:(" * 5_000 + "memory:)/(memory:)" + ")/(memory:)" * 4_999,
    ],
    ids=lambda uri: uri[:20],
)
def test_a_uri_that_does_not_fit_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        databaseFromURI(uri)


def test_a_quota_beyond_any_file_is_none_to_mind(tmp_path: Path) -> None:
    databaseFromURI(f"file:{tmp_path}/Data.fs?quota={10**30}").close()


def test_the_environment_or_the_current_folder_names_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_URL", raising=False)
    with pytest.raises(FileNotFoundError):
        open_database()
    written(tmp_path, '[databases.here]\nstorage = {type = "memory"}')
    db = open_database()
    assert db.database_name == "here"
    db.close()
    monkeypatch.setenv("PERDURE_URL", "memory://x?database_name=there")
    db = open_database()
    assert db.database_name == "there"
    db.close()
    open_database(tmp_path / "Data.fs").close()
    assert (tmp_path / "Data.fs").exists()


SIZE = 17
SHOP = """
primary = "orders"

[databases.catalog]
storage = { type = "file", path = "catalog.fs" }

[databases.orders]
cache_size = 17
storage = { type = "file", path = "orders.fs" }

[routes]
"tests.behaviour.models.Account" = "catalog"
"""


def test_a_file_has_a_primary_member_and_routes(tmp_path: Path) -> None:
    path = tmp_path / "perdure.toml"
    path.write_text(SHOP)
    with perdure.config.collectionFromTOML(path) as collection:
        assert list(collection) == ["catalog", "orders"]
        assert collection.primary.database_name == "orders"
        assert dict(collection.routes) == {"tests.behaviour.models.Account": "catalog"}
        with collection.transaction() as conn:
            account = conn.root.account = Account()
        assert account._p_jar.db() is collection["catalog"]
    database = open_database(path)
    assert database.database_name == "orders"
    with database.transaction() as conn:
        other = conn.root.other = Account()
    assert other._p_jar.db().database_name == "catalog"
    database.databases["catalog"].close()
    database.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHOP.replace('= "catalog"', '= "nowhere"'), r":12: routes.*'nowhere', which is no m"),
        (SHOP.replace('"tests.', '"tests..'), r":12: routes.*can't be routed"),
        (SHOP.replace('primary = "orders"', 'primary = "x"'), r":2: primary: 'x' is no member"),
        (SHOP.replace('primary = "orders"', "primary = 1"), "primary"),
    ],
)
def test_a_bad_primary_member_or_route_opens_nothing(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "perdure.toml"
    path.write_text(text)
    with pytest.raises(perdure.config.ConfigurationError, match=message):
        perdure.config.open_collection(path)
    assert [each.name for each in tmp_path.iterdir()] == ["perdure.toml"]


def test_a_collection_is_made_of_whatever_names_a_database(tmp_path: Path) -> None:
    members = {
        "path": tmp_path / "path.fs",
        "uri": f"file://{tmp_path}/uri.fs?cache_size={SIZE}",
        "described": {"storage": {"type": "memory"}, "cache_size": SIZE},
        "storage": perdure.MappingStorage(),
        "database": perdure.DB(None),
        "memory": None,
    }
    open_collection = perdure.config.open_collection
    with open_collection(members, primary="uri", routes={"a.B": "memory"}) as collection:
        assert set(collection) == set(members)
        assert collection.primary is collection["uri"]
        assert collection["uri"].getCacheSize() == SIZE
        assert collection["described"].getCacheSize() == SIZE
        assert collection["database"] is members["database"]
        assert collection.routes["a.B"] == "memory"
        with collection.transaction() as conn:
            assert {conn[name].db().database_name for name in collection} == set(members)
    with open_collection({"database": {"storage": {"type": "memory"}}}) as alone:
        assert list(alone) == ["unnamed"]
    with open_collection(str(tmp_path / "path.fs")) as alone:
        assert alone.primary.storage.getName().endswith("path.fs")
    with open_collection("memory://here") as alone:
        assert len(alone) == 1


def test_what_was_opened_is_closed_if_a_member_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "bad.fs").write_bytes(b"no database at all")
    members = {"good": f"file://{tmp_path}/good.fs", "bad": tmp_path / "bad.fs"}
    with pytest.raises(errors.POSError):
        perdure.config.open_collection(members)
    perdure.DB(tmp_path / "good.fs").close()


ZCONFIG = """
<zodb orders>
  <mappingstorage/>
</zodb>
<zodb catalog>
  route tests.behaviour.models.Account
  route shop.catalog
  <mappingstorage/>
</zodb>
"""


def test_zconfig_text_has_routes_too(tmp_path: Path) -> None:
    path = tmp_path / "shop.conf"
    path.write_text(ZCONFIG)
    for collection in (
        perdure.config.collectionFromString(ZCONFIG),
        perdure.config.collectionFromURL(str(path)),
        perdure.config.open_collection(path),
    ):
        with collection, collection.transaction() as conn:
            assert set(collection.routes) == {"tests.behaviour.models.Account", "shop.catalog"}
            assert conn.db().database_name == "orders"
            account = conn.root.account = Account()
            conn.transaction_manager.commit()
            assert account._p_jar is conn["catalog"]
    twice = ZCONFIG.replace("<zodb orders>", "<zodb orders>\n  route shop.catalog")
    message = r"'shop\.catalog' is routed to two databases, 'orders' and 'catalog'"
    with pytest.raises(ZConfig.ConfigurationError, match=message):
        perdure.config.collectionFromString(twice)
    with pytest.raises(ZConfig.ConfigurationError, match=r"'1x' can't be routed.*line 7"):
        perdure.config.collectionFromString(ZCONFIG.replace("shop.catalog", "1x"))
