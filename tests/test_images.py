from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import need
from toolkit import images, mounts
from toolkit.errors import ScratchError
from toolkit.sensors.extents import file_extents, flag_names

_MIB = 1024 * 1024


def test_progress_covers_all_bytes(tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []
    for position in range(2):
        image = tmp_path / f"{position}.image"
        images.write_image(image, 9 * _MIB, position, 2, "words", lambda done, total, words: told.append((done, total)))
        assert image.stat().st_size == 9 * _MIB
        assert not any(image.read_bytes())
    assert all(before <= after for before, after in itertools.pairwise(told))
    assert {total for _, total in told} == {18 * _MIB}


def _unwritten(path: Path) -> bool:
    return any("unwritten" in flag_names(extent.flags) for extent in file_extents(str(path), sync=True))


def test_holes_and_what_is_only_reserved_are_written_again(on_disk: Path) -> None:
    image = on_disk / "image"
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 4 * _MIB)
        os.pwrite(file.fileno(), b"x" * _MIB, _MIB)
        os.ftruncate(file.fileno(), 6 * _MIB)
    assert _unwritten(image)
    images.fill_again(image)
    assert not _unwritten(image)
    assert image.stat().st_blocks * 512 >= 6 * _MIB
    assert image.read_bytes() == bytes(_MIB) + b"x" * _MIB + bytes(4 * _MIB)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder on a file system that tells of unwritten extents; /tmp may be in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        need(mounts.mount_of(Path(folder)).kernel_type in ("ext4", "xfs", "btrfs"), "/var/tmp on ext4, xfs or btrfs")
        yield Path(folder)


def test_an_image_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ScratchError, match="could not be written: File too large"):
        images.write_image(tmp_path / "image", 2**62, 0, 1, "", lambda done, total, words: None)
    with pytest.raises(ScratchError, match="File exists"):
        images.write_image(tmp_path / "image", _MIB, 0, 1, "", lambda done, total, words: None)


def test_missing_room_is_said_in_bytes(tmp_path: Path) -> None:
    with pytest.raises(ScratchError, match=r"images need .* TiB in .* are missing"):
        images.check_space(tmp_path, 2**50, "images")
    images.check_space(tmp_path, 0, "nothing")


def test_the_memory_that_is_free_is_no_more_than_there_is() -> None:
    assert 0 < images.memory_available_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
