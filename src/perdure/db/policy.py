"""How many connections and objects a database keeps."""

__all__ = ["CachePolicy"]


class CachePolicy:
    """What a connection's object cache shrinks to between transactions.

    *objects_max* objects that aren't ghosts, and *bytes_max* as their estimated size
    together; 0: no limit.
    """

    def __init__(self, objects_max: int, bytes_max: int) -> None:
        self.objects_max = objects_max
        self.bytes_max = bytes_max
