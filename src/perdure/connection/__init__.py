"""Connections: one consistent view of a database each, with its object cache."""

from perdure.connection.connection import Connection
from perdure.connection.metadata import TransactionMetaData
from perdure.connection.rootobject import RootConvenience
from perdure.connection.snapshot import resetCaches

__all__ = ["Connection", "RootConvenience", "TransactionMetaData", "resetCaches"]
