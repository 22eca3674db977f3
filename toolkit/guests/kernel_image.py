"""A kernel's image, unpacked on the host: what a translated guest would do for longer than for all the rest of its boot.

An x86 image is a small program with the kernel packed inside it (Documentation/arch/x86/boot.rst). The kernel itself is an ELF
file that QEMU starts too, at the entry for PVH guests, if it has one. Here, under TCG, Debian's 6.1 was then 3 s from QEMU's start
to its first process and not 8. Its own clock begins after the unpacking either way.
"""

from __future__ import annotations

import fcntl
import functools
import lzma
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from toolkit.guests.accelerator import Accelerator

__all__ = ["bootable", "unpacked"]

# The image's header: where it begins, and the first of its versions that says where the packed kernel is.
_HEADER, _MAGIC, _SAYS_PAYLOAD = 0x1F1, b"HdrS", 0x0208
_SECTOR_BYTES = 512
# More than any kernel: what is packed may say that it is anything.
_MOST_BYTES = 512 * 1024 * 1024

_ELF64 = b"\x7fELF\x02\x01"
_NOTES = 4
# include/xen/interface/elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY: where a PVH guest begins.
_PVH_OWNER, _PVH_ENTRY = b"Xen\0", 18


def bootable(image: Path, accelerator: Accelerator) -> Path:
    """The file that QEMU is to boot: a kernel unpacked where guests are translated, else the image as it is.

    What is unpacked is kept in memory until this process ends: nothing can be left of it on a disk.

    Parameters
    ----------
    image : Path
        Such as /boot/vmlinuz-6.1.0-56-amd64.
    accelerator : Accelerator
        What runs the guest.

    Returns
    -------
    Path
        To be opened while this process lives.

    Examples
    --------
    >>> bootable(Path("/boot/vmlinuz"), Accelerator("kvm", "it ran"))
    PosixPath('/boot/vmlinuz')
    """
    if accelerator.name != "tcg":
        return image
    found = image.stat()
    held = _in_memory(image, found.st_ino, found.st_size, found.st_mtime_ns)
    return image if held is None else Path(f"/proc/{os.getpid()}/fd/{held}")


def unpacked(image: bytes) -> bytes | None:
    """The kernel that is packed in an image.

    Parameters
    ----------
    image : bytes
        Of a file such as /boot/vmlinuz.

    Returns
    -------
    bytes or None
        An ELF file; None if it cannot be had, or QEMU could not start it: another architecture, another way of packing (lz4, which
        a guest undoes in a moment), no entry for PVH guests.

    Examples
    --------
    >>> unpacked(b"something else") is None
    True
    """
    try:
        kernel = _unpack(_payload(image))
        return kernel if any(note == (_PVH_OWNER, _PVH_ENTRY) for note in _notes(kernel)) else None
    except (struct.error, OverflowError, lzma.LZMAError, zlib.error, ValueError, OSError):
        return None


@functools.cache
def _in_memory(image: Path, *_of_this_file: int) -> int | None:
    """A file in memory with the kernel of an image."""
    kernel = unpacked(image.read_bytes())
    if kernel is None:
        return None
    held = os.memfd_create("virt-toolkit-kernel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(held, "wb", closefd=False) as file:
        file.write(kernel)
    fcntl.fcntl(held, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return held


def _payload(image: bytes) -> bytes:
    magic, version = struct.unpack_from("<4sH", image, 0x202)
    if magic != _MAGIC or version < _SAYS_PAYLOAD:
        return b""
    (setup_sectors,) = struct.unpack_from("B", image, _HEADER)
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = ((setup_sectors or 4) + 1) * _SECTOR_BYTES + offset
    return image[begin : begin + length]


def _unpack(payload: bytes) -> bytes:
    """As scripts/Makefile.lib of the kernel packs: after what xz and zstd make come four bytes with the size."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload, _MOST_BYTES)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload, _MOST_BYTES)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        with pa.CompressedInputStream(pa.BufferReader(payload[:-4]), "zstd") as stream:
            return bytes(stream.read(_MOST_BYTES))
    return b""


def _notes(elf: bytes) -> Iterator[tuple[bytes, int]]:
    """The owner and the type of each note of an ELF file."""
    if not elf.startswith(_ELF64):
        return
    (headers,) = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    for header in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", elf, headers + header * size)
        place, end = offset, min(offset + length, len(elf))
        while kind == _NOTES and place + 12 <= end:
            owner_bytes, value_bytes, note = struct.unpack_from("<III", elf, place)
            yield elf[place + 12 : place + 12 + owner_bytes], note
            place += 12 + -(-owner_bytes // 4) * 4 + -(-value_bytes // 4) * 4
