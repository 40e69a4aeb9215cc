"""How many connections and objects a database keeps."""

from dataclasses import dataclass

__all__ = ["CachePolicy"]


@dataclass
class CachePolicy:
    """What a connection's object cache shrinks to between transactions."""

    objects_max: int
    """Objects that aren't ghosts."""
    bytes_max: int
    """Their estimated size together; 0: no limit."""
