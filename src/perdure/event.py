"""The function that announces events, if `zope.event` is installed."""

from collections.abc import Callable

__all__ = ["notify"]


def _ignore(event: object) -> None:
    """Announce nothing: nobody can have subscribed."""


def _find_notify() -> Callable[[object], None]:
    try:
        import zope.event
    except ImportError:
        return _ignore
    found: Callable[[object], None] = zope.event.notify
    return found


notify = _find_notify()
