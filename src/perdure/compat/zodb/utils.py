"""ZODB's helpers."""

from persistent.timestamp import TimeStamp

from perdure.utils import *
