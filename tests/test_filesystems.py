"""The file systems as a table, and what a machine lacks to make them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.needs import need, require_root, require_tool
from toolkit import filesystems
from toolkit.errors import UsageError
from toolkit.filesystems import FILESYSTEMS, can_make, filesystem, find_program, loop_devices, may_mount

_ROOTS_RIGHTS = "Name:\tpython\nCapEff:\t000001ffffffffff\n"
_NO_RIGHTS = "Name:\tpython\nCapEff:\t0000000000000000\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine that has ext4 and tmpfs in its kernel, xfs as a module, no btrfs, and whose user may mount."""
    for file, text in {
        "proc/filesystems": "nodev\ttmpfs\n\text3\n\text2\n\text4\n\tfuseblk\n",
        "proc/modules": "virtio_net 1 0 - Live 0x0\n",
        "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "proc/sys/kernel/modules_disabled": "0\n",
        "proc/self/status": _ROOTS_RIGHTS,
        "lib/modules/6.1.0-18-amd64/modules.alias": "alias fs-xfs xfs\nalias fs-9p 9p\n",
        "lib/modules/6.1.0-18-amd64/modules.dep": "kernel/fs/xfs/xfs.ko: kernel/lib/crc.ko\nkernel/drivers/block/loop.ko.xz:\n",
        "dev/loop-control": "",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path on which all mkfs programs are, and nothing else."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for made in FILESYSTEMS.values():
        if made.mkfs:
            (folder / made.mkfs).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(filesystems, "_SYSTEM_PROGRAMS", ())
    return folder


def test_the_table_has_the_names_of_the_contract_in_their_order() -> None:
    assert list(FILESYSTEMS) == ["ext2", "ext3", "ext4", "ext4-noextents", "xfs", "btrfs", "tmpfs"]
    assert all(made.name == name for name, made in FILESYSTEMS.items())


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="zfs") as caught:
        filesystem("zfs")
    assert "ext4-noextents" in caught.value.remedy


@pytest.mark.usefixtures("programs")
def test_what_the_kernel_has_can_be_made(machine: Path) -> None:
    for name in ("ext2", "ext3", "ext4", "ext4-noextents", "tmpfs"):
        assert can_make(name, machine).available
        assert can_make(name, machine).remedy is None


@pytest.mark.usefixtures("programs")
def test_what_the_kernel_loads_at_the_first_mount_can_be_made(machine: Path) -> None:
    assert can_make("xfs", machine).available
    assert "module" in can_make("xfs", machine).detail


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("why", ["disabled", "no modules", "other release"])
def test_a_module_that_cannot_be_loaded_is_not_there(machine: Path, why: str) -> None:
    if why == "disabled":
        (machine / "proc/sys/kernel/modules_disabled").write_text("1\n")
    elif why == "no modules":
        (machine / "proc/modules").unlink()
    else:
        (machine / "proc/sys/kernel/osrelease").write_text("6.1.0-19-amd64\n")
    assert not can_make("xfs", machine).available


@pytest.mark.usefixtures("programs")
def test_what_the_kernel_lacks_is_named_with_its_remedy(machine: Path) -> None:
    found = can_make("btrfs", machine)
    assert not found.available
    assert "btrfs" in found.detail
    assert "linux-image" in (found.remedy or "")


def test_a_missing_program_is_named_with_its_package(machine: Path, programs: Path) -> None:
    (programs / "mkfs.xfs").unlink()
    found = can_make("xfs", machine)
    assert (found.available, found.detail, found.remedy) == (
        False,
        "mkfs.xfs is not installed",
        "Run as root: apt install xfsprogs",
    )


def test_every_obstacle_is_named_at_once(machine: Path, programs: Path) -> None:
    (programs / "mkfs.btrfs").unlink()
    (machine / "proc/self/status").write_text(_NO_RIGHTS)
    (machine / "dev/loop-control").unlink()
    found = can_make("btrfs", machine)
    for part in ("no btrfs", "mkfs.btrfs", "may not mount", "loop"):
        assert part in found.detail
    for part in ("linux-image", "btrfs-progs", "modprobe loop"):
        assert part in (found.remedy or "")


@pytest.mark.usefixtures("programs")
def test_a_file_system_in_memory_needs_no_loop_device(machine: Path) -> None:
    (machine / "dev/loop-control").unlink()
    assert can_make("tmpfs", machine).available
    assert not can_make("ext4", machine).available


def test_the_right_to_mount_is_a_capability_and_not_a_user(machine: Path) -> None:
    assert may_mount(machine).available
    (machine / "proc/self/status").write_text(_NO_RIGHTS)
    found = may_mount(machine)
    assert not found.available
    assert found.remedy


def test_a_loop_driver_that_is_not_loaded_is_a_module_to_load(machine: Path) -> None:
    assert loop_devices(machine).available
    (machine / "dev/loop-control").unlink()
    assert loop_devices(machine).remedy == "Run as root: modprobe loop"
    (machine / "lib/modules/6.1.0-18-amd64/modules.dep").write_text("")
    assert "CONFIG_BLK_DEV_LOOP" in (loop_devices(machine).remedy or "")


def test_programs_are_found_where_an_ordinary_users_path_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    require_tool("mke2fs")
    monkeypatch.setenv("PATH", "/usr/bin")
    assert find_program("mke2fs")
    assert find_program("mkfs.no-such-file-system") is None


@pytest.mark.root
@pytest.mark.parametrize("name", list(FILESYSTEMS))
def test_each_is_made_and_mounted_as_the_table_says(name: str, tmp_path: Path) -> None:
    require_root()
    found = can_make(name)
    need(found.available, f"{name}: {found.detail}")
    made = filesystem(name)
    image, point = tmp_path / "image", tmp_path / "point"
    point.mkdir()
    options = list(made.mount_options)
    source = "tmpfs"
    if made.mkfs:
        image.touch()
        os.truncate(image, made.smallest_bytes)
        said = subprocess.run(
            [find_program(made.mkfs) or "", *made.mkfs_options, image], capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        source = str(image)
        options.append("loop")
    mount = ["mount", "-t", made.kernel_type, *(["-o", ",".join(options)] if options else []), source, str(point)]
    subprocess.run(mount, check=True)
    try:
        (mounted,) = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == str(point))
        assert mounted[2] == made.kernel_type
        assert "discard" not in mounted[3].replace("nodiscard", "").split(",")
        if name != "tmpfs":
            assert os.statvfs(point).f_bsize == 4096
        (point / "file").write_bytes(b"x" * 100_000)
    finally:
        subprocess.run(["umount", point], check=True)
