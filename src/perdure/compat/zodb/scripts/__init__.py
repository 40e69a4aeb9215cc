"""ZODB's command line tools."""
