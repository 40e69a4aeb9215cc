"""What real programs leave on a disk that loses its power, made from a record of their calls.

strace tells each call that changes files or names, with all bytes.  From that, the state after any
of them is made as a disk may have it: what was synced is there, and of the rest any part.  The
rules are those of `crates/sim`: all, nothing, what came first, or anything by chance; writes in
sectors of 512 bytes, each as it was at some time; files and names independently of each other.

Where threads make calls at the same time, a call may have reached the disk as soon as it has begun,
and a sync brings there what had ended when it began, and nothing else for sure.
"""

import ast
import itertools
import os
import random
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

__all__ = ["SYNCS", "Call", "Disk", "Step", "steps_in"]

SYNCS = frozenset({"fsync", "fdatasync"})

_SECTOR = 512
_CALL = re.compile(r"\d+ +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: .*)?$")
_BEGUN = re.compile(r"(\d+) (.*) <unfinished \.\.\.>$")
_ENDED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FD = re.compile(r"(?:AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>")
_DELETED = " (deleted)"


@dataclass(frozen=True, eq=False)
class Call:
    """A call that succeeded: its name, arguments as strace has them, strings, paths of files."""

    name: str
    text: str
    strings: list[bytes]
    files: list[str]
    result: int
    opened: str | None

    def numbers(self) -> list[int]:
        """The numbers among the arguments, strings and paths left out."""
        bare = _FD.sub("", _STRING.sub("", self.text))
        return [int(each) for each in re.findall(r"(?<![\w.])-?\d+(?![\w.])", bare)]

    def path(self, number: int) -> str:
        """The path that a string names, in the directory that stands before it."""
        name = os.fsdecode(self.strings[number])
        return str(PurePath(self.files[number], name)) if self.files else name


@dataclass(frozen=True)
class Step:
    """A call that begins, that ends, or that does both before anything else happens."""

    call: Call
    begins: bool
    ends: bool


def steps_in(trace: str) -> list[Step]:
    """Read what `strace -f -x -y` told."""
    found: list[tuple[int, Step]] = []
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        if begins := _BEGUN.match(line):
            begun[begins[1]] = number, line.removesuffix(" <unfinished ...>")
            continue
        if ends := _ENDED.match(line):
            first, text = begun.pop(ends[1])
            if call := _call(text + ends[2]):
                found.append((first, Step(call, begins=True, ends=False)))
                found.append((number, Step(call, begins=False, ends=True)))
        elif call := _call(line):
            found.append((number, Step(call, begins=True, ends=True)))
    return [step for _number, step in sorted(found, key=lambda each: each[0])]


def _call(line: str) -> Call | None:
    found = _CALL.match(line)
    if found is None or int(found[3]) < 0:
        return None
    text = found[2]
    strings = [ast.literal_eval(f'b"{each}"') for each in _STRING.findall(text)]
    files = _FD.findall(_STRING.sub("", text))
    return Call(found[1], text, strings, files, int(found[3]), found[4])


@dataclass(frozen=True)
class _Write:
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    def sectors(self) -> range:
        return range(self.offset // _SECTOR, -(-self.end // _SECTOR))

    def apply(self, data: bytearray) -> None:
        data.extend(bytes(max(0, self.end - len(data))))
        data[self.offset : self.end] = self.data


@dataclass(frozen=True)
class _Length:
    len: int

    def apply(self, data: bytearray) -> None:
        del data[self.len :]
        data.extend(bytes(self.len - len(data)))


_Change = _Write | _Length


@dataclass
class _File:
    """A file, or a directory, whatever its names."""

    is_directory: bool = False
    seen: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    unsynced: list[tuple[int, _Change]] = field(default_factory=list)


@dataclass(frozen=True)
class _Naming:
    """A name that a file gets, or (file None) loses; a renaming is one of each."""

    names: tuple[tuple[str, _File | None], ...]

    def apply(self, names: dict[str, _File]) -> None:
        for name, file in self.names:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file

    def is_in(self, directory: str) -> bool:
        return str(PurePath(self.names[-1][0]).parent) == directory


class _Covered(NamedTuple):
    """What a sync covers: the changes of calls that had ended when it began."""

    file: _File | None
    last: int
    under_way: set[int]

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number <= self.last and number not in self.under_way


class _Luck:
    """Which unsynced changes reach the disk: those of a prefix, or by chance, whole or torn."""

    def __init__(self, dice: random.Random, first: int, last: int, *, none: bool) -> None:
        self._dice = dice
        kind = 0 if none else dice.randrange(12)
        self._percent = {0: 0, 1: 100}.get(kind, dice.choice((2, 10, 50, 90, 98)))
        self._prefix = dice.randrange(first, last + 2) if 2 <= kind <= 4 else None
        self.tears = kind >= 8
        self.has_junk = kind == 11

    def keeps(self, number: int) -> bool:
        if self._prefix is not None:
            return number < self._prefix
        return self._chance(self._percent)

    def sectors(self, number: int, write: _Write) -> list[int]:
        percent = 100 if self.keeps(number) else 0
        if number == self._prefix:
            percent = 50
        elif self.tears:
            percent = self._percent
        return [sector for sector in write.sectors() if self._chance(percent)]

    def grows(self) -> bool:
        return self.tears and self._chance(50)

    def _chance(self, percent: int) -> bool:
        return self._dice.randrange(100) < percent

    def left_of(self, file: _File) -> bytes:
        """Return what a file holds when the power is back."""
        length = len(file.synced)
        newest: dict[int, int] = {}
        cuts: list[int] = []
        for place, (number, change) in enumerate(file.unsynced):
            if isinstance(change, _Length):
                if self.keeps(number):
                    length = change.len
                    cuts.append(place)
                continue
            for sector in self.sectors(number, change):
                length = max(length, min(change.end, (sector + 1) * _SECTOR))
                newest[sector] = place
            if self.grows():
                length = max(length, change.end)
        data = bytearray()
        for sector in range(-(-length // _SECTOR)):
            data += self._sector(file, sector, newest.get(sector, -1), cuts)
        return bytes(data[:length])

    def _sector(self, file: _File, sector: int, newest: int, cuts: list[int]) -> bytes:
        """Return a sector with all changes up to the newest that reached it, and later cuts."""
        start = sector * _SECTOR
        if newest < 0 and start >= len(file.synced) and self.has_junk:
            return self._dice.randbytes(_SECTOR)
        data = bytearray(file.synced[start : start + _SECTOR].ljust(_SECTOR, b"\0"))
        for place, (_number, change) in enumerate(file.unsynced):
            if isinstance(change, _Length):
                if place <= newest or place in cuts:
                    cut = max(0, change.len - start)
                    data[cut:] = bytes(max(0, _SECTOR - cut))
            elif place <= newest:
                first, end = max(start, change.offset), min(start + _SECTOR, change.end)
                if first < end:
                    part = change.data[first - change.offset : end - change.offset]
                    data[first - start : end - start] = part
        return bytes(data)


class Disk:
    """Files and names below a directory: as a program sees them, and as the disk has them."""

    def __init__(self, directory: Path, prepared: Path) -> None:
        """Begin with what stands in *prepared*, as if it stood in *directory*, all synced."""
        self._top = str(directory)
        self._numbers = itertools.count()
        self._changes = 0
        self._positions: dict[str, int] = {}
        self._names: dict[str, _File] = {self._top: _File(is_directory=True)}
        self._unsynced: list[tuple[int, _Naming]] = []
        self._under_way: dict[Call, range] = {}
        """The changes of the calls that have begun and not ended."""
        self._syncing: dict[Call, _Covered] = {}
        for path in sorted(prepared.rglob("*")):
            data = b"" if path.is_dir() else path.read_bytes()
            file = _File(path.is_dir(), bytearray(data), data)
            self._names[str(directory / path.relative_to(prepared))] = file
        self._synced_names = dict(self._names)

    # What a program does.

    def take(self, step: Step) -> bool:
        """Do what a call did; tell whether that changed something here, or made it durable."""
        call, before = step.call, self._changes
        if step.begins and call.name in SYNCS:
            under_way = {each for changes in self._under_way.values() for each in changes}
            self._syncing[call] = _Covered(self._file(call.files[0]), before, under_way)
        elif step.begins:
            getattr(self, f"_do_{call.name}", lambda _call: None)(call)
            self._under_way[call] = range(before + 1, self._changes + 1)
        if step.ends and call.name in SYNCS:
            self._synced(call.files[0], self._syncing.pop(call))
        elif step.ends:
            del self._under_way[call]
        return self._changes > before or (step.ends and call.name in SYNCS)

    def seen(self) -> dict[str, bytes | None]:
        """Return what the program sees: each file's bytes, None for a directory."""
        return {
            str(PurePath(name).relative_to(self._top)): None
            if file.is_directory
            else bytes(file.seen)
            for name, file in self._names.items()
            if self._is_here(name)
        }

    def _file(self, path: str) -> _File | None:
        return self._names.get(path)

    def _next(self) -> int:
        self._changes += 1
        return self._changes

    def _change(self, path: str, change: _Change) -> None:
        file = self._file(path)
        if file is not None:
            change.apply(file.seen)
            file.unsynced.append((self._next(), change))

    def _name(self, *names: tuple[str, _File | None]) -> None:
        naming = _Naming(names)
        naming.apply(self._names)
        self._unsynced.append((self._next(), naming))

    def _is_here(self, path: str) -> bool:
        return path.startswith(self._top + os.sep)

    def _do_openat(self, call: Call) -> None:
        path = call.opened or ""
        # What is made elsewhere may be moved here.
        if not (self._is_here(path) or "O_CREAT" in call.text) or path.endswith(_DELETED):
            return
        self._positions[path] = 0
        if self._file(path) is None:
            self._name((path, _File()))
        elif "O_TRUNC" in call.text and self._names[path].seen:
            self._change(path, _Length(0))
        if "O_APPEND" in call.text:
            self._positions[path] = len(self._names[path].seen)

    def _do_lseek(self, call: Call) -> None:
        self._positions[call.files[0]] = call.result

    def _do_write(self, call: Call) -> None:
        self._write_on(call.files[0], call.strings[0][: call.result])

    def _write_on(self, path: str, data: bytes) -> None:
        position = self._positions.get(path, 0)
        self._change(path, _Write(position, data))
        self._positions[path] = position + len(data)

    def _do_pwrite64(self, call: Call) -> None:
        self._change(call.files[0], _Write(call.numbers()[-1], call.strings[0][: call.result]))

    def _do_pwritev(self, call: Call) -> None:
        data = b"".join(call.strings)[: call.result]
        self._change(call.files[0], _Write(call.numbers()[-1], data))

    def _do_copy_file_range(self, call: Call) -> None:
        self._copy(call.files[0], call.files[1], call.result)

    def _do_sendfile(self, call: Call) -> None:
        self._copy(call.files[1], call.files[0], call.result)

    def _copy(self, source: str, target: str, count: int) -> None:
        file = self._file(source)
        if file is not None:
            position = self._positions.get(source, 0)
            self._positions[source] = position + count
            self._write_on(target, bytes(file.seen[position : position + count]))

    def _do_ftruncate(self, call: Call) -> None:
        self._change(call.files[0], _Length(call.numbers()[-1]))

    def _do_mkdir(self, call: Call) -> None:
        self._name((call.path(0), _File(is_directory=True)))

    def _do_unlink(self, call: Call) -> None:
        self._name((call.path(0), None))

    _do_unlinkat = _do_rmdir = _do_unlink

    def _do_rename(self, call: Call) -> None:
        old, new = call.path(0), call.path(1)
        inside = [name for name in self._names if name == old or name.startswith(old + os.sep)]
        pairs = [
            pair
            for name in sorted(inside, reverse=True)
            for pair in ((name, None), (new + name[len(old) :], self._names[name]))
        ]
        self._name(*pairs)

    _do_renameat = _do_renameat2 = _do_rename

    def _do_link(self, call: Call) -> None:
        file = self._file(call.path(0))
        self._name((call.path(1), file))

    _do_linkat = _do_link

    def _synced(self, path: str, covered: "_Covered") -> None:
        file = covered.file
        if file is None:
            return
        data, file.unsynced, left = bytearray(file.synced), [], file.unsynced
        for number, change in left:
            if number in covered:
                change.apply(data)
            else:
                file.unsynced.append((number, change))
        file.synced = bytes(data)
        unsynced, self._unsynced = self._unsynced, []
        for number, naming in unsynced:
            if number in covered and naming.is_in(path):
                naming.apply(self._synced_names)
            else:
                self._unsynced.append((number, naming))

    # What is left of it.

    def after_power_loss(
        self, dice: random.Random, directory: Path, *, unsynced: bool = True
    ) -> None:
        """Make, in a new directory, what may be left when the power goes now.

        Unless *unsynced*, nothing that was not synced is.
        """
        numbers = [number for file in self._names.values() for number, _change in file.unsynced]
        numbers += [number for number, _naming in self._unsynced]
        luck = _Luck(dice, min(numbers, default=0), max(numbers, default=0), none=not unsynced)
        names = dict(self._synced_names)
        for number, naming in self._unsynced:
            if luck.keeps(number):
                naming.apply(names)
        for name in sorted(filter(self._is_here, names)):
            path = directory / PurePath(name).relative_to(self._top)
            # What is in a directory whose own name was lost can't be found any more.
            if path.parent.is_dir():
                if names[name].is_directory:
                    path.mkdir()
                else:
                    path.write_bytes(luck.left_of(names[name]))
