from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.needs import require_root
from tests.traces import traces
from toolkit import mounts, scratch
from toolkit.errors import ScratchError, ToolkitWarning, UnavailableError, UsageError
from toolkit.filesystems import FILESYSTEMS
from toolkit.scratch import scratch_filesystems

_MIB = 1024 * 1024

# Sends itself a signal at a moment: after the call of a function, or (body) while the file systems are in use.
_VICTIM = """
import os, sys
from pathlib import Path
from toolkit import mounts, scratch, scratch_folder

moment, number, root = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])

def strike():
    os.kill(os.getpid(), number)

if moment != "body":
    module, name = moment.split(".")
    original = getattr(globals()[module], name)
    def struck(*args, **kwargs):
        result = original(*args, **kwargs)
        strike()
        return result
    setattr(globals()[module], name, struck)

with scratch.scratch_filesystems(["ext4", "tmpfs"], 64 << 20, root=root) as made:
    for found in made.filesystems.values():
        (found.point / "file").write_bytes(bytes(65536))
        found.remount()
    if moment == "body":
        with (found.point / "open").open("w"):
            strike()
"""

_MOMENTS = (
    "scratch_folder._marked",
    "scratch.write_image",
    "scratch._mkfs",
    "mounts.attach",
    "mounts.mount",
    "mounts.drop_caches",
    "body",
    "mounts.unmount",
    "scratch_folder._detach_below",
    "scratch_folder._delete",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made.resolve()


def _strike(moment: str, number: int, root: Path) -> int:
    command = [sys.executable, "-c", _VICTIM, moment, str(number), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    expected = "KeyboardInterrupt" if number == signal.SIGINT else ""
    assert expected in done.stderr, done.stderr
    return done.returncode


@pytest.mark.root
def test_each_file_system_is_mounted_as_what_it_is_called(root: Path) -> None:
    require_root()
    with scratch_filesystems(root=root, size_bytes=64 * _MIB) as made:
        assert made.left_out == []
        assert list(made.filesystems) == list(FILESYSTEMS)
        for name, found in made.filesystems.items():
            mounted = mounts.mount_of(found.point)
            assert mounted.point == found.point
            assert mounted.kernel_type == FILESYSTEMS[name].kernel_type
            assert "discard" not in mounted.options.replace("nodiscard", "").split(",")
            assert found.mount_options == mounted.options
            (found.point / "file").write_text(name)
        images = [path.stat() for path in made.filesystems["ext4"].point.parent.glob("*.image")]
        # xfs takes no less than 300 MiB, so all have that.
        assert {image.st_size for image in images} == {300 * _MIB}
        assert all(image.st_blocks * 512 >= image.st_size for image in images)
        assert len(images) == len(FILESYSTEMS) - 1
    assert traces(root) == []


@pytest.mark.root
def test_an_image_is_written_and_not_only_allocated(root: Path) -> None:
    require_root()
    from toolkit.sensors.extents import file_extents, flag_names

    with scratch_filesystems(["ext4"], 64 * _MIB, root=root) as made:
        image = made.filesystems["ext4"].point.parent / "ext4.image"
        flags = {flag_names(extent.flags) for extent in file_extents(str(image))}
        assert not any("unwritten" in names for names in flags)


@pytest.mark.root
def test_a_remount_empties_the_cache_and_keeps_the_files(root: Path) -> None:
    require_root()
    with scratch_filesystems(["ext4"], 64 * _MIB, root=root) as made:
        found = made.filesystems["ext4"]
        file = found.point / "file"
        file.write_bytes(os.urandom(_MIB))
        before = file.read_bytes()
        found.remount()
        found.check()
        statistics = Path(f"/sys/block/{Path(found.source).name}/stat")
        sectors_read = int(statistics.read_text().split()[2])
        assert file.read_bytes() == before
        assert int(statistics.read_text().split()[2]) - sectors_read >= _MIB // 512


@pytest.mark.root
def test_a_remount_while_a_file_is_open_says_busy_and_leaves_it_mounted(root: Path) -> None:
    require_root()
    with scratch_filesystems(["tmpfs"], 4 * _MIB, root=root) as made:
        found = made.filesystems["tmpfs"]
        with (found.point / "file").open("w"), pytest.raises(OSError, match="busy") as refused:
            found.remount()
        assert refused.value.errno == errno.EBUSY
        found.check()


@pytest.mark.root
def test_a_file_system_that_vanished_is_not_taken_for_what_lies_below(root: Path) -> None:
    require_root()
    with scratch_filesystems(["ext4", "tmpfs"], 64 * _MIB, root=root) as made:
        for found in made.filesystems.values():
            mounts.unmount(found.point, detach_busy=True)
            for look in (found.check, found.remount):
                with pytest.raises(OSError, match="No such device"):
                    look()
    assert traces(root) == []


@pytest.mark.root
def test_what_somebody_keeps_open_is_named_and_the_rest_is_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr("toolkit.scratch_folder._PATIENCE_S", 0.1)
    context = scratch_filesystems(["tmpfs", "ext4"], 64 * _MIB, root=root)
    made = context.__enter__()
    with subprocess.Popen(["sleep", "60"], cwd=made.filesystems["ext4"].point) as holder:
        try:
            with pytest.warns(ToolkitWarning, match=rf"ext4 was unmounted, but is in use by sleep \({holder.pid}\)"):
                context.__exit__(None, None, None)
            assert list(root.iterdir()) == []
        finally:
            holder.kill()
    # The kernel lets the loop device go with its last user.
    assert not [trace for trace in traces(root) if trace.startswith("loop")]


@pytest.mark.root
def test_what_a_signal_made_us_forget_to_close_holds_nothing_up(root: Path) -> None:
    require_root()
    with contextlib.ExitStack() as forgotten, warnings.catch_warnings():
        warnings.simplefilter("error")
        with scratch_filesystems(["tmpfs", "ext4"], 64 * _MIB, root=root) as made, (root / "kept").open("w") as kept:
            descriptors = [os.open(made.filesystems["ext4"].source, os.O_RDONLY)]
            for found in made.filesystems.values():
                descriptors.append(os.open(found.point, os.O_RDONLY))
                descriptors.append(os.open(found.point / "file", os.O_CREAT | os.O_WRONLY))
            for descriptor in descriptors:
                forgotten.callback(os.close, descriptor)
        kept_there = Path(kept.name)
        assert traces(root) == [f"file: {kept_there}"]
        assert {os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in descriptors} == {os.devnull}
        assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)


@pytest.mark.root
def test_only_what_is_on_our_own_file_system_is_let_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr("toolkit.scratch_folder._PATIENCE_S", 0.1)
    context = scratch_filesystems(["tmpfs"], 4 * _MIB, root=root)
    point = context.__enter__().filesystems["tmpfs"].point
    with (root / "kept").open("w") as kept, subprocess.Popen(["sleep", "60"], cwd=point) as holder:
        try:
            with pytest.warns(ToolkitWarning, match="in use by sleep"):
                context.__exit__(None, None, None)
            kept.write("x")
        finally:
            holder.kill()
    assert (root / "kept").read_text() == "x"


@pytest.mark.root
@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_leaves_nothing(root: Path, moment: str, number: int) -> None:
    require_root()
    assert _strike(moment, number, root) in (-number, 128 + number)
    assert traces(root) == []


@pytest.mark.root
@pytest.mark.parametrize("moment", _MOMENTS)
def test_after_a_kill_at_any_moment_one_clean_start_leaves_nothing(root: Path, moment: str) -> None:
    require_root()
    assert _strike(moment, signal.SIGKILL, root) == -signal.SIGKILL
    with scratch_filesystems(["tmpfs"], 4 * _MIB, root=root) as made:
        folder = made.filesystems["tmpfs"].point.parent
        assert sorted(path.name for path in root.iterdir()) == [folder.name, f"{folder.name}.owner"]
    assert traces(root) == []


@pytest.mark.root
def test_a_foreign_loop_device_and_mount_beside_ours_are_not_touched(root: Path, tmp_path: Path) -> None:
    require_root()
    image = root / "virt-toolkit-00000000000000de.image"
    image.write_bytes(bytes(_MIB))
    point = root / "virt-toolkit-00000000000000df"
    point.mkdir()
    mounts.mount("tmpfs", point, "tmpfs")
    handles = contextlib.ExitStack()
    loop = mounts.attach(image, handles)
    try:
        _strike("body", signal.SIGKILL, root)
        with scratch_filesystems(["ext4"], 64 * _MIB, root=root):
            pass
        assert mounts.attached_below(root) == [loop.path]
        assert [found.point for found in mounts.mounts_below(root)] == [point]
        assert sorted(root.iterdir()) == [image, point]
    finally:
        handles.close()
        mounts.unmount(point)


@pytest.mark.root
def test_two_at_once_do_not_disturb_each_other(root: Path) -> None:
    require_root()
    with scratch_filesystems(["ext4"], 64 * _MIB, root=root) as first:
        (first.filesystems["ext4"].point / "file").write_text("x")
        with scratch_filesystems(["ext4"], 64 * _MIB, root=root) as second:
            assert second.filesystems["ext4"].source != first.filesystems["ext4"].source
        first.filesystems["ext4"].remount()
        assert (first.filesystems["ext4"].point / "file").read_text() == "x"
    assert traces(root) == []


@pytest.mark.root
def test_too_little_space_is_found_before_anything_is_written(root: Path) -> None:
    require_root()
    mounts.mount("tmpfs", root, "tmpfs", ["size=400m"])
    try:
        with pytest.raises(
            ScratchError, match=r"1 images of 300 MiB need 300 MiB .* 400 MiB are free: 156 MiB are missing"
        ) as refused:
            scratch_filesystems(["xfs"], root=root, size_bytes=_MIB).__enter__()
        assert "TOOLKIT_SCRATCH" in refused.value.remedy
        assert os.statvfs(root).f_bavail * os.statvfs(root).f_frsize == 400 * _MIB
    finally:
        mounts.unmount(root)


@pytest.mark.root
def test_what_does_not_fit_memory_is_left_out_and_the_rest_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr(scratch, "memory_available_bytes", lambda: 300 * _MIB)
    with scratch_filesystems(["tmpfs", "ext4"], 64 * _MIB, root=root) as made:
        assert list(made.filesystems) == ["ext4"]
        assert [(left.capability, left.remedy) for left in made.left_out] == [
            ("allocation on tmpfs", "Allocate smaller files (size), or free memory.")
        ]
        assert "64 MiB of memory" in made.left_out[0].detail
        assert made.left_out[0].row()["available"] is False


@pytest.mark.root
def test_a_missing_mkfs_is_left_out_with_its_remedy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    found = scratch.can_make
    answers = {"xfs": type(found("xfs"))(False, "mkfs.xfs is not installed", "Run as root: apt install xfsprogs")}
    monkeypatch.setattr(scratch, "can_make", lambda name: answers.get(name) or found(name))
    with scratch_filesystems(["xfs", "tmpfs"], 4 * _MIB, root=root) as made:
        assert list(made.filesystems) == ["tmpfs"]
        assert made.left_out[0].remedy == "Run as root: apt install xfsprogs"


@pytest.mark.root
def test_a_failing_mkfs_is_left_out_with_what_it_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    import dataclasses

    broken = dataclasses.replace(FILESYSTEMS["ext4"], mkfs_options=("-O", "no-such-feature"))
    monkeypatch.setitem(FILESYSTEMS, "ext4", broken)
    with scratch_filesystems(["ext4", "tmpfs"], 64 * _MIB, root=root) as made:
        assert list(made.filesystems) == ["tmpfs"]
        assert "no-such-feature" in made.left_out[0].detail
    with pytest.raises(UnavailableError, match="no-such-feature"):
        scratch_filesystems(["ext4"], 64 * _MIB, root=root).__enter__()
    assert traces(root) == []


@pytest.mark.root
def test_a_backing_without_direct_io_is_said(root: Path) -> None:
    require_root()
    # A file system on the image of a file system: ext4 over a loop device over tmpfs, which older kernels cannot do direct I/O on.
    mounts.mount("tmpfs", root, "tmpfs", ["size=1g"])
    try:
        with scratch_filesystems(["ext4"], 64 * _MIB, root=root) as made:
            notes = [left.capability for left in made.left_out]
            assert notes == ([] if made.filesystems["ext4"].direct_io else ["loop devices with direct I/O"])
    finally:
        mounts.unmount(root)


def test_an_unknown_file_system_is_refused_before_anything_is_made(root: Path) -> None:
    with pytest.raises(UsageError, match="no file system 'ntfs'"):
        scratch_filesystems(["ext4", "ntfs"], root=root).__enter__()
    assert list(root.iterdir()) == []
