"""What a repair puts in the place of an object that was lost."""

from typing import Any

from persistent import Persistent

__all__ = ["LostObject"]


class LostObject(Persistent):
    """Stands in the place of an object that was lost, so that those that refer to it work again.

    It has no references of its own. `member` and `oid` say where it was, `class_names` which
    class it had, as far as those that referred to it told, `referrers` who they were (member,
    oid and class of each), `replaced` when it was put there (ISO 8601, UTC).
    """

    def __init__(
        self,
        member: str,
        oid: str,
        class_names: tuple[str, ...],
        referrers: tuple[tuple[str, str, str], ...],
        replaced: str,
    ) -> None:
        self.member = member
        self.oid = oid
        self.class_names = class_names
        self.referrers = referrers
        self.replaced = replaced

    def __repr__(self) -> str:
        return f"<{self._described()}>"

    def _described(self) -> str:
        state = self.__dict__
        cls = " or ".join(state.get("class_names", ())) or "an object of unknown class"
        return f"lost object {state.get('oid')} of {state.get('member')!r}, which was {cls}"

    def __getattr__(self, name: str) -> Any:
        # Only for what it hasn't.
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{self._described()}, has no {name!r}: replace it")
