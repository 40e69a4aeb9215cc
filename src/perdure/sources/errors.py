"""The error for configurations."""

__all__ = ["ConfigurationError"]


class ConfigurationError(ValueError):
    """A configuration that doesn't fit: `path`, `line` and `key` say where.

    `key` is the dotted name of the key; `line` is None where it can't be told.
    """

    def __init__(
        self, message: str, path: str | None = None, line: int | None = None, key: str = ""
    ) -> None:
        where = ":".join(str(each) for each in (path, line) if each is not None)
        super().__init__(": ".join(part for part in (where, key, message) if part))
        self.path = path
        self.line = line
        self.key = key
