"""Changes laid over a base storage that stays as it is."""

from perdure.compat._names import known_as
from perdure.storage.demo import DemoStorage

known_as(__name__, DemoStorage)
