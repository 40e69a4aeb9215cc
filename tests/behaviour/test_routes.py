"""New objects that go to the members that routes, or blocks of `using`, have for them."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from persistent import Persistent
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from tests.behaviour.models import Account, Counter, Node
from ZODB.MappingStorage import MappingStorage as StockMappingStorage

import perdure
from perdure import errors

MODELS = "tests.behaviour.models"
LAST = 5.0
ROUTES = {f"{MODELS}.Account": "catalog", f"{MODELS}.Counter": "archive"}


def storages(kind: str) -> dict[str, Any]:
    """Storages for three members; all of perdure, some, or none."""
    foreign = {"own": (), "mixed": ("catalog",), "foreign": ("main", "catalog", "archive")}[kind]
    names = ("main", "catalog", "archive")
    return {name: StockMappingStorage(name) if name in foreign else None for name in names}


@pytest.fixture(params=["own", "mixed", "foreign"])
def collection(request: pytest.FixtureRequest) -> Iterator[perdure.Collection]:
    with perdure.Collection(storages(request.param), routes=ROUTES) as made:
        yield made


@pytest.fixture
def tm() -> Iterator[transaction.TransactionManager]:
    manager = transaction.TransactionManager()
    yield manager
    manager.abort()


@pytest.fixture
def conn(collection: perdure.Collection, tm: transaction.TransactionManager) -> Any:
    return collection.open(tm)


def member_of(obj: Any) -> str:
    return str(obj._p_jar.db().database_name)


def belongs_nowhere(obj: Any) -> bool:
    return obj._p_jar is None and obj._p_oid is None


def chain() -> tuple[Node, list[Any]]:
    """Objects that go, one after the other, to main, catalog, main, archive and catalog."""
    last = Account(LAST, "last")
    counter: Any = Counter()
    counter.next = last
    back = Node(next=counter)
    account: Any = Account(1.0, "first")
    account.next = PersistentMapping(back=back)
    first = Node(next=account)
    return first, [first, account, account.next, back, counter, last]


PLACES = ["main", "catalog", "main", "main", "archive", "catalog"]
CHAIN_ROUTES = {**ROUTES, f"{MODELS}.Node": "main", "persistent.mapping": "main"}


@pytest.fixture(params=["own", "mixed", "foreign"])
def chained(request: pytest.FixtureRequest) -> Iterator[perdure.Collection]:
    with perdure.Collection(storages(request.param), routes=CHAIN_ROUTES) as made:
        yield made


def read_chain(root: Any) -> list[Any]:
    first = root["first"]
    account = first.next
    counter = account.next["back"].next
    return [first, account, account.next, account.next["back"], counter, counter.next]


# Where objects go.


def test_a_new_object_goes_to_the_member_of_its_route(
    collection: perdure.Collection, conn: Any, tm: Any
) -> None:
    assert list(conn.connections) == ["main"]
    account = conn.root.account = Account(name="tea")
    conn.root.node = Node()
    tm.commit()
    assert member_of(account) == "catalog"
    assert member_of(conn.root.node) == "main"
    assert collection["archive"].lastTransaction() < collection["catalog"].lastTransaction()
    with collection.transaction() as other:
        assert other.root.account.name == "tea"
        assert member_of(other.root.account) == "catalog"
        assert other["catalog"].get(account._p_oid) is other.root.account


@pytest.mark.parametrize("savepoints", [(), ("before",), ("after",), ("before", "after")])
@pytest.mark.parametrize("start", ["main", "catalog", "archive"])
def test_objects_find_their_places_along_a_chain_through_all_members(
    chained: perdure.Collection, tm: Any, start: str, savepoints: tuple[str, ...]
) -> None:
    conn: Any = chained[start].open(tm)
    if "before" in savepoints:
        conn.root.something = 1
        tm.savepoint()
    first, objects = chain()
    conn.root.first = first
    if "after" in savepoints:
        tm.savepoint()
        conn.cacheMinimize()
    tm.commit()
    assert [member_of(obj) for obj in objects] == PLACES
    with chained[start].transaction() as other:
        found = read_chain(other.root())
        assert [member_of(obj) for obj in found] == PLACES
        assert [obj._p_oid for obj in found] == [obj._p_oid for obj in objects]
        assert found[-1].name == "last"
    conn.close()


def test_all_members_serialise_before_a_storage_takes_its_lock(tm: Any) -> None:
    events: list[str] = []

    class Watching(StockMappingStorage):
        def tpc_begin(self, *args: Any) -> Any:
            events.append(f"lock {self.getName()}")
            return super().tpc_begin(*args)

    made = {name: Watching(name) for name in ("main", "catalog", "archive")}
    with perdure.Collection(made, routes=CHAIN_ROUTES) as collection:
        conn: Any = collection["main"].open(tm)
        conn.root.first = chain()[0]
        events.clear()
        _Telling.events = events
        conn.root.telling = _Telling()
        conn["archive"].root.telling = _Telling()
        tm.commit()
        conn.close()
    assert events == ["state", "state", "lock archive", "lock catalog", "lock main"]


class _Telling(Persistent):
    """Tells when its state is asked for."""

    events: list[str]

    def __getstate__(self) -> Any:
        self.events.append("state")
        return super().__getstate__()


def test_only_members_that_get_something_take_part(
    collection: perdure.Collection, conn: Any, tm: Any
) -> None:
    before = collection["catalog"].lastTransaction()
    conn.root.node = Node()
    tm.commit()
    assert list(conn.connections) == ["main"]
    assert collection["catalog"].lastTransaction() == before


def test_members_of_perdure_s_own_get_it_in_one_transaction(tm: Any) -> None:
    with perdure.Collection(storages("own"), routes=CHAIN_ROUTES) as collection:
        conn: Any = collection.open(tm)
        conn.root.first = chain()[0]
        tm.commit()
        assert len({member.lastTransaction() for member in collection.values()}) == 1
        conn.close()


def test_an_object_that_was_added_stays_where_it_was_added(conn: Any, tm: Any) -> None:
    account = Account()
    conn.add(account)
    conn.root.account = account
    tm.commit()
    assert member_of(account) == "main"


def test_a_routed_object_may_be_reached_from_several_members(conn: Any, tm: Any) -> None:
    account = conn.root.account = conn["archive"].root.account = Account()
    conn["catalog"].root.account = account
    counter = conn["archive"].root.counter = conn.root.counter = Counter()
    tm.savepoint()
    conn["catalog"].root.counter = counter
    tm.commit()
    assert (member_of(account), member_of(counter)) == ("catalog", "archive")


def test_a_weakly_referred_object_follows_its_route(conn: Any, tm: Any) -> None:
    account = Account(7.0)
    conn.root.weak = WeakRef(account)
    tm.commit()
    assert member_of(account) == "catalog"
    conn.cacheMinimize()
    assert conn.root.weak() is account


@pytest.mark.parametrize("savepoint", [False, True])
def test_an_object_without_route_that_several_members_reach_is_refused_and_all_are_named(
    conn: Any, tm: Any, *, savepoint: bool
) -> None:
    node = Node()
    conn.root.list = [node]
    if savepoint:
        tm.savepoint()
        conn.cacheMinimize()
    conn["catalog"].root.holder = Node(part={"key": node})
    conn["archive"].root.node = node
    with pytest.raises(errors.InvalidObjectReference, match=r"models\.Node 0x\d+ is") as raised:
        tm.commit()
    assert raised.value.object is node
    assert set(raised.value.databases) == {"main", "catalog", "archive"}
    assert all(repr(name) in str(raised.value) for name in raised.value.databases)
    tm.abort()
    assert belongs_nowhere(node)


def test_xrefs_false_holds_for_routed_objects(tm: Any) -> None:
    members = {"main": perdure.DB(None, xrefs=False), "catalog": perdure.DB(None)}
    with perdure.Collection(members, routes={"tests": "catalog"}) as collection:
        conn: Any = collection.open(tm)
        account = conn.root.account = Account()
        with pytest.raises(errors.InvalidObjectReference, match=r"xrefs=False.*'catalog'"):
            tm.commit()
        tm.abort()
        assert belongs_nowhere(account)
        conn.close()


# Blocks of `using`.


def test_using_goes_before_routes_and_the_innermost_block_before_others(
    collection: perdure.Collection, conn: Any, tm: Any
) -> None:
    with collection.using("archive"):
        account = conn.root.account = Account()
        with collection.using("main"):
            inner = conn.root.inner = Account()
            tm.savepoint()
        added = conn.root.added = Account()
        conn["catalog"].add(added)
        tm.commit()
    routed = conn.root.routed = Account()
    tm.commit()
    places = [member_of(obj) for obj in (account, inner, added, routed)]
    assert places == ["main", "main", "catalog", "catalog"]
    with collection.using("archive"), collection.transaction() as other:
        node = other.root.node = Node()
    assert member_of(node) == "archive"
    with pytest.raises(KeyError, match="no member 'x' among"):
        collection.using("x")


def test_using_concerns_one_thread_and_one_collection(
    collection: perdure.Collection, conn: Any, tm: Any
) -> None:
    places: list[str] = []

    def commit_elsewhere() -> None:
        with collection.transaction() as other:
            node = other.root.node = Node()
        places.append(member_of(node))

    with perdure.Collection({"archive": None, "b": None}) as stranger, stranger.using("b"):
        conn.root.node = Node()
        tm.commit()
        places.append(member_of(conn.root.node))
    with collection.using("archive"):
        thread = threading.Thread(target=commit_elsewhere)
        thread.start()
        thread.join()
    assert places == ["main", "main"]


def test_using_concerns_one_task(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        conn.root.nodes = [Node(), Node()]

    async def commit_to(name: str, own: asyncio.Event, other: asyncio.Event) -> str:
        manager = transaction.TransactionManager()
        conn = collection.open(manager)
        with collection.using(name):
            own.set()
            await other.wait()
            part = conn.root.nodes[name == "archive"].part = Node()
            manager.commit()
        conn.close()
        return member_of(part)

    async def both() -> list[str]:
        one, two = asyncio.Event(), asyncio.Event()
        tasks = commit_to("catalog", one, two), commit_to("archive", two, one)
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(both()) == ["catalog", "archive"]


# When it doesn't end in a commit.


class _Failing:
    """A resource that fails in one step of the commit."""

    def __init__(self, step: str) -> None:
        self._step = step

    def sortKey(self) -> str:
        return "~last"

    def __getattr__(self, name: str) -> Any:
        if name not in {"tpc_begin", "commit", "tpc_vote", "tpc_finish", "tpc_abort", "abort"}:
            raise AttributeError(name)

        def step(_transaction: Any) -> None:
            if name == self._step:
                raise RuntimeError(name)

        return step


@pytest.mark.parametrize("savepoint", [False, True])
@pytest.mark.parametrize("step", ["tpc_begin", "commit", "tpc_vote"])
def test_a_failed_commit_leaves_no_object_anywhere(
    chained: perdure.Collection, tm: Any, step: str, *, savepoint: bool
) -> None:
    conn: Any = chained.open(tm)
    first, objects = chain()
    before = [member.lastTransaction() for member in chained.values()]
    conn.root.first = first
    if savepoint:
        tm.savepoint()
    tm.get().join(_Failing(step))
    with pytest.raises(RuntimeError, match=step):
        tm.commit()
    tm.abort()
    assert all(map(belongs_nowhere, objects))
    assert before == [member.lastTransaction() for member in chained.values()]
    conn.root.first = first
    tm.commit()
    assert [member_of(obj) for obj in objects] == PLACES
    conn.close()


@pytest.mark.parametrize("how", ["getstate", "unpicklable", "storage"])
def test_a_commit_that_fails_in_another_member_leaves_no_object_anywhere(
    chained: perdure.Collection, tm: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    conn: Any = chained.open(tm)
    first, objects = chain()
    last = objects[-1]
    conn.root.first = first
    if how == "getstate":
        last.part = _Hostile()
    elif how == "unpicklable":
        last.part = threading.Lock()
    else:
        view = conn["catalog"]._normal_storage
        monkeypatch.setattr(type(view), "tpc_vote", _full, raising=True)
    with pytest.raises((TypeError, OSError, ValueError)):
        tm.commit()
    tm.abort()
    assert all(map(belongs_nowhere, objects))
    monkeypatch.undo()
    last.__dict__.pop("part", None)
    conn.root.first = first
    tm.commit()
    assert [member_of(obj) for obj in objects] == PLACES
    conn.close()


def _full(*_args: Any) -> Any:
    raise OSError("no space left on device")


class _Hostile(Persistent):
    def __getstate__(self) -> Any:
        raise ValueError("not today")


def test_aborting_leaves_no_object_anywhere(chained: perdure.Collection, tm: Any) -> None:
    conn: Any = chained.open(tm)
    first, objects = chain()
    conn.root.first = first
    tm.savepoint()
    assert [member_of(obj) for obj in objects] == PLACES
    tm.abort()
    assert all(map(belongs_nowhere, objects))
    assert "first" not in conn.root()
    conn.close()


def test_a_rollback_takes_objects_back_from_all_members(
    chained: perdure.Collection, tm: Any
) -> None:
    conn: Any = chained.open(tm)
    conn.root.before = Account(1.0)
    tm.savepoint()
    kept = conn.root.before
    start = tm.savepoint()
    first, objects = chain()
    conn.root.first = first
    kept.next = objects[-2]
    inner = tm.savepoint()
    objects[-1].balance = 50.0
    more = objects[1].more = Counter()
    tm.savepoint()
    assert member_of(more) == "archive"
    inner.rollback()
    assert belongs_nowhere(more)
    assert objects[-1].balance == LAST
    assert [member_of(obj) for obj in objects] == PLACES
    start.rollback()
    assert all(map(belongs_nowhere, objects))
    assert member_of(kept) == "catalog"
    assert not hasattr(kept, "next")
    conn.root.again = Counter()
    tm.commit()
    assert member_of(conn.root.again) == "archive"
    conn.close()


def test_a_rollback_reaches_a_member_that_came_in_with_the_savepoint(
    collection: perdure.Collection, conn: Any, tm: Any
) -> None:
    with collection.transaction() as other:
        other["catalog"].root.old = Node(value=1)
    tm.begin()
    conn.root.account = Account(1.0)
    savepoint = tm.savepoint()
    account = conn.root.account
    account.balance = 2.0
    conn["catalog"].root.old.value = 2
    savepoint.rollback()
    assert account.balance == 1.0
    assert conn["catalog"].root.old.value == 1
    tm.commit()
    with collection.transaction() as other:
        assert other.root.account.balance == 1.0
        assert other["catalog"].root.old.value == 1


def test_a_conflict_can_be_retried(chained: perdure.Collection, tm: Any) -> None:
    conn: Any = chained.open(tm)
    first, objects = chain()
    conn.root.first = first
    with chained.transaction() as other:
        other.root.other = 1
    with pytest.raises(errors.ConflictError):
        tm.commit()
    tm.abort()
    assert all(map(belongs_nowhere, objects))
    conn.root.first = first
    tm.commit()
    assert [member_of(obj) for obj in objects] == PLACES
    assert conn.root.other == 1
    conn.close()


def test_a_read_only_member_refuses_a_routed_object(tmp_path: Any, tm: Any) -> None:
    path = str(tmp_path / "archive.fs")
    perdure.DB(path).close()
    members = {"main": None, "archive": perdure.FileStorage(path, read_only=True)}
    with perdure.Collection(members, routes={"tests": "archive"}) as collection:
        conn: Any = collection.open(tm)
        node = conn.root.node = Node()
        with pytest.raises(errors.ReadOnlyError):
            tm.commit()
        tm.abort()
        assert belongs_nowhere(node)
        conn.root.number = 1
        tm.commit()
        conn.close()


# Bad routes.


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({"shop.Product": "nowhere"}, "'shop.Product' leads to 'nowhere', which is no member"),
        ({"": "main"}, "'' can't be routed"),
        ({"shop..Product": "main"}, "'shop..Product' can't be routed"),
        ({"shop.f.<locals>.Product": "main"}, "can't be routed"),
        ({7: "main"}, "7 can't be routed"),
    ],
)
def test_a_bad_route_is_an_error_and_nothing_is_opened(
    tmp_path: Any, routes: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        perdure.Collection({"main": tmp_path / "main.fs"}, routes=routes)
    assert not list(tmp_path.iterdir())


def test_routes_can_be_looked_at(collection: perdure.Collection) -> None:
    assert dict(collection.routes) == ROUTES
    assert collection.routes.member_for(Account) == "catalog"
    with perdure.Collection({"a": None, "b": None}, routes={Account: "b"}) as other:
        assert dict(other.routes) == {f"{MODELS}.Account": "b"}
        assert not perdure.Collection({"c": None}).routes
