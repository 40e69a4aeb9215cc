"""The backup of one data file: whole copies of it, each with what was added since."""

import datetime as dt
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from perdure._folders import make_folders
from perdure.errors import StorageError
from perdure.ids import NO_TID, Tid, tid_repr
from perdure.maintenance._backupblobs import (
    BLOBS,
    add_blobs,
    listed_blobs,
    restore_blobs,
    write_list,
)
from perdure.maintenance._backupfiles import append_chunk, copied, digest_of, tail_digest
from perdure.maintenance._following import Follower
from perdure.maintenance._manifests import Chunk, read_generations, write_generations

__all__ = ["BackedUp", "Place", "Series", "now"]

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class BackedUp:
    """What a backup added."""

    file: str | None
    """The new file, as seen from the backup's folder; None: nothing was new."""
    bytes_added: int
    full: bool
    """Whether the whole data file was copied: the first time, and after it was packed."""
    last_tid: Tid
    blobs: int
    """How many blob files were added."""


class Place(NamedTuple):
    """A place in a backup: the data file up to a position."""

    generation: int
    chunks: int
    """How many of its parts."""
    end: int
    """How many bytes of the data file."""


def now() -> str:
    """Return the time, as backups note it."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


class Series:
    """The backup in *folder*; StorageError is raised where it can't be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._generations = read_generations(folder)

    @property
    def is_empty(self) -> bool:
        """Whether there is no backup yet."""
        return not self._generations

    @property
    def has_blobs(self) -> bool:
        """Whether blobs were copied, too."""
        return (self.folder / BLOBS).is_dir()

    def _chunks(self) -> list[Chunk]:
        return [chunk for generation in self._generations for chunk in generation]

    # Adding to it.

    def add(
        self,
        source: Follower,
        end: int,
        last_tid: Tid,
        *,
        blob_dir: Path | None = None,
        full: bool = False,
        progress: Progress | None = None,
    ) -> BackedUp:
        """Add what is new in *source* up to the position *end*, where *last_tid* ends."""
        make_folders(self.folder)
        chunks = [] if full else self._to_go_on(source)
        start = chunks[-1].end if chunks else 0
        blobs = self._new_blobs(blob_dir, last_tid)
        if chunks and start >= end and not blobs:
            return BackedUp(None, 0, full=False, last_tid=last_tid, blobs=0)
        if not chunks:
            self._generations.append(chunks)
        chunks.append(self._copy(source, (start, max(start, end)), last_tid, blobs, progress))
        write_generations(self.folder, self._generations)
        added = chunks[-1].end - start
        return BackedUp(
            chunks[-1].file, added, full=start == 0, last_tid=last_tid, blobs=len(blobs)
        )

    def _to_go_on(self, source: Follower) -> list[Chunk]:
        """Return the last generation's parts if the file still begins as they do, else none."""
        if self.is_empty:
            return []
        chunks = self._generations[-1]
        last = chunks[-1]
        same = last.end <= source.end and tail_digest(source, last.end) == last.tail_sha256
        return chunks if same else []

    def _new_blobs(self, blob_dir: Path | None, last_tid: Tid) -> dict[str, str]:
        if blob_dir is None:
            return {}
        known = listed_blobs(self.folder, self._chunks(), [])
        return add_blobs(blob_dir, self.folder, known, last_tid)

    def _copy(
        self,
        source: Follower,
        part: tuple[int, int],
        last_tid: Tid,
        blobs: Mapping[str, str],
        progress: Progress | None,
    ) -> Chunk:
        start, end = part
        number = len(self._generations[-1])
        name = f"{len(self._generations):04}-{start:016x}-{number:06}"
        sha256 = copied(source, self.folder / f"{name}.part", start, end, progress)
        blobs_file = f"{name}.blobs" if blobs else None
        return Chunk(
            file=f"{name}.part",
            start=start,
            end=end,
            sha256=sha256,
            tail_sha256=tail_digest(source, end),
            last_tid=last_tid.hex(),
            time=now(),
            blobs=blobs_file,
            blobs_sha256=write_list(self.folder / blobs_file, blobs) if blobs_file else None,
        )

    # Reading it.

    def problems(self, progress: Progress | None = None) -> list[str]:
        """Read all of it, and return what is wrong."""
        chunks = self._chunks()
        if not chunks:
            return [f"{self.folder} holds no backup"]
        found: list[str] = []
        files = {chunk.file: chunk.sha256 for chunk in chunks}
        listed = listed_blobs(self.folder, chunks, found)
        files.update((f"{BLOBS}/{name}", sha256) for name, sha256 in listed.items())
        for number, (name, sha256) in enumerate(files.items()):
            path = self.folder / name
            if not path.is_file():
                found.append(f"{path} is missing")
            elif digest_of(path) != sha256:
                found.append(f"{path} is damaged: its SHA-256 isn't the one it was written with")
            if progress is not None:
                progress(number + 1, len(files))
        return found

    def last_place(self, end: int | None = None) -> Place:
        """Return the end of the last generation, or the position *end* in it."""
        chunks = self._generations[-1]
        return Place(
            len(self._generations) - 1, len(chunks), chunks[-1].end if end is None else end
        )

    def holds(self, place: Place) -> bool:
        """Tell whether a place is in it."""
        if place.generation >= len(self._generations):
            return False
        chunks = self._generations[place.generation][: place.chunks]
        return len(chunks) == place.chunks > 0 and place.end <= chunks[-1].end

    def places_for(self, at: Tid | None) -> list[Place]:
        """Return the places from which the state at *at* can be restored, the best one first.

        None: the newest generation's end. A moment is in the oldest generation that reaches it as
        it was then; newer ones may have been packed since.
        """
        if self.is_empty:
            raise StorageError(f"{self.folder} holds no backup")
        if at is None:
            return [self.last_place()]
        found = []
        for number, chunks in enumerate(self._generations):
            reaching = (
                Place(number, count, chunk.end)
                for count, chunk in enumerate(chunks, 1)
                if bytes.fromhex(chunk.last_tid) >= at
            )
            found += [place for place in (next(reaching, None),) if place is not None]
        return found or [self.last_place()]

    def write(
        self, place: Place, at: Tid | None, file: IO[bytes], progress: Progress | None
    ) -> Tid:
        """Write the data file, up to *place* and to the last transaction up to *at*.

        Returns that transaction; zeros: there was none. Raises StorageError where the backup is
        damaged, or doesn't reach back so far.
        """
        if not self.holds(place):
            raise StorageError(f"{self.folder} doesn't hold all that was backed up there")
        chunks = self._generations[place.generation][: place.chunks]
        for number, chunk in enumerate(chunks):
            length = min(chunk.end, place.end) - chunk.start
            append_chunk(self.folder / chunk.file, chunk.sha256, file, length)
            if progress is not None:
                progress(number + 1, len(chunks))
        file.flush()
        last = self._cut_after(Path(file.name), at)
        os.fsync(file.fileno())
        return last

    def _cut_after(self, path: Path, at: Tid | None) -> Tid:
        with closing(Follower(path)) as written:
            if at is None or written.last_tid <= at:
                return written.last_tid
            end, last = written.end_of(at)
            if written.is_packed_at(end):
                raise StorageError(
                    f"{self.folder} doesn't reach back to {tid_repr(at)}: the data file was packed "
                    "after that, before it was backed up"
                )
        os.truncate(path, end)
        return last

    def write_blobs(self, target: Path, last: Tid, undo: ExitStack) -> int:
        """Copy the blobs of transactions up to *last* to the folder *target*.

        *undo* gets what removes them again.
        """
        if not self.has_blobs or last == NO_TID:
            return 0
        problems: list[str] = []
        listed = listed_blobs(self.folder, self._chunks(), problems)
        if problems:
            raise StorageError("; ".join(problems))
        return restore_blobs(self.folder, listed, target, last, undo)
