"""The root object, as `connection.root` gives it."""

from typing import Any

__all__ = ["RootConvenience"]


class RootConvenience:
    """Gives the root mapping's items as attributes, and the mapping when called."""

    _root: Any

    def __init__(self, root: Any) -> None:
        self.__dict__["_root"] = root

    def __call__(self) -> Any:
        """Return the root mapping itself."""
        return self._root

    def __getattr__(self, name: str) -> Any:
        try:
            return self._root[name]
        except KeyError:
            raise AttributeError(f"the root has no item {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._root[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._root[name]
        except KeyError:
            raise AttributeError(f"the root has no item {name!r}") from None

    def __dir__(self) -> list[str]:
        return [key for key in self._root if isinstance(key, str)]

    def __repr__(self) -> str:
        names = " ".join(sorted(map(str, self._root)))
        if len(names) > 60:
            names = names[:57].rsplit(" ", 1)[0] + " ..."
        return f"<root: {names}>"
