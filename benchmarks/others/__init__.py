"""How those do the work that have an interface of their own; importing this registers them."""

from benchmarks.others import shelf as shelf
from benchmarks.others import sql as sql
