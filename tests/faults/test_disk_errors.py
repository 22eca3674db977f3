"""Disks that fail, fill, turn read-only and vanish under an experiment: rows with their number, and the rest is measured."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import media
from tests.faults.media import MIB
from tests.needs import require_root, require_tool
from tests.traces import traces
from toolkit import mounts, runs
from toolkit.errors import BusyWarning, ToolkitWarning, UnavailableError
from toolkit.experiments.allocation import Experiment, allocate, in_directory, on_scratch

pytestmark = pytest.mark.root

Row = dict[str, Any]

#: What a file system makes of a disk that gives back nothing where its own structures were: it cannot read them (EIO), or finds
#: something else in their place (the kernel's EFSCORRUPTED and EFSBADCRC are EUCLEAN and EBADMSG; EINVAL: no such file system).
UNREADABLE = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EINVAL}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    require_root()
    made = tmp_path / "root"
    made.mkdir()
    monkeypatch.setenv("TOOLKIT_SCRATCH", str(made))
    yield made.resolve()
    assert media.devices_on(tmp_path) == []
    assert not [point for _, point in media.mounted() if point.startswith(f"{tmp_path}/")]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images as small as their file systems allow: what they are for here is to fail."""
    monkeypatch.setattr("toolkit.experiments.allocation._image_bytes", lambda largest: 64 * MIB)


def measured(experiment: Experiment, **faults: Callable[[], object]) -> dict[str, list[Row]]:
    """The rows of an experiment in parts of an even number, one before the first fault and one after each."""
    rows = experiment.rows()
    share = len(experiment.cells) // (len(faults) + 1)
    parts = {"before": [next(rows) for _ in range(share)]}
    for name, fault in faults.items():
        fault()
        parts[name] = list(itertools.islice(rows, share))
    parts[name] += rows
    assert sum(map(len, parts.values())) == len(experiment.cells)
    return parts


def busy(said: Iterable[warnings.WarningMessage]) -> int:
    """How many of these warnings are of somebody else's experiment on this machine."""
    return sum(issubclass(each.category, BusyWarning) for each in said)


def errnos(rows: list[Row], filesystem: str) -> set[int | None]:
    return {row["errno"] for row in rows if row["filesystem"] == filesystem}


def well(rows: list[Row]) -> bool:
    """Whether all these were measured, as a table takes them."""
    frame = runs.begin("test").frame("allocations", rows)
    return len(frame) > 0 and bool(
        frame["errno"].isna().all() and frame["allocate_ns"].notna().all() and frame["sync_ns"].notna().all()
    )


def start_anew(folder: Path) -> None:
    """Measure in a folder in a process of its own, once the one that measured there is gone."""
    program = "import sys; from toolkit.experiments.allocation import allocate; allocate(sys.argv[1], ['write_64k'], 1 << 20, 1)"
    owner = next(folder.glob("*.owner"))
    content = json.loads(owner.read_text())
    with subprocess.Popen([require_tool("sleep"), "60"]) as gone:  # as if another process had made it, which has ended since
        content["pid"] = gone.pid
        gone.kill()
    owner.write_text(json.dumps(content))
    media.run(sys.executable, "-c", program, str(folder))


WAYS = ["write_64k", "mmap_memset", "posix_fallocate", "ftruncate"]


# EIO


@pytest.mark.parametrize("kind", ["ext2", "ext4", "xfs", "btrfs"])
def test_a_disk_that_refuses_writes_is_eio_and_is_measured_again_once_it_takes_them(kind: str, root: Path, small: None) -> None:
    with on_scratch([kind, "tmpfs"], WAYS, 2 * MIB, 3, seed=3) as experiment:
        image = experiment.places[kind].folder.with_name(f"{kind}.image")
        try:
            parts = measured(experiment, refused=lambda: media.refuse_writes(image), again=lambda: media.writable(image))
        finally:
            media.writable(image)
    assert well(parts["before"])
    assert errnos(parts["refused"], kind) == {errno.EIO}
    assert well([row for row in parts["refused"] if row["filesystem"] == "tmpfs"])
    assert all(row.get("sync_ns") is None for row in parts["refused"] if row["filesystem"] == kind)
    assert well(parts["again"])
    assert traces(root) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_disk_that_cannot_be_read_is_an_errno_and_the_rest_goes_on(kind: str, root: Path, small: None) -> None:
    with on_scratch([kind, "tmpfs"], WAYS, 2 * MIB, 2, seed=4) as experiment:
        image = experiment.places[kind].folder.with_name(f"{kind}.image")
        parts = measured(experiment, cut=lambda: os.truncate(image, 0))
    assert well(parts["before"])
    assert errnos(parts["cut"], kind) <= UNREADABLE
    assert all(row.get("allocate_ns") is None for row in parts["cut"] if row["filesystem"] == kind)
    assert well([row for row in parts["cut"] if row["filesystem"] == "tmpfs"])
    assert traces(root) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_that_shut_itself_down_is_mounted_afresh(kind: str, root: Path, small: None) -> None:
    with on_scratch([kind, "tmpfs"], WAYS, 2 * MIB, 2, seed=5) as experiment:
        parts = measured(experiment, down=lambda: media.shut_down(experiment.places[kind].folder))
    # Its journal's last words are lost, and nothing else is: the next measurement begins with a fresh mount.
    assert well(parts["before"])
    assert well(parts["down"])
    assert traces(root) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_folder_whose_file_system_shut_itself_down_gives_eio_and_loses_no_row(kind: str, root: Path) -> None:
    with media.disk(root, kind) as disk:
        with (
            pytest.warns(ToolkitWarning, match=r"Scratch files are left: .* cannot be removed: Input/output error") as said,
            in_directory(disk.point, None, MIB, 2, seed=5) as experiment,
        ):
            parts = measured(experiment, down=lambda: media.shut_down(disk.point))
        assert sum(issubclass(each.category, ToolkitWarning) for each in said) == 1 + busy(said)
        assert well(parts["before"])
        assert errnos(parts["down"], kind) == {errno.EIO}
        assert all(row.get("allocate_ns") is None for row in parts["down"])
        # What could not be removed goes as soon as the disk is well and somebody measures there again.
        media.run(require_tool("umount"), str(disk.point))
        media.mount(disk)
        start_anew(disk.point)
        assert [path.name for path in disk.point.iterdir()] == (["lost+found"] if kind == "ext4" else [])


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_images_whose_own_disk_dies_give_rows_and_leave_neither_mount_nor_device(kind: str, root: Path, small: None) -> None:
    with media.disk(root, kind, size_bytes=1024 * MIB) as disk:
        with (
            pytest.warns(ToolkitWarning, match="cannot be removed: Input/output error"),
            on_scratch(["ext4", "tmpfs"], WAYS, 2 * MIB, 2, seed=5, root=disk.point) as experiment,
        ):
            parts = measured(experiment, down=lambda: media.shut_down(disk.point))
        assert well(parts["before"])
        assert errnos(parts["down"], "ext4") == {errno.EIO}
        assert media.devices_on(disk.point) == []
        assert not [point for _, point in media.mounted() if point.startswith(f"{disk.point}/")]


def test_a_folder_on_a_dead_disk_is_an_error_that_says_so(root: Path) -> None:
    with media.disk(root, "xfs") as disk:
        (disk.point / "inner").mkdir()
        (disk.point / "file").write_bytes(b"x" * 8192)
        media.shut_down(disk.point)
        from toolkit.experiments.extents import extents

        for dead in (disk.point, disk.point / "inner"):
            with pytest.raises(UnavailableError, match="Input/output error"):
                allocate(dead, ["ftruncate"], MIB, 1)
        with pytest.raises(UnavailableError, match="Input/output error"):
            extents(disk.point / "file")


def test_a_device_that_turns_read_only_is_an_errno_until_it_turns_back(root: Path, small: None) -> None:
    with on_scratch(["ext4", "tmpfs"], WAYS, 2 * MIB, 3, seed=6) as experiment:
        place = str(experiment.places["ext4"].folder)
        device = Path(next(source for source, point in media.mounted() if point == place))
        try:
            parts = measured(
                experiment,
                locked=lambda: media.set_read_only(device, on=True),
                unlocked=lambda: media.set_read_only(device, on=False),
            )
        finally:
            media.set_read_only(device, on=False)
    assert well(parts["before"])
    # mount(2) says EACCES of a device that it may not write to.
    assert errnos(parts["locked"], "ext4") <= {errno.EACCES, errno.EROFS}
    assert well([row for row in parts["locked"] if row["filesystem"] == "tmpfs"])
    assert well(parts["unlocked"])


def test_a_loop_device_that_somebody_once_set_read_only_is_written_to_again(root: Path) -> None:
    image = root / "image"
    image.write_bytes(bytes(MIB))
    with contextlib.ExitStack() as handles:
        first = mounts.attach(image, handles).path
        media.set_read_only(first, on=True)
    try:
        with contextlib.ExitStack() as handles:
            second = mounts.attach(image, handles).path
            assert second == first, "somebody else took the device between"
            assert not media.is_read_only(second)
    finally:
        if first.exists() and not Path(f"/sys/block/{first.name}/loop/backing_file").exists():
            media.set_read_only(first, on=False)


# EROFS


def test_a_folder_that_turns_read_only_gives_erofs_and_is_cleaned_at_the_next_start(root: Path) -> None:
    with media.disk(root, "ext4", options="errors=remount-ro") as disk:
        with (
            pytest.warns(ToolkitWarning, match="cannot be removed: Read-only file system"),
            in_directory(disk.point, None, MIB, 2, seed=5) as experiment,
        ):
            parts = measured(experiment, read_only=lambda: media.fail_read_only(disk))
        assert well(parts["before"])
        assert errnos(parts["read_only"], "ext4") == {errno.EROFS}
        media.run(require_tool("umount"), str(disk.point))
        media.mount(disk)
        start_anew(disk.point)
        assert [path.name for path in disk.point.iterdir()] == ["lost+found"]


# ENOSPC and EDQUOT


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_folder_that_somebody_else_fills_is_enospc_until_he_makes_room(kind: str, root: Path) -> None:
    with media.disk(root, kind) as disk, in_directory(disk.point, WAYS, 24 * MIB, 3, seed=5) as experiment:
        with contextlib.ExitStack() as other:
            parts = measured(experiment, full=lambda: other.enter_context(media.full(disk.point, 2 * MIB)), room=other.close)
        assert well(parts["before"])
        given = [row for row in parts["full"] if row["method"] != "ftruncate"]
        assert errnos(given, kind) == {errno.ENOSPC}
        assert all(row["errno"] is None or row.get("extents") is None for row in parts["full"])
        assert well(parts["room"])


def test_a_disk_that_promised_more_than_it_has_is_an_errno(root: Path) -> None:
    # Thin provisioning: the file system has room, and the disk below it has not.
    (root / "thin").mkdir()
    media.run(require_tool("mount"), "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(root / "thin"))
    try:
        with media.disk(root / "thin", "ext4") as disk:
            with contextlib.suppress(ToolkitWarning), in_directory(disk.point, ["write_64k"], 64 * MIB, 4, seed=5) as experiment:
                rows = list(experiment.rows())
            assert {row["errno"] for row in rows} <= {errno.ENOSPC, errno.EIO, errno.EROFS}
            assert rows[0]["errno"] in (errno.ENOSPC, errno.EIO)
            assert all(row.get("sync_ns") is None for row in rows)
    finally:
        media.run(require_tool("umount"), str(root / "thin"))


def test_a_quota_that_is_used_up_is_edquot_until_it_is_raised(root: Path) -> None:
    btrfs = require_tool("btrfs")
    with media.disk(root, "btrfs") as disk, in_directory(disk.point, WAYS, 24 * MIB, 3, seed=5) as experiment:
        media.run(btrfs, "quota", "enable", str(disk.point))
        parts = measured(
            experiment,
            limited=lambda: media.run(btrfs, "qgroup", "limit", "8M", str(disk.point)),
            raised=lambda: media.run(btrfs, "qgroup", "limit", "none", str(disk.point)),
        )
        assert well(parts["before"])
        given = [row for row in parts["limited"] if row["method"] != "ftruncate"]
        assert errnos(given, "btrfs") == {errno.EDQUOT}
        assert well(parts["raised"])


# Vanished


def test_a_folder_that_is_unmounted_between_two_files_is_an_errno(root: Path) -> None:
    with media.disk(root, "ext4") as disk:
        with in_directory(disk.point, None, MIB, 2, seed=5) as experiment:
            parts = measured(experiment, gone=lambda: mounts.unmount(disk.point, detach_busy=True))
        assert well(parts["before"])
        assert errnos(parts["gone"], "ext4") <= {errno.ENOENT, errno.ENODEV}
        assert list(disk.point.iterdir()) == []


def test_a_file_system_that_vanishes_while_a_file_is_written_is_measured_to_the_end_and_missed_afterwards(root: Path) -> None:
    with on_scratch(["ext4", "tmpfs"], ["write_4k"], 96 * MIB, 3, seed=5) as experiment:
        place = experiment.places["ext4"].folder
        vanished = threading.Event()

        def unmount_while_writing() -> None:
            until = time.monotonic() + 60
            while time.monotonic() < until and not vanished.is_set():
                with contextlib.suppress(OSError):  # it is being remounted
                    if any(path.stat().st_size > MIB for path in place.glob("*.allocation")):
                        mounts.unmount(place, detach_busy=True)
                        vanished.set()

        other = threading.Thread(target=unmount_while_writing)
        other.start()
        try:
            rows = list(experiment.rows())
        finally:
            other.join()
        assert vanished.is_set()
        assert list(place.iterdir()) == []
    mine = [row["errno"] for row in rows if row["filesystem"] == "ext4"]
    # Whoever has the file open goes on writing to it: that one is whole.
    assert mine == [None, errno.ENODEV, errno.ENODEV]
    assert well([row for row in rows if row["filesystem"] == "tmpfs"])
    assert traces(root) == []


def test_images_whose_own_file_system_vanishes_give_rows_and_leave_no_device(root: Path, small: None) -> None:
    with media.disk(root, "ext4", size_bytes=1024 * MIB) as disk:
        with on_scratch(["ext4", "tmpfs"], WAYS, 2 * MIB, 2, seed=5, root=disk.point) as experiment:
            parts = measured(experiment, gone=lambda: mounts.unmount(disk.point, detach_busy=True))
        assert well(parts["before"])
        assert {row["errno"] for row in parts["gone"]} <= {errno.ENOENT, errno.ENODEV}
        assert list(disk.point.iterdir()) == []
        assert media.devices_on(disk.point) == []


# EMFILE


@contextlib.contextmanager
def descriptors(free: int) -> Iterator[None]:
    """No more than so many files that may still be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    # Fill the gaps below the highest first, so that the limit is what counts.
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while not held or held[-1] < highest:
        held.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1 + free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in held:
            os.close(each)


def test_whichever_file_cannot_be_opened_it_is_emfile_or_measured_and_the_rest_goes_on(root: Path, small: None) -> None:
    with on_scratch(["ext4", "tmpfs"], ["mmap_memset"], MIB, 14, seed=5) as experiment:
        rows = experiment.rows()
        starved: dict[int, list[Row]] = {}
        for free in range(12):
            with descriptors(free):
                starved[free] = [next(rows), next(rows)]
        rest = list(rows)
    assert {row["errno"] for row in starved[0]} == {errno.EMFILE}
    assert {row["errno"] for pair in starved.values() for row in pair} <= {None, errno.EMFILE}
    assert well(starved[11])
    assert well(rest)
    assert traces(root) == []
