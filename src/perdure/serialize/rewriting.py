"""Records with other references in place of those that they have.

A reference is replaced where it is used: what made the old one stays in the pickle, since the rest
of it may use parts of that (a name is written once and taken from the pickle's memo afterwards),
and is dropped from the stack before the new one is put there. The next time that the object is
stored, nothing of this is left. No class is imported and nothing that a record names is run.
"""

import pickle
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from perdure.ids import Oid
from perdure.serialize.references import oid_of
from perdure.serialize.standard_references import references

__all__ = ["Reference", "parsed_references", "rewrite_references"]


class Reference(NamedTuple):
    """A reference in a record."""

    oid: Oid
    database: str | None = None
    """The member that the object belongs to; None: the same database."""
    weak: bool = False
    class_name: tuple[str, str] | None = None
    """Module and name of the object's class, where the reference tells."""


def parsed_references(data: bytes) -> list[Reference]:
    """Return the references of a record, in order, repeated ones too.

    Raises ValueError where the record can't be read.
    """
    try:
        return [_parsed(each) for each in references(data)]
    except Exception as error:
        raise ValueError(f"not a record with references of known forms: {error}") from error


def _parsed(found: Any) -> Reference:
    if isinstance(found, tuple):
        return Reference(_oid(found[0]), class_name=_class_name(found[1]))
    if not isinstance(found, list):
        return Reference(_oid(found))
    if len(found) == 1:
        return Reference(_oid(found[0]), weak=True)
    kind, arguments = found
    if kind == "w":
        database = arguments[1] if len(arguments) > 1 else None
        return Reference(_oid(arguments[0]), database, weak=True)
    if kind == "m":
        return Reference(_oid(arguments[1]), arguments[0], class_name=_class_name(arguments[2]))
    return Reference(_oid(arguments[1]), arguments[0])


def _oid(value: Any) -> Oid:
    if not isinstance(value, (bytes, str)) or len(value) != 8:
        raise ValueError(f"{value!r} is no oid")
    return oid_of(value)


def _class_name(found: Any) -> tuple[str, str] | None:
    # Old records have a pair of names, which what is written today has not.
    return (found.__module__, found.__name__) if isinstance(found, type) else None


def rewrite_references(data: bytes, replacement: Callable[[Reference], Reference]) -> bytes:
    """Return the record with what *replacement* gives for each of its references.

    Raises ValueError where the record can't be read, and whatever *replacement* raises.
    """
    before = parsed_references(data)
    after = [replacement(each) for each in before]
    if after == before:
        return data
    places = list(_places(data))
    if sum(opcode == "BINPERSID" for opcode, _, _ in places) != len(before):
        raise ValueError("not a record with references of known forms")
    parts: list[bytes] = []
    copied, number = 0, 0
    for opcode, start, end in places:
        if opcode == "FRAME":
            # It tells a length, which changes; no reader needs it.
            parts.append(data[copied:start])
            copied = end
            continue
        if after[number] != before[number]:
            parts += [data[copied:start], pickle.POP, _pushed(after[number])]
            copied = start
        number += 1
    return b"".join([*parts, data[copied:]])


def _places(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Give where references are taken from the stack, and frames, in all pickles of a record."""
    begin = 0
    while begin < len(data):
        end = begin
        for opcode, _argument, position in pickletools.genops(data[begin:]):
            at = begin + (position or 0)
            if opcode.name == "BINPERSID":
                yield opcode.name, at, at + 1
            elif opcode.name == "FRAME":
                yield opcode.name, at, at + 9
            elif opcode.name == "STOP":
                end = at + 1
        begin = end


def _pushed(reference: Reference) -> bytes:
    """Return what puts a reference's persistent id, in today's forms, on a pickle's stack."""
    oid = pickle.SHORT_BINBYTES + b"\x08" + reference.oid
    if reference.weak:
        if reference.database is None:
            return _pair("w", oid + pickle.TUPLE1)
        return _pair("w", oid + _text(reference.database) + pickle.TUPLE2)
    cls = _global(reference.class_name)
    if reference.database is None:
        return oid if cls is None else oid + cls + pickle.TUPLE2
    database = _text(reference.database)
    if cls is None:
        return _pair("n", database + oid + pickle.TUPLE2)
    return _pair("m", database + oid + cls + pickle.TUPLE3)


def _pair(kind: str, arguments: bytes) -> bytes:
    return pickle.EMPTY_LIST + pickle.MARK + _text(kind) + arguments + pickle.APPENDS


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def _global(name: tuple[str, str] | None) -> bytes | None:
    """Return what puts a class on the stack; None: its name can't be written that way."""
    if name is None or any("\n" in part for part in name) or "." in name[1]:
        return None
    return pickle.GLOBAL + f"{name[0]}\n{name[1]}\n".encode()
