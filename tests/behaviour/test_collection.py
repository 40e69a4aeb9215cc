"""`perdure.Collection`: databases opened, used and closed together."""

from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.conftest import OpenDatabase
from tests.behaviour.models import Account

import perdure
import perdure.config
from perdure import errors


@pytest.fixture
def collection(tmp_path: Path) -> Any:
    members = {
        "shop": tmp_path / "shop.fs",
        "archive": str(tmp_path / "archive.fs"),
        "scratch": None,
    }
    with perdure.Collection(members) as made:
        yield made


def test_members_are_made_of_paths_storages_and_nothing(tmp_path: Path) -> None:
    storage = perdure.MappingStorage()
    members = {"path": tmp_path / "a.fs", "storage": storage, "memory": None}
    with perdure.Collection(members, cache_size=17) as collection:
        assert list(collection) == ["path", "storage", "memory"]
        assert len(collection) == len(members)
        assert collection["storage"].storage is storage
        assert {db.database_name for db in collection.values()} == set(members)
        assert collection["path"].getCacheSize() == 17
    assert (tmp_path / "a.fs").exists()
    assert storage


def test_members_are_made_of_uris_and_descriptions(tmp_path: Path) -> None:
    zlib = {"type": "zlib", "base": {"type": "file", "path": str(tmp_path / "packed.fs")}}
    members = {
        "uri": f"file://{tmp_path}/uri.fs?cache_size=23",
        "short": f"file:{tmp_path}/short.fs",
        "described": {"storage": zlib, "xrefs": False},
    }
    with perdure.Collection(members, cache_size=17) as collection:
        assert [collection[name].getCacheSize() for name in collection] == [23, 17, 17]
        assert not collection["described"].xrefs
        with collection.transaction() as conn:
            for name in members:
                conn[name].root.account = Account(1.0)
    assert {path.name for path in tmp_path.glob("*.fs")} == {"uri.fs", "short.fs", "packed.fs"}


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ({"good": None, "bad": 3}, TypeError, "3, given as 'bad', is no member"),
        ({"good": None, 3: None}, TypeError, "3 can't be the name of a member"),
        (["good.fs"], TypeError, "given by name"),
        ({"bad": "zeo://here:9999"}, perdure.config.ConfigurationError, "is no URI of a database"),
        (
            {"good": None, "bad": {"storage": {"type": "tape"}}},
            perdure.config.ConfigurationError,
            r"databases\.bad\.storage\.type: has to be one of file",
        ),
        (dict.fromkeys("ab", perdure.MappingStorage()), ValueError, "as 'a' and as 'b'"),
        (dict.fromkeys("ab", perdure.DB(None)), ValueError, "as 'a' and as 'b'"),
    ],
)
def test_what_can_not_be_a_member_is_refused_by_name(
    members: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        perdure.Collection(members)


def test_the_primary_member_is_what_open_opens(collection: perdure.Collection) -> None:
    assert collection.primary is collection["shop"]
    with collection.transaction("note") as conn:
        assert conn.db() is collection["shop"]
        account = Account(1.0)
        conn["archive"].add(account)
        conn.root.account = conn["archive"].root.account = account
        assert conn["archive"] is conn.get_connection("archive")
    assert collection["shop"].lastTransaction() == collection["archive"].lastTransaction()
    assert (
        perdure.Collection(collection.databases, primary="scratch").primary is collection["scratch"]
    )


def test_an_unknown_member_is_named_with_those_there_are(collection: perdure.Collection) -> None:
    with pytest.raises(KeyError, match="no member 'x' among archive, scratch, shop"):
        collection["x"]
    with pytest.raises(ValueError, match="'x' is none of"):
        perdure.Collection({"a": None}, primary="x")
    with pytest.raises(ValueError, match="at least one"):
        perdure.Collection({})


def test_a_past_moment_holds_for_all_members(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        conn.root.n = conn["archive"].root.n = 1
    first = collection.lastTransaction()
    with collection.transaction() as conn:
        conn.root.n = conn["archive"].root.n = 2
    with collection.at(first) as past:
        assert (past.root.n, past["archive"].root.n) == (1, 1)
        assert past.isReadOnly()
    before = collection.open(before=first)
    assert "n" not in before.root()
    assert "n" not in before["archive"].root()
    before.close()


def test_a_moment_may_be_newer_than_the_primary_member(collection: perdure.Collection) -> None:
    with collection["archive"].transaction() as conn:
        conn.root.n = 1
    with collection.at(collection.lastTransaction()) as past:
        assert past["archive"].root.n == 1


def test_closing_closes_all_members(collection: perdure.Collection) -> None:
    members = list(collection.values())
    collection.open()["archive"].root.n = 1
    collection.close()
    assert all(db.closed for db in members)
    with pytest.raises(errors.ConnectionStateError):
        collection.open()
    collection.close()
    transaction.abort()


def test_what_was_made_is_closed_if_a_member_can_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "bad.fs").write_bytes(b"no database at all")
    with pytest.raises(errors.POSError):
        perdure.Collection({"good": tmp_path / "good.fs", "bad": tmp_path / "bad.fs"})
    perdure.DB(tmp_path / "good.fs").close()


def test_databases_that_were_alone_are_tied_together(open_db: OpenDatabase) -> None:
    one, two = open_db("One"), open_db("Two", database_name="another")
    collection = perdure.Collection({"one": one, "two": two})
    assert (one.database_name, two.database_name) == ("one", "two")
    assert one.databases is two.databases
    with collection.transaction() as conn:
        account = Account(1.0)
        conn["two"].add(account)
        conn.root.account = account
    with collection.transaction() as conn:
        conn.cacheMinimize()
        assert conn.root.account._p_jar is conn["two"]


def test_databases_of_other_collections_and_in_use_are_refused(
    collection: perdure.Collection,
) -> None:
    with pytest.raises(ValueError, match="belongs to a collection of archive, scratch, shop"):
        perdure.Collection({"x": collection["shop"]} | {"y": collection["archive"]})
    alone = perdure.DB(None)
    connection = alone.open()
    with pytest.raises(ValueError, match="open connections"):
        perdure.Collection({"x": alone})
    connection.close()


def test_caches_and_debug_information_of_all_members(collection: perdure.Collection) -> None:
    conn = collection.open()
    assert len(conn.root()) == len(conn["archive"].root()) == 0
    conn.setDebugInfo("here")
    assert collection.cacheSize() >= 2
    collection.cacheMinimize()
    assert collection.cacheSize() == 0
    collection.sync()
    info = collection.connectionDebugInfo()
    assert set(info) == {"shop", "archive", "scratch"}
    assert "here" in info["shop"][0]["info"]
    conn.close()
