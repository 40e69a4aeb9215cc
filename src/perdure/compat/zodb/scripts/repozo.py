"""Back up data files, and restore them, in the format of ZODB's `repozo`.

A repository is a folder of files named after the time (UTC) of the backup: whole data files
(`.fs`), what was added since (`.deltafs`), both perhaps compressed (`.fsz`, `.deltafsz`), and with
each whole one a list (`.dat`) of the files that follow it, their positions and MD5 sums. New
backups are better made with `perdure backup`.
"""

import argparse
import gzip
import hashlib
import os
import re
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from perdure.compat._tool import running
from perdure.storage.file import FileStorage

__all__ = ["NoFiles", "RepozoError", "VerificationFail", "WouldOverwriteFiles", "main"]

_BLOCK_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"\d{4}(-\d\d){5}\.(delta)?fsz?$")
_OF_THE_FILE_BEFORE: Final = (".index", ".pindex", ".psums", ".psums_pack", ".refs")
"""Suffixes of what describes a data file, and would be wrong beside another one."""
_BEGIN_ANEW: Final = "begin anew with a whole backup (--backup --full)"


class RepozoError(Exception):
    """Something is wrong with the repository or the call."""


class WouldOverwriteFiles(RepozoError):
    """A file of that time is there already."""


class NoFiles(RepozoError):
    """The repository has no backup of that time."""


class VerificationFail(RepozoError):
    """A file of the repository isn't what it was when it was written."""


class _Part(NamedTuple):
    """A line of a list: a file of the repository, and what of the data file it holds."""

    path: Path
    start: int
    end: int
    md5: str


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="repozo", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-B", "--backup", action="store_true", help="back up a data file")
    what.add_argument("-R", "--recover", action="store_true", help="restore a data file")
    what.add_argument("-V", "--verify", action="store_true", help="verify a repository")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-r", "--repository", type=Path, required=True, metavar="DIR")
    parser.add_argument("-f", "--file", type=Path, help="the data file to back up")
    parser.add_argument("-F", "--full", action="store_true", help="back up the whole file")
    parser.add_argument("-Q", "--quick", action="store_true", help="verify less")
    parser.add_argument("-z", "--gzip", action="store_true", help="compress")
    parser.add_argument("-k", "--kill-old-on-full", action="store_true", dest="kill")
    parser.add_argument("-D", "--date", help="restore the state of this time (UTC)")
    parser.add_argument("-o", "--output", type=Path, help="the data file to restore")
    parser.add_argument("-w", "--with-verify", action="store_true", dest="with_verify")
    return parser


def _parts_until(repository: Path, date: str | None) -> list[Path]:
    """Return the last whole backup up to a time, and what was added to it until then."""
    needed: list[Path] = []
    for path in sorted(repository.iterdir(), reverse=True):
        if not _NAME.match(path.name):
            continue
        if date is None or path.stem <= date:
            needed.append(path)
            if path.suffix in (".fs", ".fsz"):
                return needed[::-1]
    return []


def _list_of(full: Path) -> list[_Part]:
    dat = full.with_suffix(".dat")
    try:
        text = dat.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return []
    *lines, cut = text.split("\n")
    try:
        found = [_part(full.parent, *line.rsplit(None, 3)) for line in lines]
    except (ValueError, TypeError):
        found, cut = [], text
    follow = all(each.end == after.start for each, after in pairwise(found))
    if cut or not follow or any(part.start > part.end for part in found):
        raise RepozoError(f"{dat} is damaged: {_BEGIN_ANEW}")
    return found


def _part(repository: Path, name: str, start: str, end: str, md5: str) -> _Part:
    # The repository may have moved since.
    return _Part(repository / Path(name).name, int(start), int(end), md5)


def _complete_list_of(needed: list[Path], date: str | None = None) -> list[_Part]:
    """Return the list up to a time, which has to have what is needed and nothing else."""
    parts = [part for part in _list_of(needed[0]) if date is None or part.path.stem <= date]
    dat = needed[0].with_suffix(".dat")
    if not parts:
        raise VerificationFail(f"{dat} is missing or empty, nothing tells of damage: {_BEGIN_ANEW}")
    for path in sorted({part.path for part in parts} ^ set(needed)):
        what = f"not in {dat}" if path in needed else "missing"
        raise VerificationFail(f"{path} is {what}: {_BEGIN_ANEW}")
    return parts


def _opened(path: Path) -> IO[bytes]:
    if path.name.endswith("z"):
        compressed: Any = gzip.open(path, "rb")  # noqa: SIM115 - the caller closes it
        return compressed  # type: ignore[no-any-return]
    return path.open("rb")


def _blocks(file: IO[bytes], length: int | None = None) -> Iterator[bytes]:
    while length is None or length > 0:
        block = file.read(_BLOCK_BYTES if length is None else min(length, _BLOCK_BYTES))
        if not block:
            return
        if length is not None:
            length -= len(block)
        yield block


def _content(path: Path) -> Iterator[bytes]:
    """Read what a file of the repository holds, uncompressed."""
    try:
        with _opened(path) as file:
            yield from _blocks(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VerificationFail(f"{path} is damaged: {error}") from error


def _md5_of_range(path: Path, start: int, end: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        file.seek(start)
        for block in _blocks(file, end - start):
            digest.update(block)
    return digest.hexdigest()


def _backup(options: argparse.Namespace) -> None:
    if options.file is None:
        raise RepozoError("--file is needed for a backup")
    with closing(FileStorage(options.file, read_only=True)) as storage:
        end = storage.getSize()
    needed = [] if options.full else _parts_until(options.repository, None)
    parts = _list_of(needed[0]) if needed else []
    start = _goes_on(options, parts, end)
    if start == end:
        _say(options, "nothing new")
        return
    suffix = ".deltafs" if start else ".fs"
    now = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
    target = options.repository / f"{now}{suffix}{'z' if options.gzip else ''}"
    if target.exists():
        raise WouldOverwriteFiles(f"{target} exists already: wait for a second")
    md5 = _write_part(options, target, start, end)
    listed = needed[0].with_suffix(".dat") if start else target.with_suffix(".dat")
    with listed.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{target} {start} {end} {md5}\n")
        file.flush()
        os.fsync(file.fileno())
    _say(options, f"{target}: bytes {start} to {end}")
    if options.kill and not start:
        _remove_older(options.repository, target)


def _goes_on(options: argparse.Namespace, parts: list[_Part], end: int) -> int:
    """Return where the next part begins; 0: the whole file has to be copied."""
    if not parts or parts[-1].end > end:
        return 0
    checked = parts[-1:] if options.quick else parts
    same = all(_md5_of_range(options.file, each.start, each.end) == each.md5 for each in checked)
    return parts[-1].end if same else 0


def _write_part(options: argparse.Namespace, target: Path, start: int, end: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    written = target.with_name(target.name + ".new")
    with options.file.open("rb") as source, written.open("wb") as raw:
        source.seek(start)
        out: Any = gzip.GzipFile("", "wb", fileobj=raw) if options.gzip else raw
        for block in _blocks(source, end - start):
            digest.update(block)
            out.write(block)
        if options.gzip:
            out.close()
        raw.flush()
        os.fsync(raw.fileno())
    written.replace(target)
    return digest.hexdigest()


def _remove_older(repository: Path, newest: Path) -> None:
    for path in repository.iterdir():
        dated = _NAME.match(path.with_suffix(".fs").name)
        if dated and path.suffix != ".new" and path.stem < newest.stem:
            path.unlink()


def _recover(options: argparse.Namespace) -> None:
    needed = _parts_until(options.repository, options.date)
    if not needed:
        when = f" up to {options.date}" if options.date else ""
        raise NoFiles(f"{options.repository} has no backup{when}")
    parts = _complete_list_of(needed, options.date) if options.with_verify else []
    sums = {part.path: part.md5 for part in parts}
    if options.output is None:
        _write_all(needed, sys.stdout.buffer, sums)
        return
    written = options.output.with_name(options.output.name + ".part")
    try:
        with written.open("wb") as file:
            _write_all(needed, file, sums)
            file.flush()
            os.fsync(file.fileno())
        # Before: the file there can be read without these, the new one couldn't with them.
        for suffix in _OF_THE_FILE_BEFORE:
            options.output.with_name(options.output.name + suffix).unlink(missing_ok=True)
        written.replace(options.output)
    finally:
        written.unlink(missing_ok=True)
    _say(options, f"{options.output}: restored from {len(needed)} files")


def _write_all(parts: list[Path], out: IO[bytes], sums: dict[Path, str]) -> None:
    for path in parts:
        digest = hashlib.md5(usedforsecurity=False)
        for block in _content(path):
            digest.update(block)
            out.write(block)
        if path in sums and digest.hexdigest() != sums[path]:
            raise VerificationFail(f"{path} has another MD5 sum than when it was written")


def _verify(options: argparse.Namespace) -> None:
    needed = _parts_until(options.repository, None)
    if not needed:
        raise NoFiles(f"{options.repository} has no backup")
    for part in _complete_list_of(needed):
        digest, length = hashlib.md5(usedforsecurity=False), 0
        for block in _content(part.path):
            length += len(block)
            digest.update(block)
        if length != part.end - part.start:
            raise VerificationFail(
                f"{part.path} holds {length} bytes, should be {part.end - part.start}"
            )
        if not options.quick and digest.hexdigest() != part.md5:
            raise VerificationFail(f"{part.path} has another MD5 sum than when it was written")
        _say(options, f"{part.path}: whole")


def _say(options: argparse.Namespace, message: str) -> None:
    if options.verbose:
        sys.stderr.write(message + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the arguments say; end the process with 1 where that isn't possible."""
    options = _parser().parse_args(argv)
    try:
        if options.backup:
            _backup(options)
        elif options.recover:
            _recover(options)
        else:
            _verify(options)
    except (RepozoError, OSError) as error:
        sys.exit(f"repozo: {error}")


if __name__ == "__main__":
    with running("repozo"):
        main()
