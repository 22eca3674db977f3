"""What this machine can measure, and how to get the rest. It looks and reads; it makes nothing and changes nothing.

What the file systems need is said in :mod:`toolkit.filesystems`, and what guests made for an experiment need in
:mod:`toolkit.lab_needs`; this module shows it beside everything else.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import UnavailableError
from toolkit.filesystems import FILESYSTEMS, Support, can_make, loop_devices, may_mount
from toolkit.lab_feeders import supports_feeders
from toolkit.lab_kernels import supports_kernels
from toolkit.lab_needs import can_boot
from toolkit.mounts import mount_of
from toolkit.runs import hypervisor, storable
from toolkit.sensors.extents import file_extents, space_pages
from toolkit.sensors.rng import RngState, read_rng_state
from toolkit.sensors.system import read_energy
from toolkit.sensors.write_loop import native_loop

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["doctor"]

_VIRTUAL_HWRNG = "Give the guest a virtio-rng device: in QEMU -device virtio-rng-pci, in libvirt <rng model='virtio'>."


def doctor(root: str | Path = "/") -> pd.DataFrame:
    """What this machine can measure, and how to get the rest.

    Parameters
    ----------
    root : str or Path
        Where proc, sys and dev are looked for: another root than ``/`` is a recorded machine, and then nothing is asked of the
        kernel that runs.

    Returns
    -------
    pandas.DataFrame
        A row a capability, in a fixed order: ``capability`` (str), ``available`` (boolean), ``detail`` (str: what was found),
        ``remedy`` (str: how to get it; null where it is there or cannot be had).

    Examples
    --------
    >>> found = doctor()
    >>> list(found.columns)
    ['capability', 'available', 'detail', 'remedy']
    >>> "file system ext4" in set(found["capability"])
    True
    """
    import pandas as pd

    found = list(_capabilities(Path(root)))
    return pd.DataFrame(
        {
            "capability": pd.Series([name for name, _ in found], dtype="str"),
            "available": pd.Series([support.available for _, support in found], dtype="boolean"),
            "detail": pd.Series([storable(support.detail) for _, support in found], dtype="str"),
            "remedy": pd.Series([support.remedy for _, support in found], dtype="str"),
        }
    )


def _capabilities(root: Path) -> Iterator[tuple[str, Support]]:
    state = read_rng_state(root)
    yield "entropy pool", _pool(state)
    yield "CRNG readiness", _readiness(state)
    yield "kernel log", _kernel_log(state)
    yield "hardware source", _hwrng(state, root)
    yield "power", _power(root)
    yield "root", may_mount(root)
    yield "loop devices", loop_devices(root)
    for name in FILESYSTEMS:
        yield f"file system {name}", can_make(name, root)
    if root == Path("/"):
        folder = Path(tempfile.gettempdir())
        yield "extents of files (FIEMAP)", _fiemap(folder)
        yield "free space (GETFSMAP)", _mapped(folder, partial(next, space_pages(folder), None))
        yield "writes timed as in C", _exact_writes()
        yield "lab guests", can_boot()
        yield "kernels for lab guests", supports_kernels()
        yield "feeders for lab guests", supports_feeders()
    yield "JupyterLab", _jupyterlab()


def _pool(state: RngState) -> Support:
    if state.entropy_avail_bits is None:
        return Support(False, "there is no /proc/sys/kernel/random", "Mount proc; in a container, run outside of it.")
    regime = f"regime {state.regime or 'unknown'} ({state.regime_evidence})"
    return Support(True, f"{state.entropy_avail_bits} of {state.poolsize_bits} bits; {regime}")


def _readiness(state: RngState) -> Support:
    if state.crng_ready is None:
        return Support(False, "getrandom cannot be asked", "Run on the machine itself, outside any sandbox; Linux 3.17 or later.")
    readable = {True: "readable", False: "not readable", None: "cannot be opened"}[state.random_readable]
    return Support(True, f"{'ready' if state.crng_ready else 'not ready yet'}; /dev/random is {readable}")


def _kernel_log(state: RngState) -> Support:
    said = "CRNG readiness is not in it" if state.crng_ready_s is None else f"CRNG ready after {state.crng_ready_s:.3f} s"
    if state.kernel_log == "complete":
        return Support(True, f"from its start: {said}")
    if state.kernel_log == "overwritten":
        return Support(
            state.crng_ready_s is not None,
            f"its start was overwritten: {said}; warnings and reseeds cannot be counted",
            "Boot with log_buf_len=16M on the kernel's command line, and measure soon after.",
        )
    if state.kernel_log == "refused":
        remedy = "Run as root, or as root: sysctl kernel.dmesg_restrict=0"
        return Support(False, "this user may not read it (kernel.dmesg_restrict)", remedy)
    return Support(False, "there is neither /dev/kmsg nor syslog(2)", "In a container, pass /dev/kmsg in, or run outside of it.")


def _hwrng(state: RngState, root: Path) -> Support:
    if state.virtio_rng_unbound:
        return Support(
            False,
            f"{state.virtio_rng_unbound} virtio-rng device(s) without a driver: the host offers randomness and nobody reads it",
            "Run as root: modprobe virtio_rng; if there is no such module, use a kernel with CONFIG_HW_RANDOM_VIRTIO.",
        )
    if not state.hwrng_available:
        found = "this kernel offers no hw_random" if state.hwrng_available is None else "no driver is bound: rng_available is empty"
        return Support(False, found, _VIRTUAL_HWRNG if hypervisor(root) else "Load the driver of the board's or TPM's generator.")
    names = " ".join(state.hwrng_available)
    device = root / "dev/hwrng"
    if not device.exists():
        return Support(False, f"{names}, but there is no /dev/hwrng", "Run as root: mknod -m 600 /dev/hwrng c 10 183")
    if not os.access(device, os.R_OK):
        return Support(False, f"{names}; /dev/hwrng may not be read by this user", "Run as root.")
    quality = "" if state.hwrng_quality is None else f", quality {state.hwrng_quality} of 1024"
    return Support(True, f"{names}; in use: {state.hwrng_current or 'none'}{quality}")


def _power(root: Path) -> Support:
    energy = read_energy(root)
    if energy:
        return Support(True, f"RAPL: {' '.join(energy)}")
    if any((root / "sys/class/powercap").glob("intel-rapl:*")):
        return Support(False, "RAPL counters are there, but this user may not read them", "Run as root.")
    if hypervisor(root):
        return Support(False, "a virtual machine is not shown its power (RAPL)")
    return Support(False, "no RAPL counters", "Run as root: modprobe intel_rapl_msr (processors of Intel and AMD only).")


def _fiemap(folder: Path) -> Support:
    with tempfile.TemporaryFile(dir=folder) as file:
        return _mapped(folder, partial(file_extents, file.fileno()))


def _mapped(folder: Path, ask: Callable[[], object]) -> Support:
    where = f"{_filesystem_of(folder)}, at {folder}"
    try:
        ask()
    except UnavailableError as error:
        return Support(False, f"{where}: {error.what}", error.remedy or "Set TMPDIR to a folder on ext4 or xfs.")
    return Support(True, where)


def _exact_writes() -> Support:
    why_not = native_loop().why_not
    if why_not is None:
        return Support(True, "blocks are written by a loop in machine code")
    # What an architecture lacks nobody can install; where memory may not be executed, that is this system's policy.
    said = f"{why_not}; blocks are written by a loop in Python, and overhead_ns says about what that costs"
    return Support(False, said)


def _filesystem_of(folder: Path) -> str:
    mounted = mount_of(folder)
    return mounted.kernel_type if mounted else "an unknown file system"


def _jupyterlab() -> Support:
    try:
        return Support(True, f"JupyterLab {importlib.metadata.version('jupyterlab')}")
    except importlib.metadata.PackageNotFoundError:
        return Support(False, "JupyterLab is not installed here", "Run: make lab, or python -m pip install jupyterlab")
