"""Kernels unpacked on the host: what comes out of an image is what was packed, and a guest boots it."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.guests.accelerator import Accelerator
from toolkit.guests.kernel_image import bootable, unpacked

TCG, KVM = Accelerator("tcg", "a test says so"), Accelerator("kvm", "a test says so")


def elf(owner: bytes = b"Xen\0", kind: int = 18, value: bytes = b"12345678") -> bytes:
    """An ELF file that has nothing but notes: one of somebody else's, with a name and a value that need filling, and this one."""
    notes = struct.pack("<III", 6, 3, 1) + b"Linux\0\0\0" + b"abc\0"
    notes += struct.pack("<III", len(owner), len(value), kind) + owner + value
    header = struct.pack("<4s5B7x2HI3QI6H", b"\x7fELF", 2, 1, 1, 0, 0, 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    loaded = struct.pack("<2I6Q", 1, 5, 0, 0, 0, 64, 64, 4096)
    return header + loaded + struct.pack("<2I6Q", 4, 4, 176, 0, 0, len(notes), len(notes), 4) + notes


def image(payload: bytes, *, version: int = 0x20F, magic: bytes = b"HdrS", setup_sectors: int = 2) -> bytes:
    """As a kernel's image is laid out: a boot sector, the set-up, the program that unpacks, and what is packed."""
    before = 700
    head = bytearray(((setup_sectors or 4) + 1) * 512 + before)
    head[0x1F1] = setup_sectors
    struct.pack_into("<4sH", head, 0x202, magic, version)
    struct.pack_into("<II", head, 0x248, before, len(payload))
    return bytes(head) + payload + b"what comes after it"


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


SIZE = struct.pack("<I", len(elf()))


@pytest.mark.parametrize("setup_sectors", [0, 2, 39])
@pytest.mark.parametrize(
    "payload",
    [lzma.compress(elf(), check=lzma.CHECK_CRC32) + SIZE, gzip.compress(elf()), zstd(elf()) + SIZE],
    ids=["xz", "gzip", "zstd"],
)
def test_what_was_packed_comes_out(payload: bytes, setup_sectors: int) -> None:
    assert unpacked(image(payload, setup_sectors=setup_sectors)) == elf()


@pytest.mark.parametrize(
    "packed",
    [
        image(gzip.compress(elf(owner=b"Gnu\0"))),
        image(gzip.compress(elf(kind=17))),
        image(gzip.compress(b"no ELF file")),
        image(gzip.compress(elf()), version=0x207),
        image(gzip.compress(elf()), magic=b"none"),
        image(gzip.compress(elf())[:60]),
        image(b"\x02!L\x18 lz4"),
        b"",
        b"MZ",
    ],
    ids=["no PVH entry", "another entry", "no ELF", "too old", "no image", "cut short", "lz4", "nothing", "a beginning"],
)
def test_what_qemu_could_not_start_stays_packed(packed: bytes, tmp_path: Path) -> None:
    assert unpacked(packed) is None
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(packed)
    assert bootable(kernel, TCG) == kernel


@example(noise=b"\x80", place=39)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_image_is_never_an_error(noise: bytes, place: int) -> None:
    whole = elf()
    for damaged in (whole[:place] + noise + whole[place + len(noise) :], noise):
        assert unpacked(image(gzip.compress(damaged))) in (None, damaged)
    packed = image(lzma.compress(whole))
    assert unpacked(packed[: 512 + place] + noise + packed[512 + place + len(noise) :]) in (None, whole)


def test_it_is_unpacked_once_a_process_kept_in_memory_and_anew_when_the_file_is_another(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(image(gzip.compress(elf())))
    assert bootable(kernel, KVM) == kernel
    first = bootable(kernel, TCG)
    assert first == bootable(kernel, TCG) != kernel
    assert first.read_bytes() == elf()
    with pytest.raises(PermissionError):
        os.pwrite(int(first.name), b"x", 0)
    kernel.write_bytes(image(gzip.compress(elf(value=b"0123456789ab"))))
    assert bootable(kernel, TCG).read_bytes() == elf(value=b"0123456789ab")
    assert list(tmp_path.iterdir()) == [kernel]
