"""Where files and free space lie on their device: FIEMAP and FS_IOC_GETFSMAP, in pages, any number of extents.

The kernel's records are kept as it wrote them; :mod:`toolkit.experiments.extents` makes frames of them. Also here: how filefrag
counts the pieces of a file, and for which files such a count can be compared at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import Iterator, NamedTuple, Union

from toolkit.errors import UnavailableError, UsageError

__all__ = [
    "CANNOT_SAY",
    "EXTENT_BYTES",
    "FREE",
    "INCOMPARABLE",
    "INLINE",
    "SEGMENT_BYTES",
    "UNPLACED",
    "Extent",
    "ExtentMap",
    "file_extents",
    "flag_names",
    "space_pages",
]

Target = Union[int, str, "os.PathLike[str]"]

# include/uapi/linux/fiemap.h: struct fiemap is fm_start, fm_length, fm_flags, fm_mapped_extents, fm_extent_count, fm_reserved;
# struct fiemap_extent is fe_logical, fe_physical, fe_length, two reserved, fe_flags, three reserved. FS_IOC_FIEMAP is of fs.h.
_FIEMAP = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQ16xI12x")
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP_FLAG_SYNC = 0x1

#: What the kernel answers where a file system does not list extents at all; any other error is one of this file or disk.
CANNOT_SAY = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EINVAL)

#: Bytes of one ``struct fiemap_extent``.
EXTENT_BYTES = _EXTENT.size

# FIEMAP_EXTENT_* of include/uapi/linux/fiemap.h.
_FLAGS: dict[int, str] = {
    0x0001: "last",
    0x0002: "unknown",
    0x0004: "delalloc",
    0x0008: "encoded",
    0x0080: "data_encrypted",
    0x0100: "not_aligned",
    0x0200: "data_inline",
    0x0400: "data_tail",
    0x0800: "unwritten",
    0x1000: "merged",
    0x2000: "shared",
}
_LAST = 0x0001

#: Flag of an extent that is kept among the file system's metadata.
INLINE = 0x0200

#: Flags of an extent that has no place on the device yet: unknown, delalloc.
UNPLACED = 0x0002 | 0x0004

#: Flags that make a count of pieces mean something else than fragmentation: unknown, delalloc (not placed yet), encoded
#: (compressed: btrfs cuts it into 128 KiB pieces), not_aligned, data_inline, data_tail (inside metadata), shared (placed for
#: another file).
INCOMPARABLE = UNPLACED | 0x0008 | 0x0100 | 0x0200 | 0x0400 | 0x2000

# include/uapi/linux/fsmap.h: struct fsmap is fmr_device, fmr_flags, fmr_physical, fmr_owner, fmr_offset, fmr_length, three
# reserved; struct fsmap_head is fmh_iflags, fmh_oflags, fmh_count, fmh_entries, six reserved, then two keys.
_FSMAP_HEAD = struct.Struct("=IIII48x")
_FSMAP = struct.Struct("=IIQQQQ24x")
_FS_IOC_GETFSMAP = 0xC0C0583B
_FMR_OF_LAST = 0x20
# The high key beyond which nothing is; xfs refuses one with a length.
_HIGHEST = _FSMAP.pack(*[2**32 - 1] * 2, *[2**64 - 1] * 3, 0)

#: Bytes of one ``struct fsmap``.
SEGMENT_BYTES = _FSMAP.size

#: fmr_flags and fmr_owner of free space: FMR_OF_SPECIAL_OWNER, FMR_OWN_FREE.
FREE = (0x10, 1)

# A file mostly has few extents; the pages after the first are long enough that the calls no longer count.
_FIRST_PAGE = 256
_PAGE = 65536


class Extent(NamedTuple):
    """One extent as the kernel gave it; all but ``flags`` in bytes."""

    logical: int
    physical: int
    length: int
    flags: int


class ExtentMap:
    """All extents of a file, in the kernel's own records.

    A class of its own because a million extents as Python objects would take longer to make than the kernel takes to list them.

    Attributes
    ----------
    records : bytearray
        ``struct fiemap_extent``, one after the other, :data:`EXTENT_BYTES` each.
    """

    def __init__(self, records: bytearray) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records) // EXTENT_BYTES

    def __iter__(self) -> Iterator[Extent]:
        return map(Extent._make, _EXTENT.iter_unpack(self.records))

    def pieces(self) -> int:
        """The pieces the file lies in: the number that ``filefrag`` prints before "extents found".

        As ``filefrag`` does it (e2fsprogs 1.47, misc/filefrag.c, ``filefrag_fiemap``), an extent carries its piece on when it
        begins where the one before ended, or where that one would have reached had the hole between them been filled. The first
        one begins a piece in any case. Flags play no part in it: see :meth:`comparable`.
        """
        count = 0
        logical_before = physical_before = length_before = 0
        for logical, physical, length, _ in _EXTENT.iter_unpack(self.records):
            dense = physical_before + length_before
            # C's unsigned arithmetic wraps, ours does not: reduce before the comparison, as an offset may lie before its file.
            sparse = (physical_before + logical - logical_before) % 2**64
            if logical and physical not in (sparse, dense % 2**64):
                count += 1
            count = count or 1
            logical_before, physical_before, length_before = logical, physical, length
        return count

    def discontinuities(self) -> int:
        """Physical discontinuities: places between one piece and the next. A file in one piece has none, nor has an empty one."""
        return max(self.pieces() - 1, 0)

    def comparable(self) -> bool:
        """Whether the number of pieces says how fragmented this file is.

        It does not where an extent is compressed, shared, inline, packed with others, or has no place yet (:data:`INCOMPARABLE`):
        ``filefrag`` counts those all the same, and its number then speaks of the file system's bookkeeping.
        """
        return not any(flags & INCOMPARABLE for _, _, _, flags in _EXTENT.iter_unpack(self.records))


def flag_names(flags: int) -> str:
    """The names of FIEMAP's flags, separated by commas; bits this file does not know are written in hexadecimal.

    Examples
    --------
    >>> flag_names(0x801), flag_names(0), flag_names(0x10001)
    ('last,unwritten', '', 'last,0x10000')
    """
    known = [name for bit, name in _FLAGS.items() if flags & bit]
    other = [hex(1 << bit) for bit in range(32) if flags >> bit & 1 and 1 << bit not in _FLAGS]
    return ",".join(known + other)


def file_extents(target: Target, sync: bool = False) -> ExtentMap:
    """All extents of a regular file.

    Parameters
    ----------
    target : int, str or path
        An open file's descriptor, or a path.
    sync : bool
        Have the kernel write the file's data out first (FIEMAP_FLAG_SYNC), so that no extent is still without a place.

    Returns
    -------
    ExtentMap

    Raises
    ------
    UnavailableError
        If the file system does not answer FIEMAP (tmpfs, most network and FUSE file systems), or the file may not be read.
    UsageError
        If it is missing or no regular file.

    Notes
    -----
    Physical offsets are the file system's own. On btrfs they lie in its chunk-mapped address space, not on a device. A file that
    changes meanwhile may be seen half before and half after the change.
    """
    fd, ours = _open(target, directories=False)
    try:
        records = bytearray()
        start, count = 0, _FIRST_PAGE
        while True:
            page = bytearray(_FIEMAP.size + count * EXTENT_BYTES)
            flags = _FIEMAP_FLAG_SYNC if sync else 0
            _FIEMAP.pack_into(page, 0, start, 2**64 - 1 - start, flags, 0, count, 0)
            _ioctl(fd, _FS_IOC_FIEMAP, page, target, "tell where a file's extents lie (FIEMAP)", "tmpfs and network file systems")
            mapped = _FIEMAP.unpack_from(page)[3]
            if not mapped:
                break
            records += memoryview(page)[_FIEMAP.size : _FIEMAP.size + mapped * EXTENT_BYTES]
            logical, _, length, last = _EXTENT.unpack_from(records, len(records) - EXTENT_BYTES)
            # A kernel that gave an empty extent would be asked for it for ever.
            if last & _LAST or logical + length <= start:
                break
            start, count = logical + length, _PAGE
        return ExtentMap(records)
    finally:
        if ours:
            os.close(fd)


def space_pages(target: Target) -> Iterator[tuple[int, bytearray]]:
    """All segments of a file system's device, used and free, as pages of ``struct fsmap`` (FS_IOC_GETFSMAP).

    Parameters
    ----------
    target : int, str or path
        Any file or folder on the file system.

    Yields
    ------
    tuple of int and bytearray
        The device's cookie (``fmr_device``) that the file system's data is on, and records of :data:`SEGMENT_BYTES` each. A file
        system of several devices lists them all; free space has :data:`FREE` as ``fmr_flags`` and ``fmr_owner``.

    Raises
    ------
    UnavailableError
        If the file system does not answer GETFSMAP: of the common ones only ext2, ext3, ext4 and xfs do.
    UsageError
        If it is missing, or neither a file nor a folder.
    """
    fd, ours = _open(target, directories=True)
    try:
        device = os.fstat(fd).st_dev
        cookie = _encoded_device(os.major(device), os.minor(device))
        low = bytes(SEGMENT_BYTES)
        while True:
            page = bytearray(_FSMAP_HEAD.size + (2 + _PAGE) * SEGMENT_BYTES)
            _FSMAP_HEAD.pack_into(page, 0, 0, 0, _PAGE, 0)
            page[_FSMAP_HEAD.size : _FSMAP_HEAD.size + 2 * SEGMENT_BYTES] = low + _HIGHEST
            _ioctl(fd, _FS_IOC_GETFSMAP, page, target, "tell where free space lies (GETFSMAP)", "all but ext2, ext3, ext4 and xfs")
            entries = _FSMAP_HEAD.unpack_from(page)[3]
            if not entries:
                return
            first = _FSMAP_HEAD.size + 2 * SEGMENT_BYTES
            records = page[first : first + entries * SEGMENT_BYTES]
            yield cookie, records
            # The last record is the low key of the next call, as the header says.
            low = bytes(records[-SEGMENT_BYTES:])
            if _FSMAP.unpack(low)[1] & _FMR_OF_LAST:
                return
    finally:
        if ours:
            os.close(fd)


def _encoded_device(major: int, minor: int) -> int:
    """A device's number as the kernel passes it out (new_encode_dev, include/linux/kdev_t.h)."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _open(target: Target, directories: bool) -> tuple[int, bool]:
    """Open a file, or a folder where those are meant, and nothing else: a pipe would block, a device could act."""
    if isinstance(target, int):
        _check(os.fstat(target), target, directories)
        return target, False
    try:
        _check(os.stat(target), target, directories)  # noqa: PTH116
        fd = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{os.fspath(target)!r}: there is no such file", "Give the path of a file.") from error
    except OSError as error:
        raise UnavailableError(
            f"{os.fspath(target)!r} cannot be opened: {os.strerror(error.errno or 0)}",
            "Run as its owner or as root." if error.errno in (errno.EACCES, errno.EPERM) else "",
        ) from error
    try:
        _check(os.fstat(fd), target, directories)
    except UsageError:
        os.close(fd)
        raise
    return fd, True


def _check(found: os.stat_result, target: Target, directories: bool) -> None:
    if stat.S_ISREG(found.st_mode) or (directories and stat.S_ISDIR(found.st_mode)):
        return
    name = target if isinstance(target, int) else os.fspath(target)
    raise UsageError(
        f"{name!r} is {_kind(found.st_mode)}, not a regular file",
        "Give a regular file{}.".format(" or a folder" if directories else ""),
    )


def _kind(mode: int) -> str:
    for is_kind, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if is_kind(mode):
            return name
    return "something else"


def _ioctl(fd: int, request: int, page: bytearray, target: Target, what: str, who: str) -> None:
    try:
        fcntl.ioctl(fd, request, page, True)
    except OSError as error:
        name = target if isinstance(target, int) else os.fspath(target)
        if error.errno in CANNOT_SAY:
            raise UnavailableError(
                f"The file system of {name!r} cannot {what}; so it is with {who}",
                "Ask for a file on ext4 or xfs.",
            ) from error
        raise UnavailableError(f"{name!r}: the kernel did not {what}: {os.strerror(error.errno or 0)}") from error
