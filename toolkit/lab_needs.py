"""What lab guests need of this machine: QEMU, virtme-ng, busybox, and a kernel with its modules. It looks and reads only.

Kernels themselves, also those that were fetched, are found in :mod:`toolkit.lab_kernels`, feeders in :mod:`toolkit.lab_feeders`.

Here rather than with the guests, because :mod:`toolkit.doctor` asks the same.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from toolkit.errors import UnavailableError
from toolkit.filesystems import Support, find_program
from toolkit.lab_kernels import GuestKernel, kernels_in, module_name

__all__ = [
    "KVM",
    "NEEDED_MODULES",
    "GuestKernel",
    "can_boot",
    "find_busybox",
    "find_qemu",
    "find_virtme",
    "guest_kernel",
    "module_name",
]

#: What a lab guest cannot do without: its root is the host's over 9p, made writable by an overlay, its channel virtio-serial.
NEEDED_MODULES = ("9p", "9pnet_virtio", "virtio_pci", "virtio_console", "overlay")

#: Where the kernel offers to run guests on the processor itself; that it opens does not show that it does.
KVM = Path("/dev/kvm")

_QEMU = "qemu-system-x86_64"
# The names under which virtme-ng looks for one.
_BUSYBOXES = ("busybox-static", "busybox.static", "busybox")

_REMEDY = "Run as root: apt-get install linux-image-amd64 (the -cloud- kernels lack 9p, which a lab guest's root file system needs)"


def find_qemu() -> str:
    """The path of QEMU.

    Raises
    ------
    UnavailableError
        If it is not installed.
    """
    found = find_program(_QEMU)
    if found is None:
        raise UnavailableError(f"There is no {_QEMU} here", "Run as root: apt-get install qemu-system-x86.")
    return found


def find_busybox() -> str:
    """The path of the busybox that goes into a guest's initramfs.

    Raises
    ------
    UnavailableError
        If it is not installed.
    """
    for name in _BUSYBOXES:
        if found := find_program(name):
            return found
    raise UnavailableError("There is no busybox here", "Run as root: apt-get install busybox-static.")


def find_virtme() -> str:
    """The version of virtme-ng.

    Raises
    ------
    UnavailableError
        If it is not installed.
    """
    try:
        return importlib.metadata.version("virtme-ng")
    except importlib.metadata.PackageNotFoundError as error:
        raise UnavailableError("virtme-ng is not installed here", "Run: make lab, or python -m pip install virtme-ng.") from error


def can_boot() -> Support:
    """Whether lab guests can be booted here; nothing is booted for it, so whether they run under KVM is not known by it.

    Returns
    -------
    Support
        Every obstacle is named, with every remedy, not just the first.

    Examples
    --------
    >>> can_boot().detail  # doctest: +SKIP
    'QEMU /usr/bin/qemu-system-x86_64, kernel 6.1.0-56-amd64, virtme-ng 1.42; there is no /dev/kvm: TCG'
    """
    asks = {"QEMU": find_qemu, "kernel": lambda: guest_kernel().version, "virtme-ng": find_virtme, "busybox": find_busybox}
    found, lacking = [], []
    for name, ask in asks.items():
        try:
            found.append(f"{name} {ask()}")
        except UnavailableError as error:
            lacking.append(error)
    if lacking:
        return Support(False, "; ".join(error.what for error in lacking), " ".join(error.remedy for error in lacking))
    return Support(True, f"{', '.join(found)}; {_kvm()}")


def _kvm() -> str:
    if not KVM.exists():
        return f"there is no {KVM}: TCG"
    if not os.access(KVM, os.R_OK | os.W_OK):
        return f"this user may not open {KVM}: TCG"
    return f"{KVM} opens, and a boot will show whether KVM works; else TCG"


def guest_kernel(root: Path = Path("/")) -> GuestKernel:
    """The newest installed kernel that a lab guest can boot.

    Parameters
    ----------
    root : Path
        Where boot and lib/modules are looked for.

    Raises
    ------
    UnavailableError
        If there is none; says what was found instead.

    Examples
    --------
    >>> guest_kernel().version  # doctest: +SKIP
    '6.1.0-56-amd64'
    """
    refused = []
    for kernel in kernels_in(root):
        why_not = kernel.why_not(NEEDED_MODULES)
        if why_not is None:
            return kernel
        refused.append(f"{kernel.image}: {why_not}")
    found = "; ".join(refused) or f"there is no {root / 'boot'}/vmlinuz-*"
    raise UnavailableError(f"No kernel here that a lab guest can boot: {found}", f"{_REMEDY}.")
