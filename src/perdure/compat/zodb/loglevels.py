"""ZODB's two extra levels of logging."""

import logging

__all__ = ["BLATHER", "TRACE"]

BLATHER = 15
TRACE = 5

logging.addLevelName(BLATHER, "BLATHER")
logging.addLevelName(TRACE, "TRACE")
