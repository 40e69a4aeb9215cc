"""Classes that are stored in the database themselves."""

from perdure.compat._names import known_as
from perdure.persistentclass import PersistentMetaClass

known_as(__name__, PersistentMetaClass)
