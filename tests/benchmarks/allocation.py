"""Allocation by each method on each file system, against a program in C of the same methods (``peer.c``).

In a guest whose hypervisor takes free pages back (free page reporting of virtio-balloon), the first touch of a page that was free
for some seconds costs microseconds: as much as the rest of an allocation, by chance to one side or the other. As much memory as a
file takes is therefore touched and freed right before each. Where files lie in large folios that does not settle it; the column
``fastest`` says what the two take when neither was hit.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.figures import Figure, compared, in_turn
from toolkit.scratch import ScratchFilesystem, scratch_filesystems
from toolkit.sensors.allocation import METHODS, Allocation, allocate

MIB = 1024 * 1024
FILESYSTEMS = ("ext3", "ext4", "xfs", "btrfs", "tmpfs")
SIZES_BYTES = (256 * MIB, 1024 * MIB)
#: Methods that on these file systems only note down what is allocated: so short that a ratio would compare timers.
BRIEF = {"posix_fallocate", "fallocate", "ftruncate"}
WITH_EXTENTS = {"ext4", "xfs", "btrfs"}


def figures() -> Iterator[Figure]:
    """As root, on scratch file systems: each file on a fresh mount with dropped caches, ours and C's in turn."""
    if os.geteuid() != 0:
        print("  not measured: scratch file systems need root")
        return
    with tempfile.TemporaryDirectory() as folder:
        peer = Path(folder, "peer")
        subprocess.run(["cc", "-O2", "-Wall", "-o", peer, Path(__file__).with_name("peer.c")], check=True)
        with scratch_filesystems(FILESYSTEMS, max(SIZES_BYTES) * 3 // 2 + 64 * MIB) as scratch:
            for left_out in scratch.left_out:
                print(f"  not measured: {left_out.capability}: {left_out.detail}")
            # The large ones last: they are most of the time.
            for size_bytes in SIZES_BYTES:
                for made in scratch.filesystems.values():
                    for method in METHODS:
                        yield from _cell(made, method, size_bytes, peer)


def _cell(made: ScratchFilesystem, method: str, size_bytes: int, peer: Path) -> Iterator[Figure]:
    done: list[Allocation] = []

    def ours() -> float:
        made.remount()
        _touch(size_bytes)
        file = made.point / "ours"
        done.append(allocate(str(file), method, size_bytes))
        file.unlink()
        return float(done[-1].allocate_ns or 0)

    def theirs() -> float:
        made.remount()
        _touch(size_bytes)
        return float(subprocess.run([peer, made.point / "peer", method, str(size_bytes)], check=True, capture_output=True).stdout)

    if method == "fallocate" and made.name == "ext3":
        return  # refused there, to both
    print(f"  {made.name} {method} {size_bytes // MIB} MiB", flush=True)
    pairs = in_turn([ours, theirs])
    assert all(each.errno is None for each in done)
    counted = done[-len(pairs) :]
    what = f"{method}, {size_bytes // MIB} MiB, {made.name}"
    if method == "ftruncate" or (method in BRIEF and made.name in WITH_EXTENTS):
        yield compared(what, "C", [(mine / 1e3, c / 1e3) for mine, c in pairs], "µs", goal=10, by="difference")
        return
    yield compared(f"{what}, raw", "C", [(mine / 1e9, c / 1e9) for mine, c in pairs], goal=1.12)
    rest = [(mine - (each.overhead_ns or 0), c) for (mine, c), each in zip(pairs, counted, strict=True)]
    yield compared(f"{what}, less overhead_ns", "C", [(mine / 1e9, c / 1e9) for mine, c in rest], goal=1.03)


def _touch(size_bytes: int) -> None:
    """Have the hypervisor back the memory that the next allocation takes, and some more."""
    with mmap.mmap(-1, size_bytes + 256 * MIB) as memory:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 1, len(memory))
