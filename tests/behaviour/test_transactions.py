"""Commit, abort and what others see of it."""

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from tests.behaviour.models import Account, Node

import perdure
from perdure import errors


def test_what_is_committed_is_seen_by_others(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root()["account"] = Account(100)
    conn.transaction_manager.commit()
    with db.transaction() as other:
        assert other.root()["account"].balance == 100


def test_what_is_not_committed_is_not_seen_by_others(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root()["account"] = Account()
    with db.transaction() as other:
        assert "account" not in other.root()


def test_abort_takes_changes_back(conn: perdure.Connection) -> None:
    tm = conn.transaction_manager
    conn.root.account = Account(100)
    tm.commit()
    conn.root.account.deposit(5)
    conn.root.other = Account()
    tm.abort()
    assert conn.root.account.balance == 100
    assert not hasattr(conn.root, "other")


def test_new_objects_of_an_aborted_transaction_belong_nowhere(conn: perdure.Connection) -> None:
    account = Account(7)
    conn.root.account = account
    conn.transaction_manager.abort()
    assert account._p_jar is None
    assert account._p_oid is None
    assert account.balance == 7


def test_objects_reached_from_persistent_ones_become_persistent(
    conn: perdure.Connection,
) -> None:
    leaf = Node(name="leaf")
    conn.root.tree = Node(children=[Node(child=leaf), {"deep": (leaf,)}])
    conn.transaction_manager.commit()
    assert leaf._p_jar is conn
    assert leaf._p_oid is not None
    assert conn.get(leaf._p_oid) is leaf


def test_cycles_are_stored(db: perdure.DB, conn: perdure.Connection) -> None:
    one, other = Node(), Node()
    one.other, other.other = other, one
    conn.root.one = one
    conn.transaction_manager.commit()
    with db.transaction() as again:
        assert again.root.one.other.other is again.root.one


def test_serials_are_the_tid_of_the_commit(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.one = Node()
    conn.transaction_manager.commit()
    assert conn.root.one._p_serial == db.lastTransaction()
    assert conn.root()._p_serial == db.lastTransaction()
    before = db.lastTransaction()
    conn.root.one.x = 1
    conn.transaction_manager.commit()
    assert conn.root.one._p_serial == db.lastTransaction() > before


def test_an_object_of_two_changes_in_one_transaction_is_stored_once(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.one = Node()
    conn.transaction_manager.commit()
    conn.getTransferCounts(clear=True)
    node = conn.root.one
    node.x = 1
    node._p_changed = False
    node.x = 2
    conn.transaction_manager.commit()
    assert conn.getTransferCounts()[1] == 1
    with db.transaction() as other:
        assert other.root.one.x == 2


def test_a_conflict_names_object_class_and_serials(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.account = Account(1)
    conn.transaction_manager.commit()
    account = conn.root.account
    seen = account._p_serial
    with db.transaction() as other:
        other.root.account.deposit(1)
    committed = db.lastTransaction()
    account.deposit(5)
    with pytest.raises(errors.ConflictError) as caught:
        conn.transaction_manager.commit()
    error = caught.value
    assert error.oid == account._p_oid
    assert error.class_name == "tests.behaviour.models.Account"
    assert error.serials == (committed, seen)
    assert error.database == "unnamed"
    conn.transaction_manager.abort()
    assert conn.root.account.balance == 2


def test_after_a_conflict_the_next_attempt_sees_what_was_committed(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.account = Account(1)
    conn.transaction_manager.commit()
    conn.root.account.deposit(1)
    with db.transaction() as other:
        other.root.account.deposit(10)
    with pytest.raises(errors.ConflictError):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    assert conn.root.account.balance == 11
    conn.root.account.deposit(1)
    conn.transaction_manager.commit()
    with db.transaction() as other:
        assert other.root.account.balance == 12


def test_attempts_run_a_transaction_again_after_a_conflict(db: perdure.DB) -> None:
    tm = transaction.TransactionManager()
    conn = db.open(tm)
    conn.root.account = Account(1)
    tm.commit()
    tries = 0
    for attempt in tm.attempts():
        with attempt:
            tries += 1
            conn.root.account.deposit(1)
            if tries == 1:
                with db.transaction() as other:
                    other.root.account.deposit(10)
    assert tries == 2
    assert conn.root.account.balance == 12


def test_a_snapshot_stays_while_others_commit(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.one = Node(x=1)
    conn.root.two = Node(x=1)
    conn.transaction_manager.commit()
    conn.cacheMinimize()
    conn.transaction_manager.begin()
    with db.transaction() as other:
        other.root.one.x = other.root.two.x = 2
    assert (conn.root.one.x, conn.root.two.x) == (1, 1)
    conn.sync()
    assert (conn.root.one.x, conn.root.two.x) == (2, 2)


def test_disjoint_changes_do_not_conflict(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.one = Node(x=1)
    conn.root.two = Node(x=1)
    conn.transaction_manager.commit()
    conn.root.one.x = 2
    with db.transaction() as other:
        other.root.two.x = 3
    conn.transaction_manager.commit()
    assert (conn.root.one.x, conn.root.two.x) == (2, 3)


def test_read_current_fails_when_the_object_was_changed(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.limit = Node(x=10)
    conn.root.account = Account(1)
    conn.transaction_manager.commit()
    conn.readCurrent(conn.root.limit)
    conn.root.account.deposit(conn.root.limit.x)
    with db.transaction() as other:
        other.root.limit.x = 5
    with pytest.raises(errors.ReadConflictError) as caught:
        conn.transaction_manager.commit()
    assert caught.value.oid == conn.root.limit._p_oid
    assert caught.value.class_name == "tests.behaviour.models.Node"
    conn.transaction_manager.abort()
    assert conn.root.limit.x == 5
    assert conn.root.account.balance == 1


def test_read_current_of_an_unchanged_object_lets_the_commit_pass(
    conn: perdure.Connection,
) -> None:
    conn.root.limit = Node(x=10)
    conn.transaction_manager.commit()
    conn.readCurrent(conn.root.limit)
    conn.root.account = Account(10)
    conn.transaction_manager.commit()
    assert conn.root.account.balance == 10


def test_notes_user_and_extended_info_are_kept(db: perdure.DB, conn: perdure.Connection) -> None:
    txn = conn.transaction_manager.begin()
    txn.note("first note")
    txn.note("second note")
    txn.setUser("jim", "/site")
    txn.setExtendedInfo("request", "17")
    conn.root.x = 1
    conn.transaction_manager.commit()
    newest = db.history(conn.root()._p_oid)[0]
    assert newest["user_name"] == "/site jim"
    assert newest["description"] == "first note\nsecond note"
    assert newest["tid"] == db.lastTransaction()


def test_a_doomed_transaction_can_only_be_aborted(conn: perdure.Connection) -> None:
    conn.root.x = 1
    conn.transaction_manager.doom()
    with pytest.raises(transaction.interfaces.DoomedTransaction):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    assert not hasattr(conn.root, "x")


def test_hooks_run_around_the_commit(conn: perdure.Connection) -> None:
    called: list[object] = []
    txn = conn.transaction_manager.get()
    txn.addBeforeCommitHook(lambda: called.append(conn.root.x))
    txn.addAfterCommitHook(called.append)
    conn.root.x = 1
    txn.commit()
    assert called == [1, True]


def test_a_change_made_by_a_before_commit_hook_is_committed(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.transaction_manager.get().addBeforeCommitHook(conn.root().update, ({"late": 1},))
    conn.root.x = 1
    conn.transaction_manager.commit()
    with db.transaction() as other:
        assert other.root.late == 1


def test_a_failing_other_resource_leaves_the_database_as_it_was(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    class Failing:
        transaction_manager = conn.transaction_manager

        def sortKey(self) -> str:
            return "~~~ after all others"

        def tpc_begin(self, txn: object) -> None: ...

        def commit(self, txn: object) -> None: ...

        def tpc_vote(self, txn: object) -> None:
            raise ZeroDivisionError

        def tpc_finish(self, txn: object) -> None: ...

        def tpc_abort(self, txn: object) -> None: ...

        def abort(self, txn: object) -> None: ...

    last = db.lastTransaction()
    new = Node()
    conn.root.new = new
    conn.transaction_manager.get().join(Failing())
    with pytest.raises(ZeroDivisionError):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    assert db.lastTransaction() == last
    assert new._p_jar is None
    assert not hasattr(conn.root, "new")
    conn.root.fine = Node()
    conn.transaction_manager.commit()
    assert db.lastTransaction() > last


def test_an_object_that_cannot_be_pickled_leaves_nothing_behind(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    last = db.lastTransaction()
    good = Node()
    bad = Node(good=good, inner={"key": [lambda: 1]})
    conn.root.bad = bad
    with pytest.raises(errors.UnpicklableError) as caught:
        conn.transaction_manager.commit()
    assert caught.value.path == ".inner['key'][0]"
    assert caught.value.class_name == "tests.behaviour.models.Node"
    assert caught.value.oid is not None
    conn.transaction_manager.abort()
    assert db.lastTransaction() == last
    for obj in (good, bad):
        assert obj._p_jar is None
        assert obj._p_oid is None
    del bad.inner
    conn.root.good = bad
    conn.transaction_manager.commit()
    with db.transaction() as other:
        assert other.root.good.good is not None


def test_what_cannot_be_pickled_in_a_tree_is_told_by_its_key(conn: perdure.Connection) -> None:
    conn.root.tree = OOBTree({"tea": 1, "cake": {"recipe": lambda: 1}})
    with pytest.raises(errors.UnpicklableError) as caught:
        conn.transaction_manager.commit()
    assert caught.value.path == "['cake']['recipe']"
    conn.transaction_manager.abort()


def test_an_object_of_a_class_that_has_no_name_is_refused(conn: perdure.Connection) -> None:
    class Local(Node):
        """Can't be found by its name, so what is stored couldn't be loaded."""

    conn.root.node = Node(children=[Local()])
    with pytest.raises(errors.UnpicklableError, match="Local") as caught:
        conn.transaction_manager.commit()
    assert caught.value.path == ".children[0]"
    assert caught.value.class_name == "tests.behaviour.models.Node"
    conn.transaction_manager.abort()
    conn.add(Local())
    with pytest.raises(errors.UnpicklableError, match="Local") as caught:
        conn.transaction_manager.commit()
    assert caught.value.path == ""
    conn.transaction_manager.abort()


def test_an_error_while_committing_asks_for_an_abort(conn: perdure.Connection) -> None:
    conn.root.bad = Node(inner=lambda: 1)
    with pytest.raises(errors.UnpicklableError):
        conn.transaction_manager.commit()
    with pytest.raises(transaction.interfaces.TransactionFailedError):
        conn.root.x = 1
    conn.transaction_manager.abort()
    conn.root.x = 1
    conn.transaction_manager.commit()


def test_nothing_is_written_when_nothing_was_changed(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.one = Node()
    conn.transaction_manager.commit()
    last = db.lastTransaction()
    conn.transaction_manager.commit()
    conn.root.one.x = 1
    conn.root.one._p_changed = False
    conn.transaction_manager.commit()
    assert db.lastTransaction() == last


def test_the_thread_has_a_transaction_of_its_own(db: perdure.DB) -> None:
    conn = db.open()
    assert conn.transaction_manager is transaction.manager.manager
    conn.root.x = 1
    transaction.commit()
    assert conn.root.x == 1
    conn.close()


def test_a_transaction_as_a_block(db: perdure.DB) -> None:
    with db.transaction("adding x") as conn:
        conn.root.x = 1
    with pytest.raises(ZeroDivisionError), db.transaction() as conn:  # noqa: PT012
        conn.root.x = 2
        raise ZeroDivisionError
    with db.transaction() as conn:
        assert conn.root.x == 1
        assert db.history(conn.root()._p_oid)[0]["description"] == "adding x"


def test_a_failing_commit_of_a_block_gives_its_connection_back(db: perdure.DB) -> None:
    with pytest.raises(errors.UnpicklableError), db.transaction() as conn:
        conn.root.bad = Node(inner=lambda: 1)
    with db.transaction() as again:
        assert again is conn
        assert "bad" not in again.root()


def test_in_explicit_mode_a_transaction_has_to_be_begun(db: perdure.DB) -> None:
    tm = transaction.TransactionManager(explicit=True)
    conn = db.open(tm)
    assert conn.explicit_transactions
    with tm:
        conn.root.x = Node(y=1)
    with tm:
        assert conn.root.x.y == 1
    with pytest.raises(transaction.interfaces.NoTransaction):
        conn.root.x.y = 2


def test_in_explicit_mode_the_snapshot_moves_on_at_begin(db: perdure.DB) -> None:
    tm = transaction.TransactionManager(explicit=True)
    conn = db.open(tm)
    with tm:
        conn.root.x = Node(y=1)
    with db.transaction() as other:
        other.root.x.y = 2
    tm.begin()
    assert conn.root.x.y == 2
    with db.transaction() as other:
        other.root.x.y = 3
    assert conn.root.x.y == 2
    tm.abort()


def test_what_was_read_between_explicit_transactions_is_not_kept(db: perdure.DB) -> None:
    tm = transaction.TransactionManager(explicit=True)
    conn = db.open(tm)
    with tm:
        conn.root.x = Node(y=1)
    with tm:
        node = conn.root.x
        node.y = 2
    node._p_deactivate()
    node._p_activate()
    with tm:
        assert node.y == 2
        node.y += 1
    with tm:
        assert node.y == 3


def test_objects_added_while_a_state_is_taken_are_stored(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.adder = Adder(conn)
    conn.transaction_manager.commit()
    with db.transaction() as other:
        assert other.get(conn.root.adder.added).name == "added late"


class Adder(Node):
    """Adds another object when its own state is taken."""

    def __init__(self, conn: perdure.Connection) -> None:
        super().__init__()
        self._v_conn = conn

    def __getstate__(self) -> object:
        late = Node(name="added late")
        self._v_conn.add(late)
        self.__dict__["added"] = late._p_oid
        return super().__getstate__()


def test_the_root_is_a_mapping(conn: perdure.Connection) -> None:
    assert type(conn.root()) is PersistentMapping
