"""Work that several threads do at once."""

from collections.abc import Callable
from threading import Barrier, Thread
from time import perf_counter


def in_threads(threads: int, work: Callable[[int], Callable[[], None]]) -> float:
    """Return the seconds that *work* takes in threads, without what it prepares."""
    begun, ended = [], []
    ready = Barrier(threads, action=lambda: begun.append(perf_counter()))

    def run(number: int) -> None:
        try:
            prepared = work(number)
        except BaseException:
            ready.abort()
            raise
        ready.wait()
        prepared()
        ended.append(perf_counter())

    running = [Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if len(ended) < threads:
        raise AssertionError("a thread has failed, and has told why")
    return max(ended) - begun[0]
