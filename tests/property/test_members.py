"""Three members with several connections against a plain model, crashes and all.

The model keeps the newest state as dictionaries, and all states since the last pack. What a
connection sees is a copy that its own changes lie over; a commit conflicts if another one since
changed one of the same objects, in any member. `make model` does it at length.
"""

import base64
import itertools
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from persistent import Persistent
from persistent.mapping import PersistentMapping
from tests.campaign import CAMPAIGN, SEED, report
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure import errors
from perdure.ids import Tid

STEPS = 250
"""Of a walk over members without layers, and of one over members with them."""
MEMBERS = ("a", "b", "c")
LAYERED = {"b": "zstd", "c": "encrypting-over-zlib"}
CONNECTIONS = 3

Place = tuple[str, int]
PLACES = st.tuples(st.sampled_from(MEMBERS), st.integers(0, 2))
WHICH = st.integers(0, CONNECTIONS - 1)
VALUES = st.integers(0, 99)


class Item(Persistent):
    """An object with a value, which may refer to another one in any member."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.link: Item | None = None


@dataclass
class State:
    """Which object is at which place, and the value and link of each object."""

    places: dict[Place, int] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)
    links: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "State":
        return State(dict(self.places), dict(self.values), dict(self.links))

    def shown(self) -> dict[Place, list[int]]:
        return {place: [self.values[n] for n in self.chain(n)] for place, n in self.places.items()}

    def chain(self, number: int) -> list[int]:
        """The object and what it leads to, until one comes again."""
        chain = [number]
        while (following := self.links.get(chain[-1])) is not None and following not in chain:
            chain.append(following)
        return chain


Touched = set[int | str]
"""The numbers of objects, and the names of members whose table of places was changed."""


@dataclass
class Commit:
    tid: Tid
    touched: Touched
    made: set[int]
    """The numbers of objects that came into being."""
    after: State
    moved: set[int] = field(default_factory=set)
    """The numbers of objects that may have been moved to another member."""
    removed: set[int] = field(default_factory=set)
    """The numbers of objects that an undo took away."""


@dataclass
class Modelled:
    """A set of connections, and what it should see."""

    connection: Any
    began: int = 0
    state: State = field(default_factory=State)
    touched: Touched = field(default_factory=set)
    made: set[int] = field(default_factory=set)
    savepoints: list[tuple[Any, State, Touched, set[int]]] = field(default_factory=list)

    def items(self, member: str) -> Any:
        return self.connection.get_connection(member).root()["items"]

    @property
    def manager(self) -> Any:
        return self.connection.transaction_manager


class CrashesIn:
    """Takes part in a transaction, and copies the files at one of its steps."""

    def __init__(self, step: str, key: str, crash: Any) -> None:
        self._step, self._key, self._crash = step, key, crash
        self.transaction_manager = None

    def sortKey(self) -> str:
        return self._key

    def _at(self, step: str) -> None:
        if step == self._step:
            self._crash()

    def tpc_vote(self, _transaction: object) -> None:
        self._at("vote")

    def tpc_finish(self, _transaction: object) -> None:
        self._at("finish")

    def abort(self, _transaction: object) -> None: ...

    tpc_begin = commit = tpc_abort = abort


CRASHES = {
    "before any vote": ("vote", "!", False),
    "after all votes": ("vote", "~~", False),
    "before the first finish": ("finish", "!", False),
    "after the last finish": ("finish", "~~", True),
}
"""Where a process dies in a commit: the step, the sort key, and whether it is committed."""


class Members(RuleBasedStateMachine):
    """Connections that change objects in three members and commit, in any order."""

    directories: Iterator[Path]
    layers: ClassVar[dict[str, str]] = {}
    """The layers that members stand under."""
    done: ClassVar[Counter[str]]
    """How often what happened."""

    @initialize()
    def begin(self) -> None:
        self.directory = next(self.directories)
        self.directory.mkdir()
        self.numbers = itertools.count()
        self._open()
        for member in MEMBERS:
            with self.collection[member].transaction() as connection:
                connection.root()["items"] = PersistentMapping()
        self.forgotten = 0
        self.commits: list[Commit] = []
        self.newest = State()
        self.ones = [Modelled(None) for _ in range(CONNECTIONS)]
        self._connect()

    def _open(self) -> None:
        members: dict[str, Any] = {name: str(self.directory / f"{name}.fs") for name in MEMBERS}
        for name, layers in self.layers.items():
            members[name] = LAYERED_MEMBERS[layers](self.directory, name)
        self.collection = perdure.Collection(members, cache_size=3)

    def _connect(self) -> None:
        for one in self.ones:
            one.connection = self.collection.open(transaction.TransactionManager())
            self._begun(one)

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self._close()
            shutil.rmtree(self.directory)

    def _close(self) -> None:
        for one in self.ones:
            one.manager.abort()
            one.connection.close()
        self.collection.close()

    def _begun(self, one: Modelled) -> Modelled:
        self.done["transactions"] += 1
        one.began = len(self.commits)
        one.state = self.newest.copy()
        one.touched, one.made, one.savepoints = set(), set(), []
        return one

    def _abort_all(self) -> None:
        for one in self.ones:
            one.manager.abort()
            one.connection.sync()
            self._begun(one)

    # What a transaction does.

    @rule(which=WHICH, place=PLACES, value=VALUES)
    def put(self, which: int, place: Place, value: int) -> None:
        one = self.ones[which]
        number = one.state.places.get(place)
        if number is None:
            self._make(one, place, value)
        else:
            one.items(place[0])[place[1]].value = value
            one.state.values[number] = value
            one.touched.add(number)

    @rule(which=WHICH, place=PLACES, value=VALUES)
    def replace(self, which: int, place: Place, value: int) -> None:
        self._make(self.ones[which], place, value)

    def _make(self, one: Modelled, place: Place, value: int) -> None:
        member, key = place
        item = Item(value)
        one.connection.get_connection(member).add(item)
        one.items(member)[key] = item
        number = next(self.numbers)
        one.state.places[place] = number
        one.state.values[number] = value
        one.touched |= {number, member}
        one.made.add(number)

    @rule(which=WHICH, place=PLACES)
    def remove(self, which: int, place: Place) -> None:
        one = self.ones[which]
        if place in one.state.places:
            del one.items(place[0])[place[1]]
            del one.state.places[place]
            one.touched.add(place[0])

    @rule(which=WHICH, place=PLACES, to=PLACES)
    def link(self, which: int, place: Place, to: Place) -> None:
        one = self.ones[which]
        places = one.state.places
        if place in places and to in places:
            one.items(place[0])[place[1]].link = one.items(to[0])[to[1]]
            one.state.links[places[place]] = places[to]
            one.touched.add(places[place])

    @rule(which=WHICH)
    def savepoint(self, which: int) -> None:
        one = self.ones[which]
        point = one.manager.savepoint()
        one.savepoints.append((point, one.state.copy(), set(one.touched), set(one.made)))

    @rule(which=WHICH, back=st.integers(0, 3))
    def rollback(self, which: int, back: int) -> None:
        one = self.ones[which]
        if one.savepoints:
            index = max(0, len(one.savepoints) - 1 - back)
            point, state, touched, made = one.savepoints[index]
            point.rollback()
            one.state, one.touched, one.made = state.copy(), set(touched), set(made)
            del one.savepoints[index + 1 :]

    @rule(which=WHICH, minimize=st.booleans())
    def shrink_caches(self, which: int, minimize: bool) -> None:
        for member in MEMBERS:
            connection = self.ones[which].connection.get_connection(member)
            (connection.cacheMinimize if minimize else connection.cacheGC)()

    @rule(which=WHICH)
    def look(self, which: int) -> None:
        one = self.ones[which]
        assert _shown(one.connection) == one.state.shown()

    # How it ends.

    @rule(which=WHICH)
    def abort(self, which: int) -> None:
        self.ones[which].manager.abort()
        self._begun(self.ones[which])

    @rule(which=WHICH)
    def begin_again(self, which: int) -> None:
        self.ones[which].connection.sync()
        self._begun(self.ones[which])

    @rule(which=WHICH)
    def commit(self, which: int) -> None:
        one = self.ones[which]
        if self._conflicts(one):
            with pytest.raises(errors.ConflictError):
                one.manager.commit()
            self.done["conflicts"] += 1
            one.manager.abort()
        else:
            one.manager.commit()
            self._committed(one)
        self._begun(one)
        self._look_anew()

    def _conflicts(self, one: Modelled) -> bool:
        others: Touched = set().union(*(each.touched for each in self.commits[one.began :]))
        return bool(one.touched & others)

    def _committed(self, one: Modelled) -> None:
        if one.touched:
            self._advance(one.state, one.touched, one.made)

    def _advance(self, state: State, touched: Touched, made: set[int]) -> None:
        """Lay what a transaction touched over the newest state."""
        newest = self.newest.copy()
        for member in touched & set(MEMBERS):
            newest.places = {p: n for p, n in newest.places.items() if p[0] != member}
            newest.places |= {p: n for p, n in state.places.items() if p[0] == member}
        for number in touched - set(MEMBERS):
            assert isinstance(number, int)
            newest.values[number] = state.values[number]
            newest.links.pop(number, None)
            if number in state.links:
                newest.links[number] = state.links[number]
        self.newest = newest
        tid = self.collection.lastTransaction()
        assert not self.commits or tid > self.commits[-1].tid
        self.commits.append(Commit(tid, touched, made, newest))

    def _look_anew(self) -> None:
        with self.collection.transaction() as connection:
            assert _shown(connection) == self.newest.shown()

    @rule(which=WHICH, place=PLACES, to=PLACES, new=st.booleans())
    def commit_one_change(self, which: int, place: Place, to: Place, *, new: bool) -> None:
        """Make an object or link one, and nothing else: later ones leave much of it alone."""
        self._abort_all()
        if new:
            self.replace(which, place, 0)
        else:
            self.link(which, place, to)
        self.commit(which)

    # What happens to the collection.

    @rule(back=st.integers(0, 5))
    def look_at_the_past(self, back: int) -> None:
        known = self.commits[self.forgotten :]
        if known:
            commit = known[max(0, len(known) - 1 - back)]
            self.done["looks at the past"] += 1
            with self.collection.at(commit.tid) as connection:
                assert _shown(connection) == commit.after.shown()

    @rule(back=st.integers(0, 3))
    def undo(self, back: int) -> None:
        untouched = self._untouched_since()
        if not untouched:
            return
        index = untouched[back % len(untouched)]
        undone, before = self.commits[index], self.commits[index - 1].after
        state = self.newest
        restored = _laid_over(state.copy(), before, undone.touched)
        gone: set[int] = set()
        for each in self.commits[index + 1 :]:
            gone = (gone | each.moved | each.removed) - each.made
        leads_nowhere = (
            any(_referring(restored, n) for n in undone.made)
            # What it brings back refers to an object that is gone, or to its former place.
            or any(_referring(restored, n) - _referring(state, n) for n in gone)
            # So does what came to refer to it where it was moved to.
            or any(_referring(state, n) - _referring(undone.after, n) for n in undone.moved)
        )
        self._abort_all()
        self.collection.undo(base64.b64encode(undone.tid))
        if leads_nowhere:
            with pytest.raises(errors.UndoError):
                transaction.commit()
            transaction.abort()
            self.done["undos refused"] += 1
        else:
            transaction.commit()
            self.done["undos"] += 1
            self._advance(_with(before, undone), undone.touched, undone.removed)
            self.commits[-1].removed, self.commits[-1].moved = undone.made, undone.moved
        self._abort_all()
        self._look_anew()

    def _untouched_since(self) -> list[int]:
        """The numbers of commits that can be undone and that no later one changed anything of."""
        later: Touched = set()
        found = []
        for index in range(len(self.commits) - 1, max(self.forgotten, 1) - 1, -1):
            if not self.commits[index].touched & later:
                found.append(index)
            later |= self.commits[index].touched
        return found[::-1]

    @rule(place=PLACES, member=st.sampled_from(MEMBERS), reachable=st.booleans())
    def move(self, place: Place, member: str, reachable: bool) -> None:
        number = self.newest.places.get(place)
        if number is None:
            return
        self._abort_all()
        one = self.ones[0]
        moved = self.collection.move(one.items(place[0])[place[1]], member, reachable=reachable)
        if moved.places:
            self.done["moves"] += 1
            numbers = set(self.newest.chain(number)) if reachable else {number}
            referring = set().union(*(_referring(self.newest, each) for each in numbers))
            self._advance(self.newest, {*numbers, *referring}, set())
            self.commits[-1].moved = numbers
        self._abort_all()
        self._look_anew()
        with self.collection.transaction() as connection:
            item = connection.get_connection(place[0]).root()["items"][place[1]]
            assert item._p_jar.db() is self.collection[member]

    @rule(member=st.sampled_from(MEMBERS))
    def pack(self, member: str) -> None:
        self._abort_all()
        self.collection[member].pack()
        self._forget()

    @rule()
    def collect_garbage(self) -> None:
        self._abort_all()
        self.collection.gc()
        self._forget()
        assert perdure.check_collection(self.collection.databases)

    def _forget(self) -> None:
        """The past can't be told any more."""
        self.done["packs"] += 1
        self.forgotten = len(self.commits)
        self._abort_all()
        self._look_anew()

    @rule()
    def reopen(self) -> None:
        self._close()
        self._open()
        self._connect()
        self._look_anew()

    @rule(which=WHICH, where=st.sampled_from(sorted(CRASHES)))
    def die_in_a_commit(self, which: int, where: str) -> None:
        one = self.ones[which]
        if self._conflicts(one):
            return
        step, key, committed = CRASHES[where]
        left = next(self.directories)
        one.manager.get().join(CrashesIn(step, key, lambda: shutil.copytree(self.directory, left)))
        one.manager.commit()
        if committed:
            self._committed(one)
        self.done["crashes"] += 1
        self._close()
        shutil.rmtree(self.directory)
        self.directory = left
        self._open()
        self._connect()
        self._look_anew()


def _shown(connection: Any) -> dict[Place, list[int]]:
    shown = {}
    for member in MEMBERS:
        for key, item in connection.get_connection(member).root()["items"].items():
            chain = [item]
            while (following := chain[-1].link) is not None and following not in chain:
                chain.append(following)
            shown[member, key] = [each.value for each in chain]
    return shown


def _with(before: State, undone: Commit) -> State:
    """The state that undoing gives back; what the transaction made had none."""
    state = before.copy()
    for number in undone.made:
        state.values[number] = undone.after.values[number]
    return state


def _laid_over(state: State, before: State, touched: Touched) -> State:
    for member in touched & set(MEMBERS):
        state.places = {p: n for p, n in state.places.items() if p[0] != member}
        state.places |= {p: n for p, n in before.places.items() if p[0] == member}
    for number in touched - set(MEMBERS):
        assert isinstance(number, int)
        state.links.pop(number, None)
        if number in before.links:
            state.links[number] = before.links[number]
    return state


def _referring(state: State, number: int) -> Touched:
    """The objects, and the members whose table of places, refer to an object."""
    linking = {n for n, to in state.links.items() if to == number}
    return linking | {place[0] for place, n in state.places.items() if n == number}


WEIGHTS = {
    "put": 30,
    "replace": 10,
    "remove": 5,
    "link": 20,
    "savepoint": 5,
    "rollback": 4,
    "shrink_caches": 4,
    "look": 10,
    "abort": 2,
    "begin_again": 4,
    "commit": 25,
    "commit_one_change": 15,
    "look_at_the_past": 5,
    "undo": 15,
    "move": 3,
    "pack": 1,
    "collect_garbage": 1,
    "reopen": 1,
    "die_in_a_commit": 3,
}
"""How often a walk does what."""


def _walk(machine: Members, seed: int, steps: int) -> None:
    """Take steps at random; the seed and the number tell which one failed."""
    dice = random.Random(seed)
    machine.begin()
    chosen = dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=steps)
    for number, name in enumerate(chosen):
        place, to = ((dice.choice(MEMBERS), dice.randrange(3)) for _ in range(2))
        known = {
            "which": dice.randrange(CONNECTIONS),
            "place": place,
            "to": to,
            "value": dice.randrange(100),
            "back": dice.randrange(4),
            "minimize": dice.choice((False, True)),
            "member": dice.choice(MEMBERS),
            "reachable": dice.choice((False, True)),
            "where": dice.choice(sorted(CRASHES)),
            "new": dice.choice((False, True)),
        }
        step = getattr(machine, name)
        names = step.hypothesis_stateful_rule.arguments
        try:
            step(**{argument: known[argument] for argument in names})
        except Exception as error:
            raise AssertionError(f"seed {seed}, step {number}: {name} {known}") from error


@pytest.fixture(params=["plain", "layered"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> type[Members]:
    """The machine, with its files below a directory of the test's own."""
    names = itertools.count()

    class InThisDirectory(Members):
        done: ClassVar[Counter[str]] = Counter()
        layers: ClassVar[dict[str, str]] = LAYERED if request.param == "layered" else {}

        def __init__(self) -> None:
            super().__init__()
            self.directories = (tmp_path / str(number) for number in names)

    return InThisDirectory


def test_three_members_are_what_a_plain_model_says(machine: type[Members]) -> None:
    checks = list(HealthCheck)
    examples = settings(
        max_examples=3 * CAMPAIGN,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=checks,
    )
    run_state_machine_as_test(machine, settings=examples)


def test_long_walks_over_three_members_are_what_a_plain_model_says(
    machine: type[Members],
) -> None:
    for seed in range(SEED, SEED + CAMPAIGN):
        walker = machine()
        try:
            _walk(walker, seed, STEPS)
        finally:
            walker.teardown()
    assert all(
        machine.done[what]
        for what in ("undos", "undos refused", "crashes", "conflicts", "looks at the past", "moves")
    )
    report("model", layers=dict(machine.layers), steps=STEPS * CAMPAIGN, **machine.done)
