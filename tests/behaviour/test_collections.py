"""Several databases tied together: names, connections, references between members."""

from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.wref import WeakRef
from tests.behaviour.conftest import OpenDatabase
from tests.behaviour.models import Node

import perdure
from perdure import errors

Pair = tuple[perdure.DB, perdure.DB]


@pytest.fixture
def pair(open_db: OpenDatabase) -> Pair:
    """The members `one` and `two` of a collection."""
    databases: dict[str, Any] = {}
    one = open_db("One", database_name="one", databases=databases)
    two = open_db("Two", database_name="two", databases=databases)
    return one, two


@pytest.fixture
def conns(
    pair: Pair, tm: transaction.TransactionManager
) -> tuple[perdure.Connection, perdure.Connection]:
    """Connections to both members that were opened together."""
    conn = pair[0].open(tm)
    return conn, conn.get_connection("two")


Conns = tuple[perdure.Connection, perdure.Connection]


def commit(conns: Conns) -> None:
    conns[0].transaction_manager.commit()


# Names and connections.


def test_a_database_adds_itself_to_the_mapping(open_db: OpenDatabase) -> None:
    databases: dict[str, Any] = {}
    db = open_db("One", database_name="root", databases=databases)
    assert db.database_name == "root"
    assert db.databases is databases
    assert databases == {"root": db}
    other = open_db("Two", database_name="notroot", databases=databases)
    assert other.databases is db.databases is databases
    assert sorted(databases) == ["notroot", "root"]


def test_a_name_can_be_used_once(pair: Pair) -> None:
    databases = pair[0].databases
    with pytest.raises(ValueError, match="'one' already in databases"):
        perdure.DB(None, database_name="one", databases=databases)
    assert sorted(databases) == ["one", "two"]
    assert databases["one"] is pair[0]


def test_a_database_that_could_not_be_opened_is_no_member(pair: Pair) -> None:
    with pytest.raises(TypeError):
        perdure.DB(None, database_name="three", databases=pair[0].databases, no_such_option=1)
    assert sorted(pair[0].databases) == ["one", "two"]


def test_a_database_alone_is_a_collection_of_one(db: perdure.DB) -> None:
    assert db.database_name == "unnamed"
    assert db.databases == {"unnamed": db}
    with db.transaction() as conn:
        assert conn.connections == {"unnamed": conn}


def test_connections_of_one_set_belong_together(pair: Pair) -> None:
    tm = transaction.TransactionManager()
    conn = pair[0].open(tm)
    assert conn.connections == {"one": conn}
    other = conn.get_connection("two")
    assert other.db() is pair[1]
    assert other.transaction_manager is tm
    assert conn.connections is other.connections
    assert sorted(conn.connections) == ["one", "two"]
    assert conn.get_connection("one") is conn
    assert conn.get_connection("two") is other
    assert other.get_connection("one") is conn
    assert other.get_connection("two") is other


def test_an_unknown_member_is_a_key_error(conns: Conns) -> None:
    with pytest.raises(KeyError, match="no way"):
        conns[0].get_connection("no way")


def test_a_set_is_closed_and_opened_as_a_whole(pair: Pair) -> None:
    conn = pair[0].open()
    other = conn.get_connection("two")
    conn.close()
    assert conn.opened is None
    assert other.opened is None
    again = pair[0].open()
    assert again is conn
    assert other.opened is not None
    assert again.get_connection("two") is other
    again.close()


def test_it_does_not_matter_which_member_is_opened_first(pair: Pair) -> None:
    conn = pair[0].open()
    other = conn.get_connection("two")
    conn.close()
    first = pair[1].open()
    assert first is other
    assert first.get_connection("one") is conn
    first.close()
    assert pair[0].open() is conn
    conn.close()


def test_closing_any_member_closes_the_set(conns: Conns) -> None:
    conns[1].close()
    assert conns[0].opened is None


def test_an_idle_connection_of_a_member_is_used_by_a_set(pair: Pair) -> None:
    idle = pair[1].open()
    idle.close()
    conn = pair[0].open()
    assert conn.get_connection("two") is idle
    conn.close()


def test_two_sets_at_a_time_have_connections_of_their_own(pair: Pair) -> None:
    tms = [transaction.TransactionManager() for _ in range(2)]
    first, second = (pair[0].open(tm) for tm in tms)
    others = first.get_connection("two"), second.get_connection("two")
    assert others[0] is not others[1]
    assert others[1].transaction_manager is tms[1]
    first.close()
    second.close()


def test_a_set_with_a_change_in_any_member_cannot_be_closed(conns: Conns) -> None:
    conns[1].root.x = 1
    with pytest.raises(errors.ConnectionStateError, match="'two'"):
        conns[0].close()
    assert conns[0].opened is not None
    commit(conns)
    conns[0].close()


def test_members_can_be_closed_one_after_the_other(pair: Pair) -> None:
    for database in pair[0].databases.values():
        database.close()


def test_a_closed_member_gives_no_connections(pair: Pair) -> None:
    pair[1].close()
    conn = pair[0].open()
    with pytest.raises(errors.ConnectionStateError, match="'two' is closed"):
        conn.get_connection("two")
    conn.close()


# One transaction.


def test_one_transaction_spans_the_members(pair: Pair, conns: Conns) -> None:
    conns[0].root.x = 1
    conns[1].root.x = 2
    commit(conns)
    for db, value in zip(pair, (1, 2), strict=True):
        with db.transaction() as conn:
            assert conn.root.x == value
    conns[0].root.x = conns[1].root.x = 3
    conns[0].transaction_manager.abort()
    assert (conns[0].root.x, conns[1].root.x) == (1, 2)


def test_a_conflict_in_one_member_leaves_all_as_they_were(pair: Pair, conns: Conns) -> None:
    conns[0].root.x = Node(y=1)
    conns[1].root.x = Node(y=1)
    commit(conns)
    last = pair[0].lastTransaction()
    conns[0].root.x.y = 2
    conns[1].root.x.y = 2
    with pair[1].transaction() as other:
        other.root.x.y = 7
    with pytest.raises(errors.ConflictError):
        commit(conns)
    conns[0].transaction_manager.abort()
    assert pair[0].lastTransaction() == last
    assert (conns[0].root.x.y, conns[1].root.x.y) == (1, 7)


def test_what_is_read_in_one_member_can_be_required_to_stay_for_a_commit_to_another(
    pair: Pair, conns: Conns
) -> None:
    conns[0].root.limit = Node(x=1)
    commit(conns)
    last = pair[0].lastTransaction()
    conns[0].readCurrent(conns[0].root.limit)
    conns[1].root.x = 1
    commit(conns)
    assert pair[0].lastTransaction() == last, "nothing was written there"
    conns[0].readCurrent(conns[0].root.limit)
    conns[1].root.x = 2
    with pair[0].transaction() as other:
        other.root.limit.x = 2
    with pytest.raises(errors.ReadConflictError):
        commit(conns)
    conns[0].transaction_manager.abort()
    assert conns[1].root.x == 1


def test_requiring_that_the_past_stays_is_no_change_of_it(pair: Pair, conns: Conns) -> None:
    conns[0].root.limit = Node(x=1)
    commit(conns)
    past = pair[0].open(transaction.TransactionManager(), at=pair[0].lastTransaction())
    past.readCurrent(past.root.limit)
    past.transaction_manager.commit()
    past.close()


def test_the_other_members_work_on_when_one_is_closed(pair: Pair) -> None:
    pair[1].close()
    with pair[0].transaction() as conn:
        conn.root.x = 1
    with pair[0].transaction() as conn:
        assert conn.root.x == 1


# References between members.


def test_a_reference_leads_to_the_other_member(pair: Pair, conns: Conns) -> None:
    target = conns[0].root()["p"] = Node(name="target")
    commit(conns)
    source = conns[1].root()["p"] = Node(target=target)
    commit(conns)
    again = pair[1].open(transaction.TransactionManager())
    source_again = again.root()["p"]
    target_again = source_again.target
    assert source_again is not source
    assert source_again._p_oid == source._p_oid
    assert source_again._p_jar.db() is pair[1]
    assert target_again is not target
    assert target_again._p_oid == target._p_oid
    assert target_again._p_jar.db() is pair[0]
    assert target_again._p_jar is again.get_connection("one")
    assert target_again.name == "target"
    again.close()


def test_references_can_go_both_ways(pair: Pair, conns: Conns) -> None:
    one = conns[0].root.one = Node()
    two = conns[1].root.two = Node()
    commit(conns)
    one.other, two.other = two, one
    commit(conns)
    again = pair[1].open(transaction.TransactionManager())
    assert again.root.two.other.other is again.root.two
    again.close()


def test_a_new_object_belongs_to_the_member_that_reaches_it(conns: Conns) -> None:
    one = conns[0].root.one = Node()
    commit(conns)
    two = conns[1].root.two = Node(one=one, new=Node())
    commit(conns)
    assert two.new._p_jar is conns[1]
    assert two.one._p_jar is conns[0]


def test_an_object_of_a_database_outside_the_collection_is_refused(
    open_db: OpenDatabase, conns: Conns
) -> None:
    foreign = open_db("Three").open(conns[0].transaction_manager)
    alien = foreign.root()["p"] = Node()
    commit(conns)
    conns[1].root.p = Node(alien=alien)
    with pytest.raises(
        errors.InvalidObjectReference, match="foreign database connection"
    ) as caught:
        commit(conns)
    assert caught.value.object is alien
    assert caught.value.databases == ("two", "unnamed")
    conns[0].transaction_manager.abort()
    foreign.close()


def test_an_object_of_a_separate_connection_is_refused(pair: Pair, conns: Conns) -> None:
    conns[0].root.p = Node()
    commit(conns)
    separate = pair[0].open(transaction.TransactionManager())
    conns[1].root.p = Node(bad=separate.root.p)
    with pytest.raises(errors.InvalidObjectReference, match="separate connection"):
        commit(conns)
    conns[0].transaction_manager.abort()
    conns[0].root.q = separate.root.p
    with pytest.raises(errors.InvalidObjectReference, match="separate connection"):
        commit(conns)
    conns[0].transaction_manager.abort()
    separate.close()


def test_a_new_object_reached_from_two_members_is_refused(conns: Conns) -> None:
    one, two = conns[0].root, conns[1].root
    one.p, two.p = Node(), Node()
    commit(conns)
    new = Node()
    one.p.new = two.p.new = new
    with pytest.raises(errors.InvalidObjectReference, match="reachable from multiple") as caught:
        commit(conns)
    assert caught.value.object is new
    assert sorted(caught.value.databases) == ["one", "two"]
    assert "'one'" in str(caught.value)
    assert "'two'" in str(caught.value)
    conns[0].transaction_manager.abort()
    assert new._p_jar is None


def test_a_new_blob_beside_it_does_not_hide_why_it_is_refused(tmp_path: Path) -> None:
    members = {
        name: perdure.FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))
        for name in ("one", "two")
    }
    with perdure.Collection(members, primary="two") as collection:
        manager = transaction.TransactionManager()
        conn = collection.open(manager)
        first = Node(photo=perdure.Blob(b"a face"))
        conn["one"].add(first)
        conn["one"].root.first = first
        conn.root.second = second = Node(first=first)
        first.second = WeakRef(second)
        with pytest.raises(errors.InvalidObjectReference, match="reachable from multiple"):
            manager.commit()
        manager.abort()
        conn.close()


def test_committing_first_settles_where_a_new_object_belongs(conns: Conns) -> None:
    conns[0].root.p, conns[1].root.p = Node(), Node()
    new = conns[0].root.p.new = Node()
    commit(conns)
    conns[1].root.p.new = new
    commit(conns)
    assert new._p_jar.db().database_name == "one"


def test_a_savepoint_does_not_settle_where_a_new_object_belongs(conns: Conns) -> None:
    conns[0].root.p, conns[1].root.p = Node(), Node()
    commit(conns)
    new = conns[0].root.p.new = Node()
    conns[0].transaction_manager.savepoint()
    conns[1].root.p.new = new
    with pytest.raises(errors.InvalidObjectReference, match="reachable from multiple"):
        commit(conns)
    conns[0].transaction_manager.abort()


def test_add_settles_where_a_new_object_belongs(conns: Conns) -> None:
    conns[0].root.p, conns[1].root.p = Node(), Node()
    commit(conns)
    new = Node()
    conns[0].root.p.new = conns[1].root.p.new = new
    conns[0].add(new)
    commit(conns)
    assert new._p_jar.db().database_name == "one"
    assert conns[1].root.p.new is new


def test_add_settles_it_for_savepoints_too(pair: Pair, conns: Conns) -> None:
    conns[0].root.p, conns[1].root.p = Node(), Node()
    commit(conns)
    new = Node(x=1)
    conns[1].add(new)
    conns[0].transaction_manager.savepoint()
    conns[0].root.p.new = conns[1].root.p.new = new
    new.x = 2
    conns[0].transaction_manager.savepoint()
    new.x = 3
    commit(conns)
    assert new._p_jar.db().database_name == "two"
    with pair[0].transaction() as again:
        assert again.root.p.new.x == 3


def test_adding_to_a_second_member_is_refused(conns: Conns) -> None:
    new = Node()
    conns[0].add(new)
    with pytest.raises(errors.InvalidObjectReference, match="belongs to another"):
        conns[1].add(new)


def test_without_xrefs_references_to_others_are_refused(open_db: OpenDatabase) -> None:
    databases: dict[str, Any] = {}
    open_db("One", database_name="one", databases=databases)
    strict = open_db("Two", database_name="two", databases=databases, xrefs=False)
    tm = transaction.TransactionManager()
    conn = strict.open(tm)
    other = conn.get_connection("one")
    target = other.root.p = Node()
    own = conn.root.p = Node()
    tm.commit()
    other.root.q = own
    tm.commit()
    own.target = target
    with pytest.raises(errors.InvalidObjectReference, match="xrefs=False"):
        tm.commit()
    tm.abort()
    conn.close()


def test_objects_that_need_arguments_are_referred_to_by_oid(pair: Pair, conns: Conns) -> None:
    target = conns[0].root.p = WithArguments("tag")
    commit(conns)
    conns[1].root.p = Node(target=target)
    commit(conns)
    with pair[1].transaction() as again:
        assert again.root.p.target.tag == "tag"


class WithArguments(Node):
    """An object whose `__new__` needs an argument."""

    def __new__(cls, tag: str) -> Any:
        made = super().__new__(cls)
        made.__dict__["tag"] = tag
        return made

    def __init__(self, tag: str) -> None:
        super().__init__(tag=tag)

    def __getnewargs__(self) -> tuple[str]:
        return (self.tag,)


def test_weak_references_lead_to_the_other_member(pair: Pair, conns: Conns) -> None:
    target = conns[0].root.p = Node(name="target")
    commit(conns)
    conns[1].root.p = Node(weak=WeakRef(target))
    commit(conns)
    with pair[1].transaction() as again:
        assert again.root.p.weak().name == "target"
        assert again.root.p.weak()._p_jar is again.get_connection("one")


def test_a_set_of_connections_to_the_past(pair: Pair, conns: Conns) -> None:
    target = conns[0].root.p = Node(x=1)
    commit(conns)
    conns[1].root.p = Node(target=target)
    commit(conns)
    then = max(db.lastTransaction() for db in pair)
    target.x = 2
    commit(conns)
    past = pair[1].open(transaction.TransactionManager(), at=then)
    assert past.root.p.target.x == 1
    assert past.get_connection("one").isReadOnly()
    past.close()


def test_a_snapshot_is_taken_in_all_members_at_once(pair: Pair, conns: Conns) -> None:
    for conn in conns:
        conn.root.p = Node(x=1)
    commit(conns)
    conns[0].sync()
    for db in pair:
        with db.transaction() as other:
            other.root.p.x = 2
    assert [conn.root.p.x for conn in conns] == [1, 1]
    conns[1].sync()
    assert [conn.root.p.x for conn in conns] == [2, 2]
