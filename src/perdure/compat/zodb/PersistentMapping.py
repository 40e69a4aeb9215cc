"""Where very old code and records have the class from `persistent.mapping`."""

from persistent.mapping import PersistentMapping

__all__ = ["PersistentMapping"]
