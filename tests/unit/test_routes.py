"""Which route holds for a class."""

from persistent import Persistent

from perdure.db.routes import Routes


def make(name: str, *bases: type) -> type:
    module, _, cls = name.rpartition(".")
    return type(cls, bases or (Persistent,), {"__module__": module})


PRODUCT = make("shop.catalog.Product")
SPECIAL = make("shop.specials.Special", PRODUCT)
OLD = make("shop.archive.years.OldProduct", SPECIAL)
OTHER = make("app.Other", OLD)


def routes(**members: str) -> Routes:
    named = {name.replace("__", "."): member for name, member in members.items()}
    return Routes(named, {"a", "b", "c"})


def test_a_class_goes_before_its_bases() -> None:
    found = routes(shop__catalog__Product="a", shop__archive__years__OldProduct="b")
    assert [found.member_for(cls) for cls in (PRODUCT, SPECIAL, OLD, OTHER)] == ["a", "a", "b", "b"]


def test_a_class_s_route_goes_before_a_module_s() -> None:
    found = routes(shop__catalog__Product="a", shop__archive="b", app="c")
    assert [found.member_for(cls) for cls in (OLD, OTHER)] == ["a", "a"]


def test_the_innermost_package_s_route_holds() -> None:
    found = routes(shop="a", shop__archive="b", shop__archive__years="c")
    assert [found.member_for(cls) for cls in (PRODUCT, OLD)] == ["a", "c"]
    assert routes(shop="a", shop__archive="b").member_for(OLD) == "b"


def test_the_modules_of_bases_count_last() -> None:
    assert routes(shop__catalog="a").member_for(OTHER) == "a"
    assert routes(shop__catalog="a", shop__specials="b").member_for(OTHER) == "b"
    assert routes(shop__catalog="a", app="c").member_for(OTHER) == "c"


def test_a_part_of_a_name_is_no_package() -> None:
    found = routes(sho="a", shop__cat="b", shop__catalog__Prod="c")
    assert found.member_for(PRODUCT) is None


def test_every_class_can_have_a_route() -> None:
    found = routes(persistent__Persistent="a", builtins="b")
    assert found.member_for(PRODUCT) == "a"
    assert found.member_for(dict) == "b"
    assert found.member_for(type) == "b"
