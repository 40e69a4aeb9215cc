"""Where the files of blobs are put, and made safe: `perdure._native.BlobPlaces`."""

import stat
from pathlib import Path

import pytest

from perdure._native import BlobPlaces
from perdure.blob import BlobDirectory


def files(directory: Path, count: int) -> list[tuple[str, str]]:
    """Make files, and say where each is to go: into a directory of its own that isn't there."""
    moves = []
    for number in range(count):
        source = directory / f"source{number}"
        source.write_bytes(b"data %d" % number)
        moves.append((str(source), str(directory / "a" / f"b{number}" / "blob")))
    return moves


def test_files_arrive_in_directories_that_were_not_there_and_cannot_be_written(
    tmp_path: Path,
) -> None:
    places, moves = BlobPlaces(), files(tmp_path, 40)
    assert places.place(moves) == 40
    places.make_safe([target for _source, target in moves], [])
    for number, (source, target) in enumerate(moves):
        assert Path(target).read_bytes() == b"data %d" % number
        assert not stat.S_IMODE(Path(target).stat().st_mode) & 0o222
        assert not Path(source).exists()


def test_moving_stops_at_a_file_that_cannot_be_renamed(tmp_path: Path) -> None:
    places, moves = BlobPlaces(), files(tmp_path, 3)
    (Path(moves[1][1]) / "in the way").mkdir(parents=True)
    assert places.place(moves) == 1
    assert [Path(source).exists() for source, _target in moves] == [False, True, True]


def test_a_file_that_cannot_be_renamed_is_an_error_of_the_directory(tmp_path: Path) -> None:
    directory, moves = BlobDirectory(str(tmp_path / "blobs")), files(tmp_path, 3)
    (Path(moves[1][1]) / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="blob"):
        directory.move(moves)
    assert Path(moves[0][1]).read_bytes() == b"data 0"


@pytest.mark.parametrize("count", [1, 40])
def test_a_missing_file_is_named(tmp_path: Path, count: int) -> None:
    places, moves = BlobPlaces(), files(tmp_path, count)
    gone = Path(moves[-1][0])
    gone.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        places.place(moves)
    assert caught.value.filename == str(gone)
    with pytest.raises(FileNotFoundError) as caught:
        places.make_safe([*(target for _source, target in moves[:-1]), str(gone)], [])
    assert caught.value.filename == str(gone)


def test_a_directory_is_made_with_those_above_it(tmp_path: Path) -> None:
    places, deep = BlobPlaces(), tmp_path / "a" / "b" / "c"
    places.make(str(deep))
    places.make(str(deep))
    places.make_safe([], [str(deep)])
    assert deep.is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as caught:
        places.make(str(tmp_path / "file" / "d"))
    assert caught.value.filename == str(tmp_path / "file" / "d")
