"""Interfaces: the same ones as stock ZODB's, whoever declares them."""

import pytest
from zope.interface import alsoProvides, implementer

from perdure import interfaces

stock = pytest.importorskip("ZODB.interfaces")


@pytest.mark.parametrize("name", [n for n in interfaces.__all__ if n.startswith(("I", "Read"))])
def test_an_interface_equals_stocks_of_the_same_name(name: str) -> None:
    own, other = getattr(interfaces, name), getattr(stock, name)
    assert own == other
    assert hash(own) == hash(other)
    assert set(own.names(all=True)) == set(other.names(all=True))


def test_a_storage_of_perdure_is_one_to_stock_and_the_reverse() -> None:
    @implementer(interfaces.IStorage)
    class Own: ...

    @implementer(stock.IStorage)
    class Other: ...

    assert stock.IStorage.providedBy(Own())
    assert interfaces.IStorage.providedBy(Other())


def test_a_marker_put_on_an_object_is_seen_by_both() -> None:
    class Thing: ...

    thing = Thing()
    alsoProvides(thing, interfaces.IDatabase)
    assert stock.IDatabase.providedBy(thing)
    assert not stock.IDatabase.providedBy(Thing())
