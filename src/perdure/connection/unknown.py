"""What a connection has in place of its view where the newest state could not be found out."""

from typing import NoReturn

from perdure.errors import ConnectionStateError

__all__ = ["UnknownState"]


class UnknownState:
    """A storage that answers everything with ConnectionStateError.

    Some members of the set may have moved on and others not: what they show is of no one
    moment, until the next attempt has moved all of them.
    """

    def __init__(self, database_name: str, error: BaseException) -> None:
        self._database_name = database_name
        # Not the error itself, whose traceback keeps what was at work then.
        self._reason = f"{type(error).__name__}: {error}"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ConnectionStateError(
            f"The newest state of {self._database_name!r} could not be found out when the last "
            f"transaction began or ended ({self._reason}): abort, or begin a new one, "
            "to try again"
        )
