"""The file systems that can be made for a measurement: how each is made and mounted, and whether this machine can.

A table and the questions asked of it; nothing is made or mounted here. That is the work of :mod:`toolkit.scratch`, and what the
table says about this machine is shown by :mod:`toolkit.doctor`. Both stand on this file and not on each other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from toolkit.errors import UsageError

__all__ = ["FILESYSTEMS", "FileSystem", "Support", "can_make", "filesystem", "find_program", "loop_devices", "may_mount"]

_MIB = 1024 * 1024

# CAP_SYS_ADMIN of include/uapi/linux/capability.h: what mount(2) asks for, and what a root inside a container may lack.
_CAP_SYS_ADMIN = 21

# Where the mkfs programs live, which an ordinary user's PATH leaves out on Debian.
_SYSTEM_PROGRAMS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# No file system trims the image under it, neither when it is made nor while it is mounted: the backing stays fully allocated, or
# each file system would be measured on another one. 4 KiB blocks are said because mke2fs takes 1 KiB on small devices. The inode
# tables are written at once, or a kernel thread would write them in the middle of the first measurements.
_MKE2FS = ("-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0")


@dataclass(frozen=True)
class FileSystem:
    """One file system: how to make and mount it.

    Attributes
    ----------
    name : str
        The toolkit's name for it, as in the column ``filesystem``.
    kernel_type : str
        The type given to mount(2) and listed in /proc/filesystems. ext2 and ext3 may be served by the kernel's ext4 driver, which
        then registers those names too; they are never mounted as ``ext4``, which would switch delayed allocation on.
    mkfs : str or None
        The program that makes it; None where nothing has to be made (tmpfs).
    mkfs_options : tuple of str
        Its options: quiet, never asking, no trim, no initialisation left for later.
    package : str or None
        The Debian package with that program.
    mount_options : tuple of str
        Options to mount it with, so that it does not trim its backing.
    smallest_bytes : int
        The smallest device that its mkfs accepts and that still leaves room to measure on.
    """

    name: str
    kernel_type: str
    mkfs: str | None = None
    mkfs_options: tuple[str, ...] = ()
    package: str | None = None
    mount_options: tuple[str, ...] = ()
    smallest_bytes: int = 64 * _MIB

    @property
    def needs_loop(self) -> bool:
        """Whether it lives on a block device, so that a loop device is needed."""
        return self.mkfs is not None


class Support(NamedTuple):
    """Whether this machine can do a thing: ``detail`` says what was found, ``remedy`` what to do (None where nothing can be)."""

    available: bool
    detail: str
    remedy: str | None = None


#: Every file system that can be made, by name, in the order in which they are shown.
FILESYSTEMS: dict[str, FileSystem] = {
    made.name: made
    for made in (
        FileSystem("ext2", "ext2", "mkfs.ext2", _MKE2FS, "e2fsprogs"),
        FileSystem("ext3", "ext3", "mkfs.ext3", _MKE2FS, "e2fsprogs"),
        FileSystem("ext4", "ext4", "mkfs.ext4", _MKE2FS, "e2fsprogs"),
        # mke2fs refuses 64bit without extents; nothing else differs from ext4.
        FileSystem("ext4-noextents", "ext4", "mkfs.ext4", (*_MKE2FS, "-O", "^extent,^64bit"), "e2fsprogs"),
        # mkfs.xfs refuses less than 300 MiB since version 5.19.
        FileSystem("xfs", "xfs", "mkfs.xfs", ("-q", "-f", "-K"), "xfsprogs", smallest_bytes=300 * _MIB),
        # mkfs.btrfs refuses less than 109 MiB; below twice that the metadata, kept twice, leaves little. From Linux 6.2 a mounted
        # btrfs trims by itself.
        FileSystem("btrfs", "btrfs", "mkfs.btrfs", ("-q", "-f", "-K"), "btrfs-progs", ("nodiscard",), 256 * _MIB),
        FileSystem("tmpfs", "tmpfs", smallest_bytes=_MIB),
    )
}


def filesystem(name: str) -> FileSystem:
    """The file system of that name.

    Raises
    ------
    UsageError
        If there is none; the message lists those there are.

    Examples
    --------
    >>> filesystem("xfs").mkfs
    'mkfs.xfs'
    """
    try:
        return FILESYSTEMS[name]
    except KeyError:
        raise UsageError(f"there is no file system {name!r}", f"Those that can be made are: {', '.join(FILESYSTEMS)}.") from None


def find_program(name: str) -> str | None:
    """The path of a program, also where an ordinary user's PATH leaves the system's programs out; None if it is missing."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PROGRAMS]))


def can_make(name: str, root: Path = Path("/")) -> Support:
    """Whether this machine can make and mount a file system: kernel, mkfs, the right to mount, loop devices.

    Parameters
    ----------
    name : str
        One of ``FILESYSTEMS``.
    root : Path
        Where proc, dev and lib are looked for.

    Returns
    -------
    Support
        Every obstacle is named, with every remedy, not just the first.

    Raises
    ------
    UsageError
        If there is no such file system.
    """
    made = filesystem(name)
    needed = [_in_kernel(made, root), _mkfs(made), may_mount(root)]
    if made.needs_loop:
        needed.append(loop_devices(root))
    missing = [found for found in needed if not found.available]
    if not missing:
        return Support(True, "; ".join(found.detail for found in needed[:2] if found.detail))
    remedies = " ".join(found.remedy for found in missing if found.remedy)
    return Support(False, "; ".join(found.detail for found in missing), remedies or None)


def may_mount(root: Path = Path("/")) -> Support:
    """Whether this process may mount: effective CAP_SYS_ADMIN, which a root inside a container may lack."""
    for line in _lines(root / "proc/self/status"):
        key, _, value = line.partition(":")
        if key == "CapEff" and int(value, 16) >> _CAP_SYS_ADMIN & 1:
            return Support(True, "may mount")
    if os.geteuid() == 0:
        return Support(False, "root without CAP_SYS_ADMIN: may not mount", "Run outside the container, or give it CAP_SYS_ADMIN.")
    return Support(
        False, "an ordinary user may not mount", "Run as root, or measure in a folder of yours: toolkit allocate --directory DIR."
    )


def loop_devices(root: Path = Path("/")) -> Support:
    """Whether image files can be attached as block devices."""
    if (root / "dev/loop-control").exists():
        return Support(True, "/dev/loop-control is there")
    if _module("loop", root):
        return Support(False, "the loop driver is not loaded", "Run as root: modprobe loop")
    return Support(
        False,
        "no /dev/loop-control",
        "Boot a kernel with CONFIG_BLK_DEV_LOOP; in a container, pass the loop devices in.",
    )


def _in_kernel(made: FileSystem, root: Path) -> Support:
    kernel_type = made.kernel_type
    if any(line.split()[-1:] == [kernel_type] for line in _lines(root / "proc/filesystems")):
        return Support(True, f"{kernel_type} in the kernel")
    module = _module(f"fs-{kernel_type}", root)
    if module:
        return Support(True, f"{kernel_type} as the module {module}, loaded when it is first mounted")
    return Support(
        False,
        f"this kernel has no {kernel_type}",
        f"Boot a kernel that has {kernel_type}; Debian's own has it (apt install linux-image-amd64, or your architecture's).",
    )


def _mkfs(made: FileSystem) -> Support:
    if made.mkfs is None:
        return Support(True, "")
    path = find_program(made.mkfs)
    if path:
        return Support(True, path)
    return Support(False, f"{made.mkfs} is not installed", f"Run as root: apt install {made.package}")


def _module(alias: str, root: Path) -> str | None:
    """The module that the running kernel would load for an alias; None if there is none, or the kernel loads no modules."""
    if not (root / "proc/modules").exists() or _lines(root / "proc/sys/kernel/modules_disabled") == ["1"]:
        return None
    release = "".join(_lines(root / "proc/sys/kernel/osrelease"))
    folder = root / "lib/modules" / release
    for line in _lines(folder / "modules.alias"):
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and words[1] == alias:
            return words[2]
    wanted = alias.partition("fs-")[2] or alias
    return next((name for name in _module_names(folder) if name == wanted), None)


def _module_names(folder: Path) -> Iterator[str]:
    for line in _lines(folder / "modules.dep"):
        yield line.partition(":")[0].rpartition("/")[2].partition(".ko")[0]


def _lines(path: Path) -> list[str]:
    """The lines of a small kernel file; none where the machine does not have it or shows it to no one."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
