"""Where very old code and records have the class from `persistent.list`."""

from persistent.list import PersistentList

__all__ = ["PersistentList"]
