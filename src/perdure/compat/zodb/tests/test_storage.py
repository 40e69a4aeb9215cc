"""A storage in memory, for examples."""

from perdure.storage.mapping import MappingStorage

__all__ = ["MinimalMemoryStorage"]


class MinimalMemoryStorage(MappingStorage):
    """A storage in memory, by the name that examples have for a minimal one."""
