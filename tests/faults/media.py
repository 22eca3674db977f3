"""Real media that fail when they are told to, and are gone after the test whatever became of them.

A disk's errors (EIO) are made where they arise, below the block layer, without device-mapper, which many kernels lack: an image
that was made immutable (chattr +i) after it was attached refuses every write of its loop device, which the kernel passes up as it
does a disk's (BLK_STS_IOERR); one that was cut off short refuses reads. A file system's own end (after such an error, say) is the
ioctl by which ext4 and xfs are told of it. EDQUOT comes from quota groups of btrfs, the only quota that needs nothing of a kernel
that has the file system.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.needs import need, require_root, require_tool

MIB = 1024 * 1024

# include/uapi/linux/fs.h: FS_IOC_GETFLAGS and FS_IOC_SETFLAGS on 64-bit machines, FS_IMMUTABLE_FL, BLKROSET.
_GETFLAGS, _SETFLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10
_BLKROSET = 0x125D
# EXT4_IOC_SHUTDOWN of include/uapi/linux/ext4.h, XFS_IOC_GOINGDOWN of libxfs/xfs_fs.h: _IOR('X', 125, __u32); and with 2 the log
# is not written out before.
_SHUTDOWN, _NOLOGFLUSH = 0x8004587D, 2


@dataclasses.dataclass
class Disk:
    """A file system of its own, on a loop device."""

    kind: str
    image: Path
    point: Path

    @property
    def device(self) -> str:
        """Its loop device's name, without /dev."""
        return next(source for source, point in mounted() if point == str(self.point.resolve())).rpartition("/")[2]


@contextlib.contextmanager
def disk(folder: Path, kind: str, *, size_bytes: int = 420 * MIB, mkfs: tuple[str, ...] = (), options: str = "") -> Iterator[Disk]:
    """A file system in a folder: the image is sparse, and what is mounted is unmounted at the end, in use or not."""
    require_root()
    image, point = folder / "image", folder / "disk"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run(require_tool(f"mkfs.{kind}"), "-q", *mkfs, str(image))
    point.mkdir()
    made = Disk(kind, image, point)
    mount(made, options)
    try:
        yield made
    finally:
        writable(image)
        while any(where == str(point.resolve()) for _, where in mounted()):
            run(require_tool("umount"), "--lazy", str(point))
        image.unlink()


def mount(made: Disk, options: str = "") -> None:
    """Mount it (again)."""
    words = ["-o", "loop" + (f",{options}" if options else "")]
    run(require_tool("mount"), *words, str(made.image), str(made.point))


def run(*words: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(words, check=True, capture_output=True)


def mounted() -> list[tuple[str, str]]:
    """Source and place of every mount, loop devices by their own names."""
    return [(line.split()[0], line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]


def refuse_writes(image: Path) -> None:
    """Have every write to the image fail, and so every one to the loop device on it."""
    _set_immutable(image, on=True)


def writable(image: Path) -> None:
    """Let it be written to again."""
    if image.exists():
        _set_immutable(image, on=False)


def _set_immutable(image: Path, *, on: bool) -> None:
    with image.open("rb") as file:
        flags = array.array("l", [0])
        try:
            fcntl.ioctl(file, _GETFLAGS, flags, True)
        except OSError as error:
            need(not on, f"images on a file system with immutable files: {error}")
            return
        flags[0] = flags[0] | _IMMUTABLE if on else flags[0] & ~_IMMUTABLE
        fcntl.ioctl(file, _SETFLAGS, flags)


def set_read_only(device: Path, *, on: bool) -> None:
    """Turn a block device's own switch, as on an SD card."""
    with device.open("rb") as handle:
        fcntl.ioctl(handle, _BLKROSET, struct.pack("i", on))


def is_read_only(device: Path) -> bool:
    """How the switch stands (BLKROGET of include/uapi/linux/fs.h)."""
    answer = bytearray(4)
    with device.open("rb") as handle:
        fcntl.ioctl(handle, 0x125E, answer, True)
    return bool(struct.unpack("i", answer)[0])


def shut_down(point: Path) -> None:
    """Have an ext4 or xfs shut itself down, as it does when its journal cannot be written: from now on all is EIO."""
    held = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(held, _SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
    finally:
        os.close(held)


def fail_read_only(made: Disk) -> None:
    """Have an ext4 that was mounted with errors=remount-ro find an error, and so turn read-only under its users."""
    trigger = Path("/sys/fs/ext4") / made.device / "trigger_fs_error"
    need(trigger.exists(), "an ext4 that can be told to find an error")
    trigger.write_text("a test's\n")


@contextlib.contextmanager
def full(folder: Path, leave_bytes: int = 0) -> Iterator[None]:
    """Have somebody else's file take all the room that there is."""
    other = folder / "somebody-elses"
    found = os.statvfs(folder)
    with other.open("wb") as file:
        size = found.f_bavail * found.f_frsize - leave_bytes
        while size > 4096:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:
                size //= 2
        os.fsync(file.fileno())
    try:
        yield
    finally:
        other.unlink()


def devices_on(folder: Path) -> list[str]:
    """Loop devices whose image lies in a folder, unlinked ones too."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            text = os.fsdecode(backing.read_bytes()).strip()
            found += [text] if text.startswith(f"{folder.resolve()}/") else []
    return found
