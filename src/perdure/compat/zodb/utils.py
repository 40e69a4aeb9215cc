"""ZODB's helpers."""

from binascii import hexlify, unhexlify

from persistent.timestamp import TimeStamp

from perdure.utils import *
from perdure.utils import locked as Locked  # noqa: N812 - both names are in use

from ._compat import Unpickler, ascii_bytes
