from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.needs import require_root, require_tool
from tests.traces import traces
from toolkit import mounts

_MIB = 1024 * 1024


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "an image"
    path.write_bytes(bytes(64 * _MIB))
    return path


def test_the_mount_of_a_path_is_the_deepest_above_it() -> None:
    assert mounts.mount_of(Path("/proc/self/status")).kernel_type == "proc"
    assert mounts.mount_of(Path("/")).point == Path("/")


@pytest.mark.root
def test_a_mount_is_found_by_a_path_with_blanks_and_backslashes(tmp_path: Path) -> None:
    require_root()
    point = tmp_path / "a b\\c\nd"
    point.mkdir()
    mounts.mount("tmpfs", point, "tmpfs", ["size=1m"])
    try:
        found = mounts.mounts_below(tmp_path)
        assert [one.point for one in found] == [point]
        assert mounts.mount_of(point) == found[0]
        assert {"rw", "nosuid", "nodev", "size=1024k"} <= set(found[0].options.split(","))
        # A neighbour whose name begins alike is not below.
        assert mounts.mounts_below(tmp_path / "a b") == []
    finally:
        mounts.unmount(point)
    assert mounts.mounts_below(tmp_path) == []


@pytest.mark.root
def test_of_two_mounts_at_one_point_the_last_counts_and_is_unmounted_first(tmp_path: Path) -> None:
    require_root()
    mounts.mount("first", tmp_path, "tmpfs")
    mounts.mount("second", tmp_path, "tmpfs")
    try:
        assert mounts.mount_of(tmp_path).source == "second"
        assert [found.source for found in mounts.mounts_below(tmp_path)] == ["second", "first"]
    finally:
        mounts.unmount(tmp_path)
        assert mounts.mount_of(tmp_path).source == "first"
        mounts.unmount(tmp_path)


@pytest.mark.root
def test_a_refused_mount_gives_the_kernels_errno(tmp_path: Path) -> None:
    require_root()
    with pytest.raises(OSError, match="No such device") as refused:
        mounts.mount("x", tmp_path, "no-such-file-system")
    assert refused.value.errno == errno.ENODEV
    with pytest.raises(OSError, match="Invalid argument"):
        mounts.unmount(tmp_path)


@pytest.mark.root
def test_an_image_is_a_block_device_until_its_handle_is_closed(image: Path) -> None:
    require_root()
    with contextlib.ExitStack() as handles:
        loop = mounts.attach(image, handles)
        assert loop.path.is_block_device()
        assert mounts.attached_below(image.parent) == [loop.path]
        with loop.path.open("r+b") as device:
            device.write(b"x" * 4096)
            os.fsync(device)
    assert traces(image.parent) == [f"file: {image}"]
    assert image.read_bytes()[:4096] == b"x" * 4096


@pytest.mark.root
def test_a_device_counts_only_where_its_very_file_is(image: Path) -> None:
    require_root()
    with contextlib.ExitStack() as handles:
        mounts.attach(image, handles)
        assert mounts.attached_below(image.parent / "elsewhere") == []
        # Another file at the same path, as one sees it from another namespace.
        image.unlink()
        image.write_bytes(b"")
        assert mounts.attached_below(image.parent) == []


@pytest.mark.root
def test_a_detached_device_goes_at_its_last_close(image: Path) -> None:
    require_root()
    with contextlib.ExitStack() as handles:
        loop = mounts.attach(image, handles)
        assert not mounts.detach(loop.path)
    assert mounts.attached_below(image.parent) == []
    assert mounts.detach(loop.path)


@pytest.mark.root
def test_who_holds_a_file_system_is_named(tmp_path: Path) -> None:
    require_root()
    mounts.mount("tmpfs", tmp_path, "tmpfs")
    try:
        device = tmp_path.stat().st_dev
        assert mounts.holders(device) == []
        with subprocess.Popen([require_tool("sleep"), "60"], cwd=tmp_path) as holder:
            try:
                assert mounts.holders(device) == [f"sleep ({holder.pid})"]
                with pytest.raises(OSError, match="busy"):
                    mounts.unmount(tmp_path)
            finally:
                holder.kill()
    finally:
        mounts.unmount(tmp_path)
