from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.filesystems_made import INLINE, MIB, mounted
from tests.needs import require_tool
from toolkit.errors import UnavailableError, UsageError
from toolkit.scratch import ScratchFilesystem
from toolkit.sensors import extents
from toolkit.sensors.extents import EXTENT_BYTES, SEGMENT_BYTES, ExtentMap, file_extents, flag_names, space_pages

pytestmark = pytest.mark.root

_BLOCK = 4096
_ON_DEVICES = ("ext2", "ext3", "ext4", "ext4-noextents", "xfs", "btrfs")
_WITH_EXTENTS = ("ext4", "xfs", "btrfs")

# include/uapi/linux/fs.h
_FICLONE = 0x40049409


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ScratchFilesystem]]:
    root = tmp_path_factory.mktemp("extents")
    with mounted([*_ON_DEVICES, "tmpfs", INLINE], 640 * MIB, root) as filesystems:
        yield filesystems


def _filefrag(path: Path) -> tuple[int, int]:
    """Pieces as filefrag counts them, and the extents that it lists."""
    done = subprocess.run([require_tool("filefrag"), "-s", "-v", str(path)], capture_output=True, text=True, check=True)
    pieces = re.search(r"(\d+) extents? found", done.stdout)
    assert pieces, done.stdout
    return int(pieces[1]), len(re.findall(r"^ *\d+: +\d+\.\.", done.stdout, re.MULTILINE))


def _write(path: Path, offsets: range, content: bytes = b"x" * _BLOCK) -> None:
    with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
        for offset in offsets:
            os.pwrite(file.fileno(), content, offset)
        os.fsync(file)


def _empty(path: Path) -> None:
    path.touch()


def _one_block(path: Path) -> None:
    _write(path, range(1))


def _dense(path: Path) -> None:
    path.write_bytes(os.urandom(8 * MIB))


def _all_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MIB)


def _holes(path: Path) -> None:
    _write(path, range(0, 200 * _BLOCK, 2 * _BLOCK))


def _hole_at_the_beginning(path: Path) -> None:
    _write(path, range(10 * _BLOCK, 20 * _BLOCK, _BLOCK))


def _sparse(path: Path) -> None:
    # Far apart, and within what ext2's block maps can reach.
    _write(path, range(0, 4 * 1024**3, 512 * MIB))


def _backwards(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for block in reversed(range(64)):
            os.pwrite(file.fileno(), b"x" * _BLOCK, block * 16 * _BLOCK)
            os.fsync(file)


def _interleaved(path: Path) -> None:
    with path.open("wb", buffering=0) as file, path.with_name("neighbour").open("wb", buffering=0) as neighbour:
        for _ in range(100):
            for each in (file, neighbour):
                each.write(b"x" * _BLOCK)
                os.fsync(each)


def _unwritten(path: Path) -> None:
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 400 * _BLOCK)
    _write(path, range(0, 400 * _BLOCK, 4 * _BLOCK))


def _reserved_past_the_end(path: Path) -> None:
    path.touch()
    subprocess.run([require_tool("fallocate"), "--keep-size", "--length", str(2 * MIB), str(path)], check=True)
    _write(path, range(0, MIB, _BLOCK))


def _punched(path: Path) -> None:
    _dense(path)
    subprocess.run([require_tool("fallocate"), "--punch-hole", "--offset", str(MIB), "--length", str(MIB), str(path)], check=True)


def _reflinked(path: Path) -> None:
    source = path.with_name("source")
    _dense(source)
    os.sync()
    with source.open("rb") as whole, path.open("wb") as copy:
        fcntl.ioctl(copy, _FICLONE, whole.fileno())
    _write(path, range(0, 4 * MIB, MIB))


def _compressed(path: Path) -> None:
    path.touch()
    subprocess.run([require_tool("chattr"), "+c", str(path)], check=True)
    path.write_bytes(b"compressible " * 100_000)


def _small(path: Path) -> None:
    path.write_bytes(b"small")


_FILES: dict[Callable[[Path], None], tuple[str, ...]] = {
    _empty: _ON_DEVICES,
    _one_block: _ON_DEVICES,
    _dense: _ON_DEVICES,
    _all_hole: _ON_DEVICES,
    _holes: _ON_DEVICES,
    _hole_at_the_beginning: _ON_DEVICES,
    _sparse: _ON_DEVICES,
    _backwards: _ON_DEVICES,
    _interleaved: _ON_DEVICES,
    _unwritten: _WITH_EXTENTS,
    _reserved_past_the_end: _WITH_EXTENTS,
    _punched: ("ext2", *_WITH_EXTENTS),
    _reflinked: ("xfs", "btrfs"),
    _compressed: ("btrfs",),
    _small: (INLINE, *_ON_DEVICES),
}
_NOT_COMPARABLE = {(_reflinked, "xfs"), (_reflinked, "btrfs"), (_compressed, "btrfs"), (_small, INLINE), (_small, "btrfs")}


@pytest.fixture
def folder(request: pytest.FixtureRequest, made: dict[str, ScratchFilesystem]) -> Iterator[Path]:
    found = made[request.param].point / "folder"
    found.mkdir()
    yield found
    subprocess.run(["rm", "-r", str(found)], check=True)


@pytest.mark.parametrize(
    ("file", "name", "folder"),
    [(file, name, name) for file, names in _FILES.items() for name in names],
    indirect=["folder"],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_pieces_are_filefrags_and_incomparable_files_are_known(file: Callable[[Path], None], name: str, folder: Path) -> None:
    path = folder / "file"
    file(path)
    found = file_extents(path, sync=True)
    assert (found.pieces(), len(found)) == _filefrag(path)
    assert found.discontinuities() == max(found.pieces() - 1, 0)
    assert found.comparable() == ((file, name) not in _NOT_COMPARABLE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), [(name, name) for name in _ON_DEVICES], indirect=["folder"])
def test_a_file_of_a_hundred_thousand_extents_is_listed_whole(name: str, folder: Path) -> None:
    path = folder / "file"
    if name in _WITH_EXTENTS:
        # Written and unwritten in turn.
        step = _BLOCK
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 100_000 * _BLOCK)
    else:
        # Written and hole in turn. Where the blocks lie side by side they are one piece all the same.
        step = 2 * _BLOCK
    _write(path, range(0, 100_000 * step, 2 * _BLOCK), b"x")
    found = file_extents(path, sync=True)
    assert len(found) == 100_000
    assert [extent.logical for extent in found] == list(range(0, 100_000 * step, step))
    assert found.pieces() == _filefrag(path)[0]


@pytest.mark.parametrize("folder", ["ext4", "xfs", "btrfs"], indirect=True)
def test_two_files_that_grow_in_turn_are_in_as_many_pieces(folder: Path) -> None:
    # fallocate places a block at once, so each next one finds its place taken.
    with (folder / "file").open("wb") as file, (folder / "neighbour").open("wb") as neighbour:
        for block in range(500):
            for each in (file, neighbour):
                os.posix_fallocate(each.fileno(), block * _BLOCK, _BLOCK)
    found = file_extents(folder / "file", sync=True)
    assert found.pieces() == _filefrag(folder / "file")[0]
    # ext4 sets some blocks aside for each, and so needs fewer.
    assert found.discontinuities() > 5


@pytest.mark.parametrize("folder", ["ext4", "xfs", "btrfs", "ext2"], indirect=True)
def test_pages_of_any_length_give_the_same_extents(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _holes(folder / "file")
    whole = file_extents(folder / "file", sync=True)
    for first, later in ((1, 1), (1, 7), (100, 100), (99, 1)):
        monkeypatch.setattr(extents, "_FIRST_PAGE", first)
        monkeypatch.setattr(extents, "_PAGE", later)
        assert list(file_extents(folder / "file")) == list(whole)


@pytest.mark.parametrize("folder", ["ext4"], indirect=True)
def test_without_a_sync_what_has_no_place_yet_is_not_comparable(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(MIB))
    assert not file_extents(folder / "file").comparable()
    assert file_extents(folder / "file", sync=True).comparable()


@pytest.mark.parametrize("folder", ["ext4"], indirect=True)
def test_an_open_file_is_asked_by_its_descriptor_and_stays_open(folder: Path) -> None:
    with (folder / "file").open("wb") as file:
        file.write(bytes(_BLOCK))
        file.flush()
        assert len(file_extents(file.fileno(), sync=True)) == 1
        file.write(bytes(_BLOCK))


def _packed(*rows: tuple[int, int, int, int]) -> ExtentMap:
    return ExtentMap(bytearray(b"".join(extents._EXTENT.pack(*row) for row in rows)))


def test_an_extent_that_lies_before_its_hole_would_reach_is_a_new_piece() -> None:
    # Two blocks of hole, one block of device: neither side by side nor as far on as the hole is long.
    assert _packed((0, 40960, 4096, 0), (12288, 49152, 4096, 0)).pieces() == 2
    assert _packed((0, 40960, 4096, 0), (12288, 45056, 4096, 0)).pieces() == 1
    assert _packed((0, 40960, 4096, 0), (12288, 53248, 4096, 1)).pieces() == 1
    # The next block lies at the device's beginning, where C's unsigned numbers wrap.
    assert _packed((8192, 4096, 4096, 0), (12288, 0, 4096, 0)).pieces() == 2
    assert EXTENT_BYTES == 56


def test_flags_are_named_as_the_kernel_names_them() -> None:
    header = Path("/usr/include/linux/fiemap.h")
    if header.exists():
        for name, value in re.findall(r"FIEMAP_EXTENT_(\w+)\s+(0x[0-9a-f]+)", header.read_text()):
            assert flag_names(int(value, 16)) == name.lower()
    assert flag_names(0x2809) == "last,encoded,unwritten,shared"
    assert flag_names(0x80000000) == "0x80000000"


@pytest.mark.parametrize("folder", ["tmpfs"], indirect=True)
def test_a_file_system_that_cannot_say_is_named_with_a_remedy(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    with pytest.raises(UnavailableError, match="cannot tell where a file's extents lie") as refused:
        file_extents(folder / "file")
    assert refused.value.remedy
    with pytest.raises(UnavailableError, match="cannot tell where free space lies"):
        next(space_pages(folder))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, what in ((tmp_path, "a folder"), (pipe, "a pipe"), (Path("/dev/null"), "a character device")):
        with pytest.raises(UsageError, match=f"is {what}, not a regular file"):
            file_extents(path)
    for path in (tmp_path / "missing", Path("/dev/null/missing")):
        with pytest.raises(UsageError, match="there is no such file"):
            file_extents(path)


@pytest.mark.parametrize("folder", ["ext2", "ext3", "ext4", "ext4-noextents", "xfs"], indirect=True)
def test_free_space_grows_where_a_file_is_removed(folder: Path, made: dict[str, ScratchFilesystem]) -> None:
    for number in range(20):
        (folder / str(number)).write_bytes(bytes(MIB))
    os.sync()
    places = [file_extents(folder / str(number)) for number in range(20)]
    before = _free(folder)
    for number in range(0, 20, 2):
        (folder / str(number)).unlink()
    # xfs frees in the background; once it was unmounted it has done so.
    made[folder.parent.name].remount()
    after = _free(folder)
    assert sum(length for _, length in after) >= sum(length for _, length in before) + 10 * MIB
    for number in range(20):
        for extent in places[number]:
            is_free = any(begin <= extent.physical < begin + length for begin, length in after)
            assert is_free == (number % 2 == 0)


@pytest.mark.parametrize("folder", ["ext2", "xfs"], indirect=True)
def test_pages_of_any_length_give_the_same_free_space(
    folder: Path, made: dict[str, ScratchFilesystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(64):
        (folder / str(number)).write_bytes(bytes(_BLOCK))
    for number in range(0, 64, 2):
        (folder / str(number)).unlink()
    made[folder.parent.name].remount()
    whole = _free(folder)
    for page in (1, 2, 5):
        monkeypatch.setattr(extents, "_PAGE", page)
        assert _free(folder) == whole


@pytest.mark.parametrize("folder", ["btrfs"], indirect=True)
def test_btrfs_does_not_say_where_its_free_space_is(folder: Path) -> None:
    with pytest.raises(UnavailableError, match="GETFSMAP"):
        next(space_pages(folder))


def _free(folder: Path) -> list[tuple[int, int]]:
    flag, owner = extents.FREE
    found = []
    for device, page in space_pages(folder):
        assert len(page) % SEGMENT_BYTES == 0
        for cookie, flags, physical, whose, _, length in extents._FSMAP.iter_unpack(page):
            if flags & flag and whose == owner:
                assert cookie == device
                found.append((physical, length))
    return found
