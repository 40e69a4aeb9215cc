"""Persistent classes for the behaviour tests."""

from typing import Any

from persistent import Persistent


class Account(Persistent):
    """An account, as the guide's examples have it."""

    def __init__(self, balance: float = 0.0, name: str = "") -> None:
        self.balance = balance
        self.name = name
        self.cash = 0.0

    def deposit(self, amount: float) -> None:
        self.balance += amount

    def withdraw(self, amount: float) -> None:
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount


class Node(Persistent):
    """An object that refers to others by any attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Counter(Persistent):
    """A counter: concurrent increments are added up."""

    def __init__(self) -> None:
        self.value = 0

    def increase(self, by: int = 1) -> None:
        self.value += by

    def _p_resolveConflict(
        self, old: dict[str, int], committed: dict[str, int], new: dict[str, int]
    ) -> dict[str, int]:
        return {**new, "value": committed["value"] + new["value"] - old["value"]}
