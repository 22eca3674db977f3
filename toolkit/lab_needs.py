"""What lab guests need of this machine: QEMU, virtme-ng, busybox, and a kernel with its modules. It looks and reads only.

Here rather than with the guests, because :mod:`toolkit.doctor` asks the same.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toolkit.errors import UnavailableError
from toolkit.filesystems import Support, find_program

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

_PREFIX = "vmlinuz-"
_REMEDY = "Run as root: apt-get install linux-image-amd64 (the -cloud- kernels lack 9p, which a lab guest's root file system needs)"


@dataclass(frozen=True)
class GuestKernel:
    """A kernel image whose modules are there.

    Attributes
    ----------
    image : Path
        Such as /boot/vmlinuz-6.1.0-56-amd64.
    version : str
        What ``uname -r`` says under it.
    folder : Path
        Its modules, such as /lib/modules/6.1.0-56-amd64.
    """

    image: Path
    version: str
    folder: Path

    def modules(self, names: Iterable[str]) -> list[Path]:
        """The files of modules and of what they depend on, in the order in which they can be loaded; none for what is built in.

        Raises
        ------
        UnavailableError
            If this kernel has no such module.
        """
        by_name = self._dependencies()
        built_in = {module_name(line) for line in _lines(self.folder / "modules.builtin")}
        found: dict[str, None] = {}
        for name in names:
            if name in by_name:
                # modules.dep(5) names what a module needs after it, what must be loaded first last.
                found |= dict.fromkeys(reversed(by_name[name]))
            elif name not in built_in:
                raise UnavailableError(f"The kernel {self.version} has no module {name}", f"{_REMEDY}.")
        return [self.folder / path for path in found]

    def _dependencies(self) -> dict[str, list[str]]:
        found = {}
        for line in _lines(self.folder / "modules.dep"):
            path, _, needs = line.partition(":")
            found[module_name(path)] = [path, *needs.split()]
        return found


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


def module_name(path: str | Path) -> str:
    """The kernel's name for a module's file.

    Examples
    --------
    >>> module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz")
    'virtio_rng'
    """
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


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
    for image in sorted((root / "boot").glob(f"{_PREFIX}*"), key=_age, reverse=True):
        version = image.name.removeprefix(_PREFIX)
        kernel = GuestKernel(image, version, root / "lib/modules" / version)
        why_not = _why_not(kernel)
        if why_not is None:
            return kernel
        refused.append(f"{image}: {why_not}")
    found = "; ".join(refused) or f"there is no {root / 'boot'}/{_PREFIX}*"
    raise UnavailableError(f"No kernel here that a lab guest can boot: {found}", f"{_REMEDY}.")


def _why_not(kernel: GuestKernel) -> str | None:
    try:
        with kernel.image.open("rb"):
            pass
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not (kernel.folder / "modules.dep").is_file():
        return f"it has no modules in {kernel.folder}"
    try:
        kernel.modules(NEEDED_MODULES)
    except UnavailableError as error:
        return error.what[0].lower() + error.what[1:]
    return None


def _age(image: Path) -> list[tuple[int, str]]:
    """A version's numbers as numbers: 6.10 is newer than 6.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", image.name)]


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
