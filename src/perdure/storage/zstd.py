"""Records compressed with Zstandard, with dictionaries made from the database's own.

Records of one database are small and alike, so most of what compression gains comes
from a dictionary::

    dictionary = ZstdStorage.train(storage)
    add_dictionary("data.fs.zstd", dictionary)
    storage = ZstdStorage(FileStorage("data.fs"), "data.fs.zstd")

Each record names the dictionary that it was compressed with, so a database can have
several generations of them. None may be lost: what was compressed with one can't be
read without it.
"""

import os
import random
import re
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from perdure._folders import make_folders, sync_folder
from perdure.errors import DictionaryMissing, UnreadableRecord
from perdure.ids import Oid, Tid
from perdure.interfaces import IStorageCurrentRecordIteration
from perdure.storage._inflating import RECORD_BYTES_MAX, inflated, require_bounded
from perdure.storage._transforming import RecordTransform, TransformingStorage

if TYPE_CHECKING:
    import zstandard

__all__ = ["ZstdStorage", "add_dictionary", "read_dictionaries"]

MARK: Final = b".s"
"""What begins a record of this layer; no pickle begins so."""

_ZLIB_MARK: Final = b".z"
_SUFFIX: Final = ".zdict"
_NAME: Final = re.compile(r"\d{4,}-[0-9a-f]{8}\.zdict")
_SMALLEST_BYTES: Final = 20
_SAMPLE_BYTES_MAX: Final = 128 << 10


class ZstdStorage(TransformingStorage):
    """A storage that keeps its records compressed in *base*.

    Records in *base* that aren't compressed, or were by zlib, are read too: the layer
    can be put over a database that exists, and in the place of a `ZlibStorage`.

    Args:
        base: the storage that keeps the records.
        dictionaries: the dictionaries that records may be compressed with, the newest
            (with which new records are compressed) first; or the directory that
            `add_dictionary` keeps them in.
        level: how hard to try: 1 (fast) to 22 (small).
        compress: False writes records as they are, and reads both kinds.
        record_bytes_max: a record that would become larger isn't decompressed.

    Raises:
        ImportError: the package ``zstandard`` isn't there.
        ValueError: what was given isn't a dictionary, or two have the same id.

    Reading a record raises DictionaryMissing where its dictionary wasn't given, and
    UnreadableRecord where it is damaged or too large.
    """

    def __init__(
        self,
        base: Any,
        dictionaries: Iterable[bytes] | str | os.PathLike[str] = (),
        *,
        level: int = 3,
        compress: bool = True,
        record_bytes_max: int = RECORD_BYTES_MAX,
    ) -> None:
        if isinstance(dictionaries, (str, os.PathLike)):
            dictionaries = read_dictionaries(dictionaries)
        super().__init__(base, _Zstd(dictionaries, level if compress else None, record_bytes_max))

    @staticmethod
    def train(
        storage: Any, *, dictionary_bytes_max: int = 112_640, samples_max: int = 20_000
    ) -> bytes:
        """Return a dictionary made from records of *storage*, a sample of the current ones.

        *storage* gives the records as the application does: it is the database's own,
        or the layer over it that decompresses. Raises ValueError where there are too few
        records to learn from.
        """
        library = _library()
        samples = _sample(_records(storage), samples_max)
        try:
            trained = library.train_dictionary(dictionary_bytes_max, samples)
        except library.ZstdError as error:
            raise ValueError(
                f"{storage.getName()} has too few records to make a dictionary from "
                f"({len(samples)}; hundreds are needed): {error}"
            ) from error
        dictionary: bytes = trained.as_bytes()
        return dictionary


def add_dictionary(directory: str | os.PathLike[str], dictionary: bytes) -> Path:
    """Keep *dictionary* in *directory* (made if need be) as the newest; return its path.

    It is safe on the disk before this returns: records may depend on it from then on. One that is
    kept there already stays as it is.
    """
    folder = Path(directory)
    make_folders(folder)
    for path in _kept_in(folder):
        if path.read_bytes() == dictionary:
            return path
    generations = [int(path.stem.split("-")[0]) for path in _kept_in(folder)]
    name = f"{max(generations, default=0) + 1:04}-{_id_of(dictionary):08x}{_SUFFIX}"
    with tempfile.NamedTemporaryFile(dir=folder, prefix="new-", delete=False) as file:
        file.write(dictionary)
        file.flush()
        os.fsync(file.fileno())
    kept = Path(file.name).rename(folder / name)
    sync_folder(folder)
    return kept


def read_dictionaries(directory: str | os.PathLike[str]) -> list[bytes]:
    """Return the dictionaries that `add_dictionary` keeps in *directory*, newest first."""
    return [path.read_bytes() for path in _kept_in(Path(directory))]


def _kept_in(folder: Path) -> list[Path]:
    """Return the files of dictionaries, newest first."""
    found = [path for path in folder.glob(f"*{_SUFFIX}") if _NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)


class _Zstd(RecordTransform):
    """Compression with the first of *dictionaries*; *level* None: none at all."""

    def __init__(
        self, dictionaries: Iterable[bytes], level: int | None, record_bytes_max: int
    ) -> None:
        self._library = library = _library()
        self._level = level
        self._bytes_max = record_bytes_max
        self._dictionaries: dict[int, zstandard.ZstdCompressionDict | None] = {}
        for data in dictionaries:
            number = _id_of(data)
            if number in self._dictionaries:
                raise ValueError(f"two dictionaries have the id {number}: give each once")
            self._dictionaries[number] = library.ZstdCompressionDict(data)
        self._newest = next(iter(self._dictionaries.values()), None)
        self._dictionaries[0] = None
        # Contexts of zstd are for one thread at a time.
        self._contexts = threading.local()

    def encode(self, data: bytes) -> bytes:
        """Return *data* compressed, or as it is where that isn't smaller."""
        length = len(data)
        if self._level is None or not _SMALLEST_BYTES < length <= self._bytes_max:
            return data
        if data.startswith((MARK, _ZLIB_MARK)):
            return data
        compressed = MARK + self._compressor().compress(data)
        return compressed if len(compressed) < length else data

    def decode(self, data: bytes) -> bytes:
        """Return *data* as it was before `encode`."""
        if data.startswith(MARK):
            return self._decompressed(data[len(MARK) :])
        if data.startswith(_ZLIB_MARK):
            return inflated(data[len(_ZLIB_MARK) :], self._bytes_max)
        return data

    def decode_for(self, data: bytes, oid: Oid, serial: Tid) -> bytes:
        """Return *data* as it was before `encode`; errors name the revision."""
        try:
            return self.decode(data)
        except UnreadableRecord as error:
            error.oid, error.tid = oid, serial
            raise

    def _decompressed(self, frame: bytes) -> bytes:
        try:
            about = self._library.get_frame_parameters(frame)
            require_bounded(about.content_size, self._bytes_max)
            data: bytes = self._decompressor(about.dict_id).decompress(frame)
        except self._library.ZstdError as error:
            raise UnreadableRecord(f"a compressed record is damaged: {error}") from error
        return data

    def _compressor(self) -> "zstandard.ZstdCompressor":
        compressor = getattr(self._contexts, "compressor", None)
        if compressor is None:
            assert self._level is not None
            compressor = self._library.ZstdCompressor(
                level=self._level, dict_data=self._newest, write_checksum=True
            )
            self._contexts.compressor = compressor
        made: zstandard.ZstdCompressor = compressor
        return made

    def _decompressor(self, number: int) -> "zstandard.ZstdDecompressor":
        known = vars(self._contexts).setdefault("decompressors", {})
        decompressor: zstandard.ZstdDecompressor | None = known.get(number)
        if decompressor is None:
            if number not in self._dictionaries:
                raise DictionaryMissing(
                    f"a record is compressed with the dictionary {number}, which is missing: "
                    "give the layer every dictionary that the database was ever used with",
                    key=number,
                )
            decompressor = self._library.ZstdDecompressor(dict_data=self._dictionaries[number])
            known[number] = decompressor
        return decompressor


def _library() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            "ZstdStorage needs the package zstandard: pip install 'perdure[zstd]'"
        ) from error
    return zstandard


_DICTIONARY = struct.Struct("<II")
_DICTIONARY_MAGIC: Final = 0xEC30A437


def _id_of(dictionary: bytes) -> int:
    """Return the id of a dictionary; ValueError where it isn't one."""
    if len(dictionary) > _DICTIONARY.size:
        magic, number = _DICTIONARY.unpack_from(dictionary)
        if magic == _DICTIONARY_MAGIC and number:
            return int(number)
    raise ValueError("not a dictionary of Zstandard: it is made by ZstdStorage.train")


def _records(storage: Any) -> Iterator[bytes]:
    """Return the current records of a storage, or all where it can't tell which are current."""
    if not IStorageCurrentRecordIteration.providedBy(storage):
        for transaction in storage.iterator():
            yield from (record.data for record in transaction if record.data)
        return
    following: Any = None
    while True:
        try:
            _oid, _tid, data, following = storage.record_iternext(following)
        except (StopIteration, ValueError):  # nothing there
            return
        if data:
            yield data
        if following is None:
            return


def _sample(records: Iterable[bytes], samples_max: int) -> list[bytes]:
    """Return some of *records*, each with the same chance."""
    chance = random.Random(0)  # noqa: S311 - the same database makes the same dictionary
    plain = _Zstd((), None, RECORD_BYTES_MAX)
    samples: list[bytes] = []
    for number, data in enumerate(records):
        place = number if number < samples_max else chance.randrange(number + 1)
        if place >= samples_max:
            continue
        sample = plain.decode(data)[:_SAMPLE_BYTES_MAX]
        if place == len(samples):
            samples.append(sample)
        else:
            samples[place] = sample
    return samples
