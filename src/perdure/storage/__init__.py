"""Storages: what keeps the records of a database."""
