"""Goes through the orders in which threads of Python can run, one execution for each.

A thread can be stopped before each line of the modules that are watched, and where it would wait
for a lock. Stopping it though it could go on is a preemption; all orders with no more than a given
number of them are tried.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType
from typing import Any

import pytest

__all__ = ["in_all_orders"]

WAIT_S = 60


class _Choices:
    """Depth first: which of the possibilities is taken each time there are several."""

    def __init__(self) -> None:
        self._taken: list[list[int]] = []
        self._step = 0

    def choose(self, count: int) -> int:
        if self._step == len(self._taken):
            self._taken.append([0, count])
        taken, known = self._taken[self._step]
        assert known == count, "the scenario isn't the same every time"
        self._step += 1
        return taken

    def advance(self) -> bool:
        """Go to the next order; False where all were tried."""
        self._step = 0
        while self._taken:
            last = self._taken[-1]
            last[0] += 1
            if last[0] < last[1]:
                return True
            self._taken.pop()
        return False


class _Execution:
    """One order: a thread runs while it has its turn."""

    def __init__(self, choices: _Choices, preemptions_max: int, files: set[str]) -> None:
        self._choices = choices
        self._preemptions_left = preemptions_max
        self._files = files
        self._turns: list[threading.Semaphore] = []
        self._runnable: list[int] = []
        # Those of them that wait for a lock, until one is released.
        self._blocked: set[int] = set()
        self._current: int | None = None
        self._done = threading.Event()
        self._errors: list[BaseException] = []
        self._own = threading.local()

    def run(self, works: Sequence[Callable[[], object]]) -> None:
        self._turns = [threading.Semaphore(0) for _ in works]
        self._runnable = list(range(len(works)))
        threads = [
            threading.Thread(target=self._thread, args=(number, work), daemon=True)
            for number, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        self._switch()
        assert self._done.wait(WAIT_S), "the threads wait for one another"
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _thread(self, number: int, work: Callable[[], object]) -> None:
        self._own.number = number
        self._turns[number].acquire()
        sys.settrace(self._trace)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by `run`
            self._errors.append(error)
        finally:
            sys.settrace(None)
            self._runnable.remove(number)
            self._current = None
            self._switch()

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self.point()
        return self._trace

    def point(self) -> None:
        """Let another thread go on here, if that is the order."""
        others = self._others()
        if self._preemptions_left and others and (chosen := self._choices.choose(len(others) + 1)):
            self._preemptions_left -= 1
            self._give(others[chosen - 1])

    def wait(self) -> None:
        """Let another thread go on, as this one can't until a lock is released."""
        self._blocked.add(self._own.number)
        others = self._others()
        assert others, "the threads wait for one another"
        self._give(others[self._choices.choose(len(others))])

    def released(self) -> None:
        """Take note that a lock is free."""
        self._blocked.clear()

    def _others(self) -> list[int]:
        return [
            number
            for number in self._runnable
            if number != self._current and number not in self._blocked
        ]

    def _give(self, to: int) -> None:
        own: int = self._own.number
        self._current = to
        self._turns[to].release()
        self._turns[own].acquire()

    def _switch(self) -> None:
        if self._runnable:
            self._current = None
            others = self._others()
            assert others, "the threads wait for one another"
            self._current = others[self._choices.choose(len(others))]
            self._turns[self._current].release()
        else:
            self._done.set()

    @property
    def is_inside(self) -> bool:
        """Whether it is one of the threads that asks."""
        return hasattr(self._own, "number")


class _Lock:
    """A lock that may be taken again by who has it; who waits for it lets others run."""

    execution: _Execution | None = None

    def __init__(self) -> None:
        self._owner: int | None = None
        self._count = 0

    def __enter__(self) -> bool:
        me = threading.get_ident()
        while self._owner not in {None, me}:
            assert self.execution is not None
            self.execution.wait()
        self._owner = me
        self._count += 1
        return True

    def __exit__(self, *_error: object) -> None:
        self._count -= 1
        if not self._count:
            self._owner = None
            if self.execution is not None:
                self.execution.released()
        if self.execution is not None and self.execution.is_inside:
            self.execution.point()


def in_all_orders(
    scenario: Callable[[], tuple[Sequence[Callable[[], object]], Callable[[], object]]],
    modules: Sequence[ModuleType],
    preemptions_max: int,
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    """Run what *scenario* returns in all orders; return how many there were.

    It returns what each thread does, and what is checked afterwards. Threads are stopped at the
    lines of *modules*, whose locks have to be made within the scenario.
    """
    for module in modules:
        if hasattr(module, "threading"):
            replaced = ModuleType("threading")
            replaced.__dict__.update(vars(threading), Lock=_Lock, RLock=_Lock)
            monkeypatch.setattr(module, "threading", replaced)
    files = {str(module.__file__) for module in modules}
    choices, count = _Choices(), 0
    while True:
        works, check = scenario()
        _Lock.execution = execution = _Execution(choices, preemptions_max, files)
        execution.run(works)
        check()
        count += 1
        if not choices.advance():
            _Lock.execution = None
            return count
