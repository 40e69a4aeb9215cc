"""Holding what describes databases against the published JSON Schema."""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from perdure.storage.before import moment_of

__all__ = ["Problem", "problems", "schema"]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_WORDS: Final = {"object": "a table", "integer": "a whole number", "boolean": "true or false"}


class Problem(NamedTuple):
    """What doesn't fit, and the keys that lead there."""

    keys: tuple[str, ...]
    message: str


@cache
def schema() -> Any:
    """Return the JSON Schema of `perdure.toml`."""
    text = (files("perdure") / "config" / "perdure.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def problems(value: Any) -> Iterator[Problem]:
    """Yield what in *value*, a file's content, doesn't fit the schema."""
    return _problems(value, schema(), ())


def _resolved(rule: Any) -> Any:
    reference = rule.get("$ref")
    return schema()["$defs"][reference.rpartition("/")[2]] if reference else rule


def _problems(value: Any, rule: Any, keys: tuple[str, ...]) -> Iterator[Problem]:
    rule = _resolved(rule)
    kind = rule.get("type")
    if kind is not None and not _is_a(value, kind):
        yield Problem(keys, f"has to be {_WORDS.get(kind, 'a ' + kind)}, not {value!r}")
        return
    if "enum" in rule and not any(value is each or value == each for each in rule["enum"]):
        allowed = ", ".join(json.dumps(each) for each in rule["enum"])
        yield Problem(keys, f"has to be one of {allowed}, not {value!r}")
    if kind in {"integer", "number"}:
        yield from _problems_of_number(value, rule, keys)
    if rule.get("format") == "moment":
        yield from _problems_of_moment(value, keys)
    if kind == "array":
        for each in value:
            yield from _problems(each, rule["items"], keys)
    if kind == "object":
        yield from _problems_of_table(value, rule, keys)


def _problems_of_number(value: float, rule: Any, keys: tuple[str, ...]) -> Iterator[Problem]:
    if value < rule.get("minimum", value):
        yield Problem(keys, f"has to be at least {rule['minimum']}, not {value}")
    if value > rule.get("maximum", value):
        yield Problem(keys, f"has to be at most {rule['maximum']}, not {value}")


def _problems_of_moment(value: str, keys: tuple[str, ...]) -> Iterator[Problem]:
    try:
        moment_of(value)
    except ValueError as error:
        yield Problem(keys, str(error))


def _is_a(value: Any, kind: str) -> bool:
    # In Python, true is a number.
    return isinstance(value, _TYPES[kind]) and (kind == "boolean") == isinstance(value, bool)


def _problems_of_table(value: Any, rule: Any, keys: tuple[str, ...]) -> Iterator[Problem]:
    missing = [key for key in rule.get("required", ()) if key not in value]
    if missing:
        for key in missing:
            yield Problem(keys, f"the key {key!r} is missing")
        return
    if "oneOf" in rule:
        yield from _problems_of_choice(value, rule, keys)
        return
    known = rule.get("properties", {})
    others = rule.get("additionalProperties", True)
    for key, each in value.items():
        if key in known:
            yield from _problems(each, known[key], (*keys, key))
        elif others is False:
            yield Problem((*keys, key), f"unknown key; known are {', '.join(known)}")
        elif others is not True:
            yield from _problems(each, others, (*keys, key))


def _problems_of_choice(value: Any, rule: Any, keys: tuple[str, ...]) -> Iterator[Problem]:
    choices = {each["$ref"].rpartition("/")[2]: each for each in rule["oneOf"]}
    chosen = value["type"]
    if not isinstance(chosen, str) or chosen not in choices:
        allowed = ", ".join(choices)
        yield Problem((*keys, "type"), f"has to be one of {allowed}, not {chosen!r}")
        return
    yield from _problems(value, choices[chosen], keys)
