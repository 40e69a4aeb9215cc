"""The sections of layers that other packages offer for ZODB, and perdure has itself.

A configuration asks for them by the packages' names (``%import zc.zlibstorage``), and
gets perdure's own, whether those packages are installed or not.
"""

import contextlib
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.config._sections import Factory
from perdure.sources import ConfigurationError

_STARTUP = dt.datetime.now(dt.timezone.utc)


class DemoStorage2(Factory):
    """A ``demostorage2`` section."""

    def open(self) -> Any:
        """Return the overlay."""
        from perdure.storage.demo import DemoStorage2 as Storage

        with contextlib.ExitStack() as on_failure:
            base = self.config.base.open()
            on_failure.callback(base.close)
            changes = self.config.changes.open()
            on_failure.pop_all()
        return Storage(base, changes)


class Before(Factory):
    """A ``before`` section."""

    def open(self) -> Any:
        """Return the view; ValueError for both ways to say when, or no moment."""
        from perdure.storage.before import BeforeStorage as Storage

        moment = self._moment()
        return _opened_over(self.config.base, lambda base: Storage(base, moment))

    def _moment(self) -> dt.datetime | str | None:
        text: str | None = self.config.before
        path: str | None = self.config.before_from_file
        if text and path:
            raise ConfigurationError("a before section has before or before-from-file, not both")
        if path:
            return _kept_moment(Path(path))
        if text is None or text.lower() == "now":
            return None
        return _STARTUP if text.lower() == "startup" else text


def _kept_moment(path: Path) -> str:
    if not path.exists():
        now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0, tzinfo=None)
        path.write_text(now.isoformat())
    return path.read_text().strip()


class ZlibStorage(Factory):
    """A ``zlibstorage`` section."""

    def open(self) -> Any:
        """Return the compressing layer."""
        from perdure.storage.zlib import ZlibStorage as Storage

        compress, options = self.config.compress, _bound(self.config)
        return _opened_over(self.config.base, lambda base: Storage(base, compress, **options))


class ServerZlibStorage(Factory):
    """A ``serverzlibstorage`` section."""

    def open(self) -> Any:
        """Return the layer for a server whose clients compress."""
        from perdure.storage.zlib import ServerZlibStorage as Storage

        options = _bound(self.config)
        return _opened_over(self.config.base, lambda base: Storage(base, **options))


def _bound(section: Any) -> dict[str, Any]:
    """Return the greatest size of a record, if the section has one."""
    greatest = section.record_bytes_max
    return {} if greatest is None else {"record_bytes_max": greatest}


def _opened_over(section: Factory, layer: Callable[[Any], Any]) -> Any:
    """Return *layer* over the storage of *section*, which is closed if that fails."""
    base = section.open()
    try:
        return layer(base)
    except BaseException:
        base.close()
        raise
