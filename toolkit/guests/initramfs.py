"""What a lab guest boots into: virtme-ng's initramfs (busybox, modules for the host's root over 9p), and our first process in it.

virtme-ng's own first process starts udev, systemd-tmpfiles and a shell from the host's root, which takes as long under TCG as all
the rest; ours (``lab_init.sh``) starts one command. The kernel unpacks initramfs archives that follow one another into one tree.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from toolkit.errors import LabError
from toolkit.lab_needs import GuestKernel, module_name
from toolkit.markup import visible

__all__ = ["INIT", "base", "with_command"]

#: The kernel's argument that starts our first process.
INIT = "rdinit=/lab/init"

_SCRIPT = Path(__file__).with_name("lab_init.sh")
_PATIENCE_S = 60.0

# cpio(5), the "new ASCII format" (newc), which Documentation/driver-api/early-userspace/buffer-format.rst of the kernel describes.
_MAGIC = b"070701"
_FOLDER, _FILE = 0o40755, 0o100755
_ALIGNMENT = 4
_TRAILER = "TRAILER!!!"


def base(kernel: GuestKernel, folder: Path) -> bytes:
    """virtme-ng's initramfs for a kernel.

    Raises
    ------
    LabError
        If it makes none; with what it said.
    """
    made = folder / "initramfs"
    # It only makes the initramfs: what it would start is left to us, because a QEMU of its own would outlive a killed owner.
    words = [
        "--dry-run",
        "--kimg",
        str(kernel.image),
        "--mods",
        "auto",
        "--force-9p",
        "--disable-kvm",
        "--save-initramfs",
        str(made),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "virtme.commands.run", *words],
        # What it forgets to remove goes with the folder.
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_PATIENCE_S,
        check=False,
    )
    if not made.exists():
        said = visible(" ".join(done.stdout.split()) or f"status {done.returncode}", 500)
        raise LabError(
            f"virtme-ng made no initramfs for {kernel.version}: {said}", "Run as root: apt-get install busybox-static kmod"
        )
    archive = made.read_bytes()
    made.unlink()
    return archive


def with_command(
    archive: bytes, command: Sequence[str], environment: Mapping[str, str], modules: Sequence[Path], hostname: str
) -> bytes:
    """The initramfs with our first process, which loads modules from the host's root and runs a command in it."""
    words = [f"{name}={value}" for name, value in environment.items()]
    run = shlex.join(["busybox", "env", "-i", *words, "busybox", "chroot", "/guest", *command])
    listed = " ".join(f"{module_name(path)}:{path}" for path in modules)
    settings = f"hostname={shlex.quote(hostname)}\nmodules={shlex.quote(listed)}\nrun_command() {{\n{run}\n}}\n"
    ours = {"lab/init": _SCRIPT.read_bytes(), "lab/settings": os.fsencode(settings)}
    return archive + bytes(-len(archive) % 512) + b"".join(_cpio(ours))


def _cpio(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """The folder ``lab`` with some files in it, as an archive."""
    yield _member("lab", b"", _FOLDER, 1)
    for number, (name, content) in enumerate(files.items(), 2):
        yield _member(name, content, _FILE, number)
    yield _member(_TRAILER, b"", 0, 0)


def _member(name: str, content: bytes, mode: int, inode: int) -> bytes:
    path = name.encode("ascii") + b"\0"
    owner = modified = device = checksum = 0
    links = 1
    fields = [inode, mode, owner, owner, links, modified, len(content), device, device, device, device, len(path), checksum]
    return _aligned(_MAGIC + b"".join(b"%08X" % each for each in fields) + path) + _aligned(content)


def _aligned(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)
