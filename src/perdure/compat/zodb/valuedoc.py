"""A class attribute that documents the values that instances give it."""

__all__ = ["ValueDoc"]


class ValueDoc:
    """Shows as *text*, where documentation shows an attribute's value."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
