"""The kernel's mounts and loop devices: what is mounted where, mounting, unmounting, attaching image files, dropping caches.

Thin calls of the kernel, without programs: a mount(8) that is under way while its caller is killed would mount after everything was
cleaned up; a system call ends with its process. Which file systems are made, and who may remove what, is said elsewhere
(:mod:`toolkit.filesystems`, :mod:`toolkit.scratch`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "LoopDevice",
    "Mount",
    "attach",
    "attached_below",
    "detach",
    "drop_caches",
    "holders",
    "let_go",
    "mount",
    "mount_of",
    "mounts_below",
    "sync_filesystem",
    "unmount",
]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]

# MS_NOSUID and MS_NODEV of include/uapi/linux/mount.h: nothing on a scratch file system is a program's or a device's.
_MS_NOSUID_NODEV = 0x2 | 0x4
# include/linux/fs.h
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8

# include/uapi/linux/loop.h
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
# include/uapi/linux/fs.h: _IO(0x12, 93)
_BLKROSET = 0x125D
# struct loop_info64: lo_device, lo_inode, lo_rdevice, lo_offset, lo_sizelimit, lo_number, lo_encrypt_type, lo_encrypt_key_size,
# lo_flags, lo_file_name[64], lo_crypt_name[64], lo_encrypt_key[32], lo_init[2].
_LOOP_INFO = struct.Struct("=5Q4I64s64s32s2Q")
# struct loop_config: fd, block_size, struct loop_info64, eight reserved.
_LOOP_CONFIG = struct.Struct(f"=II{_LOOP_INFO.size}s8Q")

_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo: where, the root within the file system, the type, its source, and all its options."""

    point: Path
    root: str
    kernel_type: str
    source: str
    options: str


class LoopDevice(NamedTuple):
    """An image file as a block device, and whether it goes past the page cache of the image's own file system."""

    path: Path
    direct_io: bool


def mounts_below(folder: Path) -> list[Mount]:
    """What is mounted at a folder or below it, the last mounted first."""
    return [found for found in reversed(_mounts()) if found.point == folder or folder in found.point.parents]


def mount_of(path: Path) -> Mount | None:
    """The mount that an existing path lies on: the deepest mount point above it, and of several at one point the last."""
    real = path.resolve()
    above = [found for found in _mounts() if found.point == real or found.point in real.parents]
    return max(reversed(above), key=lambda found: len(found.point.parts), default=None)


def _mounts() -> list[Mount]:
    found = []
    # Fields: id, parent, device, root, mount point, options, optional fields up to "-", type, source, super options (proc(5)).
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        fields, (kernel_type, source, super_options) = before.split(b" "), after.split(b" ")[:3]
        options = fields[5].split(b",") + super_options.split(b",")
        words = [os.fsdecode(_unescaped(word)) for word in (fields[4], fields[3], kernel_type, source)]
        together = b",".join(dict.fromkeys(options))
        found.append(Mount(Path(words[0]), words[1], words[2], words[3], os.fsdecode(_unescaped(together))))
    return found


def _unescaped(word: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), word)


def mount(source: str, point: Path, kernel_type: str, options: Sequence[str] = ()) -> None:
    """Mount a file system, without set-uid programs and devices.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    data = ",".join(options)
    arguments = (os.fsencode(source), os.fsencode(point), kernel_type.encode(), _MS_NOSUID_NODEV, data.encode())
    if _libc.mount(*arguments) != 0:
        _raise(point)


def unmount(point: Path, *, detach_busy: bool = False) -> None:
    """Unmount what was mounted last at a point; with ``detach_busy`` also while it is in use (its users then keep it alive).

    Raises
    ------
    OSError
        EBUSY while someone uses it, EINVAL where nothing is mounted.
    """
    if _libc.umount2(os.fsencode(point), _UMOUNT_NOFOLLOW | (_MNT_DETACH if detach_busy else 0)) != 0:
        _raise(point)


def sync_filesystem(fd: int) -> None:
    """Write out all of the file system that an open file is on (syncfs)."""
    if _libc.syncfs(fd) != 0:
        _raise(fd)


def drop_caches() -> None:
    """Drop clean pages, inodes and dentries of the whole machine; needs root. What is dirty must have been written before."""
    # Documentation/admin-guide/sysctl/vm.rst: 1 is the page cache, 2 dentries and inodes, 3 both.
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def attach(image: Path, handles: contextlib.ExitStack) -> LoopDevice:
    """Attach an image file to a free loop device, past the page cache of its backing where that can be (direct I/O).

    It lasts while its handle, put on ``handles``, is open or while it is mounted; then the kernel detaches it.

    Raises
    ------
    OSError
        If there is no loop device to be had, or the kernel is older than 5.8 (LOOP_CONFIGURE).
    """
    with Path("/dev/loop-control").open("r+b", buffering=0) as control, image.open("r+b", buffering=0) as backing:
        flags = _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO
        info = _LOOP_INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, os.fsencode(image)[:63], b"", b"", 0, 0)
        config = _LOOP_CONFIG.pack(backing.fileno(), 0, info, *[0] * 8)
        while True:
            path = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
            # Before it is attached: an interruption between here and there finds it closed, and so detached.
            handle = handles.enter_context(path.open("r+b", buffering=0))
            try:
                fcntl.ioctl(handle, _LOOP_CONFIGURE, config)
            except OSError as error:
                handle.close()
                # Somebody else took it between the two calls.
                if error.errno != errno.EBUSY:
                    raise
            else:
                # A device that was once set read-only stays so, whoever attaches what to it.
                fcntl.ioctl(handle, _BLKROSET, struct.pack("i", 0))
                direct = _sysfs(path) / "loop/dio"
                return LoopDevice(path, direct.read_text(encoding="ascii").strip() == "1")


def attached_below(folder: Path) -> list[Path]:
    """The loop devices whose image is a file in a folder: by its path, and by the inode, since paths differ between namespaces."""
    inodes = {(found.st_dev, found.st_ino) for found in _regular_files(folder)}
    devices = []
    for named in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        path = Path("/dev") / named.parts[-3]
        try:
            backing = Path(os.fsdecode(named.read_bytes()[:-1]))  # what sysfs says ends with a newline
            if folder in backing.parents and _backing_inode(path) in inodes:
                devices.append(path)
        except OSError as error:
            # Detached since it was listed: no such device (sysfs, ioctl), or no such file.
            if error.errno not in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
                raise
    return devices


def detach(device: Path) -> bool:
    """Have a loop device let its image go; False while someone uses it (the kernel then does it at the last close)."""
    try:
        with device.open("rb", buffering=0) as handle:
            fcntl.ioctl(handle, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EBUSY):
            raise
    return not (_sysfs(device) / "loop/backing_file").exists()


def holders(device: int) -> list[str]:
    """Who keeps files of a file system (its ``st_dev``) open, as far as this process may see: ``name (pid)``."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and any(_is_on(link, device) for link in _links(process)):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(f"{name} ({process.name})")
    return sorted(found)


def let_go(wanted: Callable[[os.stat_result], bool]) -> None:
    """Let go of the wanted files that this process itself has open: their descriptors stay, and lead nowhere.

    A signal that raises between the call that opens and the line that would close leaves a descriptor that nobody knows. It is not
    closed either, lest somebody does know it, and closes the next file that gets its number.
    """
    with Path(os.devnull).open("r+b", buffering=0) as nowhere:
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # the listing's own, which is closed by now
                if wanted(link.stat()):
                    os.dup2(nowhere.fileno(), int(link.name), inheritable=False)


def _links(process: Path) -> Iterator[Path]:
    yield from (process / "cwd", process / "root", process / "exe")
    for kind in ("fd", "map_files"):
        # A process may end meanwhile, or belong to another user.
        with contextlib.suppress(OSError):
            yield from (process / kind).iterdir()


def _is_on(link: Path, device: int) -> bool:
    try:
        return link.stat().st_dev == device
    except OSError:
        return False


def _regular_files(folder: Path) -> Iterator[os.stat_result]:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False):
                yield entry.stat(follow_symlinks=False)


def _backing_inode(device: Path) -> tuple[int, int]:
    with device.open("rb", buffering=0) as handle:
        info = bytearray(_LOOP_INFO.size)
        fcntl.ioctl(handle, _LOOP_GET_STATUS64, info, True)
    encoded, inode = _LOOP_INFO.unpack(info)[:2]
    # huge_encode_dev, include/linux/kdev_t.h: minor in bits 0-7 and from 20, major in bits 8-19.
    return os.makedev(encoded >> 8 & 0xFFF, encoded & 0xFF | encoded >> 12 & 0xFFF00), inode


def _sysfs(device: Path) -> Path:
    return Path("/sys/block") / device.name


def _raise(what: Path | int) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), str(what))
