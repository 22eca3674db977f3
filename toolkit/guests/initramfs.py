"""What a lab guest boots into: virtme-ng's initramfs (busybox, modules for the host's root over 9p), and our first process in it.

virtme-ng's own first process starts udev, systemd-tmpfiles and a shell from the host's root, which takes as long under TCG as all
the rest; ours (``lab_init.sh``) starts one command. The kernel unpacks initramfs archives that follow one another into one tree.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.errors import LabError
from toolkit.guests import cpio
from toolkit.guests.machine import LabGuest, Places
from toolkit.lab_needs import GuestKernel, module_name
from toolkit.markup import visible

__all__ = ["INIT", "write"]

#: The kernel's argument that starts our first process.
INIT = "rdinit=/lab/init"

_SCRIPT = Path(__file__).with_name("lab_init.sh")
_PATIENCE_S = 60.0


def write(specs: Sequence[LabGuest], places: Sequence[Places], kernel: GuestKernel, environment: Mapping[str, str]) -> None:
    """Write each guest's initramfs to its place.

    Parameters
    ----------
    specs, places : sequence of LabGuest, sequence of Places
        In the same order, in one folder.
    kernel : GuestKernel
        What they boot.
    environment : mapping of str to str
        What each command finds in its environment, beside what its guest says.

    Raises
    ------
    LabError
        If virtme-ng makes none, with what it said; or if there is no room.
    UnavailableError
        If the kernel lacks a module.
    """
    try:
        for spec, place in zip(specs, places, strict=True):
            if spec is specs[0]:
                made = _made_by_virtme(kernel, place.folder)
            ours = {"lab/init": _SCRIPT.read_bytes(), "lab/settings": _settings(spec, kernel, {**environment, **spec.environment})}
            place.initramfs.write_bytes(made + bytes(-len(made) % cpio.BLOCK_BYTES) + cpio.archive(ours))
    except OSError as error:
        what = f"The initramfs of a lab guest cannot be written to {error.filename}: {error.strerror}"
        raise LabError(what, "Free some space there, or set TOOLKIT_SCRATCH to another folder.") from error


def _made_by_virtme(kernel: GuestKernel, folder: Path) -> bytes:
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
    try:
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
        said = " ".join(done.stdout.split()) or f"status {done.returncode}"
    except subprocess.TimeoutExpired:
        said = f"it did not end within {_PATIENCE_S:.0f} s"
    if not made.exists():
        remedy = "Run as root: apt-get install busybox-static kmod"
        raise LabError(f"virtme-ng made no initramfs for {kernel.version}: {visible(said, 500)}", remedy)
    archive = made.read_bytes()
    made.unlink()
    return archive


def _settings(spec: LabGuest, kernel: GuestKernel, environment: Mapping[str, str]) -> bytes:
    """What ``lab_init.sh`` reads."""
    words = [f"{name}={value}" for name, value in environment.items()]
    run = shlex.join(["busybox", "env", "-i", *words, "busybox", "chroot", "/guest", *spec.command])
    modules = " ".join(f"{module_name(path)}:{path}" for path in kernel.modules(spec.modules()))
    return os.fsencode(f"hostname={shlex.quote(spec.name)}\nmodules={shlex.quote(modules)}\nrun_command() {{\n{run}\n}}\n")
