"""Run code that was written for ZODB on perdure, unchanged.

After `install()`, ``import ZODB`` and ``import ZODB.anything`` give perdure under
ZODB's names, in this process and in the Python processes that it starts::

    import perdure.compat
    perdure.compat.install()

    import ZODB          # this is perdure
    db = ZODB.DB("data.fs")

A whole program runs that way, without a change to it, by::

    python -m perdure.compat app.py
    python -m perdure.compat -m package.module

or with the environment variable ``PERDURE_COMPAT=1`` set, which any Python that has
perdure installed honours when it first imports ``ZODB``.
"""

from perdure.compat._alias import (
    ENVIRONMENT_NAME,
    CompatError,
    find_alias,
    install,
    is_installed,
)

__all__ = ["ENVIRONMENT_NAME", "CompatError", "find_alias", "install", "is_installed"]
