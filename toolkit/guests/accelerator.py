"""Whether a guest here can use KVM: found by booting a kernel, because a /dev/kvm that opens proves nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.guests.kept import LAST_WORDS_S, Kept, Process
from toolkit.lab_kernels import GuestKernel, find_kernels
from toolkit.lab_needs import KVM, find_qemu
from toolkit.markup import visible
from toolkit.scratch_folder import ScratchFolder

__all__ = ["Accelerator", "accelerator"]

# A kernel under KVM prints its first line within a second. Where KVM opens and spins it never does.
_PATIENCE_S = 3.0
_PAUSE_S = 0.02
# The kernel's own first words, which no firmware prints.
_FIRST_WORDS = b"Linux version"


@dataclass(frozen=True)
class Accelerator:
    """How QEMU runs guests here.

    Attributes
    ----------
    name : str
        ``kvm``, or ``tcg``: every instruction translated, and many times slower.
    why : str
        What showed it, in words to print.
    """

    name: Literal["kvm", "tcg"]
    why: str

    def __str__(self) -> str:
        return f"{self.name.upper()}: {self.why}"


#: The answer, once it was asked for: it is this machine's.
_answers: list[Accelerator] = []


def accelerator(kernel: GuestKernel | None = None) -> Accelerator:
    """KVM where a kernel that boots under it shows that it works, else TCG. Asked once a process; takes three seconds at most.

    Parameters
    ----------
    kernel : GuestKernel, optional
        The kernel that shows it, whichever guests boot; the newest that is installed or was fetched by default.

    Raises
    ------
    UnavailableError
        If there is no QEMU or no kernel to boot.

    Examples
    --------
    >>> accelerator().name  # doctest: +SKIP
    'tcg'
    """
    qemu = find_qemu()
    if not _answers:
        _answers.append(_found(qemu, kernel))
    return _answers[0]


def _found(qemu: str, kernel: GuestKernel | None) -> Accelerator:
    if not KVM.exists():
        return Accelerator("tcg", f"there is no {KVM}")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"this user may not open {KVM}")
    image = (kernel or find_kernels()[0]).image
    with ScratchFolder() as folder, Kept([_beginning(qemu, image, "kvm")], [folder / "console"], folder) as (process,):
        return _judged(process)


def _beginning(qemu: str, image: Path, name: str) -> list[str]:
    """QEMU's command line for a kernel that begins, and panics for want of a root file system."""
    return [
        *(qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", name, "-cpu", "max", "-m", "256M"),
        *("-kernel", str(image), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"),
        *("-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"),
    ]


def _judged(process: Process) -> Accelerator:
    deadline = time.monotonic() + _PATIENCE_S
    ended = False
    while True:
        late = time.monotonic() > deadline
        said = process.log.read_bytes()
        if _FIRST_WORDS in said:
            return Accelerator("kvm", "a kernel that was booted under it ran")
        if late:
            break
        if not ended and process.ended():
            ended, deadline = True, time.monotonic() + LAST_WORDS_S / 4
        time.sleep(_PAUSE_S)
    if ended:
        words = visible(" ".join(said.decode(errors="replace").split()), 200)
        return Accelerator("tcg", f"QEMU ended under KVM before the kernel said anything ({words or 'and printed nothing'})")
    return Accelerator("tcg", f"{KVM} opens, but a kernel booted under KVM said nothing within {_PATIENCE_S:.0f} s")
