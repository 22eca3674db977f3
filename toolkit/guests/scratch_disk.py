"""Files allocated in a guest: in a folder that its administrator named, or on a disk that was made to be overwritten.

Such a disk says twice that it is one: by the serial number that its host gave the device, and by a label in its last MiB, which
:func:`make_image` writes and no file system made here reaches. Nothing else is ever formatted. It is mounted in a mount namespace
of this process alone, so that nobody in the guest sees it, and it is gone with the process however that ends.
Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit import mounts
from toolkit.errors import UnavailableError
from toolkit.filesystems import FILESYSTEMS, FileSystem, find_program
from toolkit.guests.wire import DISK
from toolkit.sensors.one_file import measured_in

__all__ = ["LABEL", "SERIAL", "find", "make_image", "measured"]

#: The device's serial number, of which virtio-blk carries twenty bytes.
SERIAL = "virt-toolkit-scratch"
#: What the last MiB begins with.
LABEL = b"virt-toolkit: a scratch disk, made to be overwritten\n"

_MIB = 1024 * 1024
_SMALLEST_MIB = 64

# Every system has one of them, and none of them is where this program itself, or one that it starts, may lie.
_POINTS = (Path("/mnt"), Path("/media"), Path("/srv"))

# include/uapi/linux/sched.h, include/uapi/linux/mount.h
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def make_image(path: Path, size_bytes: int) -> None:
    """Make a scratch disk's image: a sparse file of that size, private to its user, with the label.

    Parameters
    ----------
    path : Path
        There must be nothing yet.
    size_bytes : int
        In whole MiB, 64 at least.

    Raises
    ------
    ValueError
        If the size is none.
    """
    if size_bytes % _MIB or size_bytes < _SMALLEST_MIB * _MIB:
        raise ValueError(f"{size_bytes} bytes are no size of a scratch disk")
    with os.fdopen(os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as image:
        image.truncate(size_bytes)
        image.seek(size_bytes - _MIB)
        image.write(LABEL)


def find(root: Path = Path("/")) -> tuple[Path, int]:
    """The scratch disk of this machine: the device and the bytes of it that may be overwritten.

    Raises
    ------
    UnavailableError
        If there is none.
    """
    for named in sorted((root / "sys/block").glob("vd*/serial")):
        if named.read_bytes().strip(b"\0\n") != SERIAL.encode():
            continue
        device = root / "dev" / named.parts[-2]
        with device.open("rb") as disk:
            size = disk.seek(0, os.SEEK_END) // _MIB * _MIB - _MIB
            if size < 0:
                continue
            disk.seek(size)
            if disk.read(len(LABEL)) == LABEL:
                return device, size
    raise UnavailableError(
        f"this guest has no scratch disk: no virtio-blk disk with the serial number {SERIAL} and the toolkit's label",
        "Give it one (a lab guest has one with --disk), or name a directory.",
    )


def measured(place: str, method: str, size_bytes: int, repeats: int, position: int) -> Iterator[dict[str, Any]]:
    """Allocate fresh files at a place, one after the other, each mapped and removed before the next.

    Parameters
    ----------
    place : str
        A folder, or ``disk:`` and a file system's name: one is made anew, and mounted anew before each file.
    method, size_bytes, repeats : str, int, int
        Of each file; how many.
    position : int
        The first one's, in the experiment's order.

    Yields
    ------
    dict
        A row of ``allocations`` each, without the common columns.

    Raises
    ------
    UnavailableError
        If the place cannot be had.
    OSError
        If a file cannot be made, or the kernel refuses to mount.
    """
    if place.startswith(DISK):
        yield from _on_disk(place[len(DISK) :], method, size_bytes, repeats, position)
        return
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mounted = mounts.mount_of(Path(place))
        row = {
            "filesystem": "unknown" if mounted is None else mounted.kernel_type,
            "mkfs_options": None,
            "mount_options": None if mounted is None else mounted.options,
        }
        for repeat in range(repeats):
            yield {**row, **measured_in(folder, method, size_bytes), "repeat": repeat, "position": position + repeat}
    finally:
        os.close(folder)


def _on_disk(name: str, method: str, size_bytes: int, repeats: int, position: int) -> Iterator[dict[str, Any]]:
    made = FILESYSTEMS.get(name)
    if made is None or made.mkfs is None:
        raise UnavailableError(f"no file system {name!r} can be made on a disk", "Name one such as ext4 or xfs.")
    device, room_bytes = find()
    if room_bytes < made.smallest_bytes:
        raise UnavailableError(
            f"the scratch disk has {room_bytes // _MIB} MiB, and {name} needs {made.smallest_bytes // _MIB}",
            "Give the guest a bigger one.",
        )
    _check_free(device)
    point = _private_point()
    _mkfs(made, device, room_bytes)
    for repeat in range(repeats):
        mounts.mount(str(device), point, made.kernel_type, made.mount_options)
        try:
            mounts.drop_caches()
            mounted = mounts.mount_of(point)
            folder = os.open(str(point), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                row = measured_in(folder, method, size_bytes)
            finally:
                os.close(folder)
        finally:
            mounts.unmount(point)
        yield {
            **row,
            "filesystem": name,
            "mkfs_options": " ".join(made.mkfs_options),
            "mount_options": None if mounted is None else mounted.options,
            "repeat": repeat,
            "position": position + repeat,
        }


def _private_point() -> Path:
    """A folder to mount on: what is mounted there nobody else sees, and the kernel takes it down with this process.

    No folder is made for it, since a process that is killed would leave that behind.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None):
        raise OSError(ctypes.get_errno(), f"a mount namespace cannot be had: {os.strerror(ctypes.get_errno())}")
    for folder in _POINTS:
        if folder.is_dir():
            return folder.resolve()
    raise UnavailableError("this guest has no folder to mount on: {}".format(", ".join(map(str, _POINTS))), "Run: mkdir /mnt")


def _check_free(device: Path) -> None:
    """See that nobody uses the device: an exclusive open fails where it is mounted, or part of something else."""
    try:
        os.close(os.open(str(device), os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise UnavailableError(f"the scratch disk {device} is in use: {error.strerror}", "Free it first.") from error


def _mkfs(made: FileSystem, device: Path, room_bytes: int) -> None:
    """Make a file system on the room before the label."""
    program = find_program(str(made.mkfs))
    if program is None:
        raise UnavailableError(f"{made.mkfs} is not installed in this guest", f"Install {made.package}.")
    of_size = {
        "mkfs.xfs": ["-d", f"size={room_bytes}", str(device)],
        "mkfs.btrfs": ["--byte-count", str(room_bytes), str(device)],
    }
    place = of_size.get(str(made.mkfs), [str(device), f"{room_bytes // 1024}k"])
    done = subprocess.run([program, *made.mkfs_options, *place], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise UnavailableError(f"{made.mkfs} failed on the scratch disk: {said}", "Look at the guest's kernel log.")
