"""Boots guests made for an experiment, and is certain to remove them.

They run this machine's kernel on this machine's root file system, read-only over 9p: virtme-ng makes what they boot into, QEMU is
started here (:mod:`toolkit.guests.kept`). What a guest writes stays in its memory. It can read whatever the user who boots it can
read, and runs only the command it was given.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import LabError, UnavailableError, UsageError
from toolkit.guests import initramfs, qmp
from toolkit.guests.accelerator import Accelerator, accelerator
from toolkit.guests.kept import LAST_WORDS_S, Kept, Process
from toolkit.guests.kernel_image import bootable
from toolkit.guests.machine import LabGuest, Places, RngLimit, Unlimited, command_line, port_device, port_name
from toolkit.lab_needs import can_boot, find_qemu, guest_kernel
from toolkit.markup import visible
from toolkit.progress import Progress, silent
from toolkit.scratch_folder import ScratchFolder

__all__ = [
    "Accelerator",
    "BootedGuest",
    "LabGuest",
    "RngLimit",
    "Unlimited",
    "accelerator",
    "agent_command",
    "boot",
    "lab_kernel",
    "port_name",
]

_PACKAGES = Path(__file__).parents[2]
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONPATH": str(_PACKAGES),
}

# Seven seconds for one on an idle machine under TCG, thirty for two where all cores are busy. One that ends is not waited for.
_PATIENCE_S = 120.0
_PAUSE_S = 0.05
_PLUG_S = 2.0

# What lab_init.sh says on the console.
_STARTS = b"virt-toolkit: command starts"
_ENDED = re.compile(rb"virt-toolkit: command ended with status (\d{1,3})\b")
_SHOWN_LINES = 12


def lab_kernel() -> Path:
    """The kernel that lab guests boot: this machine's newest one with modules, 9p among them.

    Raises
    ------
    UnavailableError
        If there is none; with what to install.

    Examples
    --------
    >>> lab_kernel()  # doctest: +SKIP
    PosixPath('/boot/vmlinuz-6.1.0-56-amd64')
    """
    return guest_kernel().image


def agent_command(*arguments: str) -> tuple[str, ...]:
    """The command that runs this package's agent in a lab guest, with this interpreter.

    Examples
    --------
    >>> agent_command("--every", "100ms")[-4:]
    ('-m', 'toolkit.guests.agent', '--every', '100ms')
    """
    # Compiled here, once, rather than in each guest, which may not write.
    for name in ("agent", "jobs"):
        importlib.import_module(f"toolkit.guests.{name}")
    importlib.import_module("toolkit.sensors.rng")
    # Neither the folder of installed packages, which takes a second to read under TCG, nor compiled files that go with the guest.
    return (sys.executable, "-S", "-B", "-m", "toolkit.guests.agent", *arguments)


@dataclass(frozen=True)
class BootedGuest:
    """A lab guest that runs.

    Attributes
    ----------
    spec : LabGuest
        As it was asked for.
    sockets : tuple of Path
        The host's ends of its ports: unix sockets at which QEMU listens, for one peer at a time each.
    qmp : Path
        The socket of QEMU's monitor.
    console : Path
        The last of what it and QEMU printed, 1 MiB at most.
    accelerator : Accelerator
        How it runs, and why so.
    """

    spec: LabGuest
    sockets: tuple[Path, ...]
    qmp: Path
    console: Path
    accelerator: Accelerator
    _process: Process = field(repr=False)

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs, or stands still after :meth:`stop`."""
        return not self._process.ended()

    def wait(self, timeout_s: float) -> bool:
        """Wait until its command has ended and it is off.

        Returns
        -------
        bool
            Whether it is.

        Raises
        ------
        LabError
            If the command failed, or the guest ended without it; with the end of its console.
        """
        if not self._process.ended(timeout_s):
            return False
        status = self._status()
        if status == 0:
            return True
        how = "ended before its command did" if status is None else f"ran a command that ended with status {status}"
        raise self.failed(how, f"The command was: {visible(' '.join(self.spec.command))}")

    def stop(self) -> None:
        """Let it stand still: its processors run no more until :meth:`go_on`."""
        self._tell("stop")

    def go_on(self) -> None:
        """Let it run again after :meth:`stop`."""
        self._tell("cont")

    def unplug_port(self, port: int) -> None:
        """Pull a port, counted from 0, out of the running guest. Its socket stays, and whoever is connected to it stays so."""
        self._tell("device_del", id=port_device(port)["id"])

    def plug_port(self, port: int) -> None:
        """Plug a port in again."""
        deadline = time.monotonic() + _PLUG_S
        while True:
            try:
                return self._tell("device_add", **port_device(port))
            except LabError as error:
                # QEMU lets go of an unplugged port's socket a moment after it said that the port is unplugged.
                if "in use" not in error.what or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_S)

    def failed(self, how: str, remedy: str) -> LabError:
        """The error that says what it did, and how its console ends."""
        lines = [visible(line) for line in self.said().decode(errors="backslashreplace").splitlines() if line.strip()]
        shown = " | ".join(lines[-_SHOWN_LINES:]) or "nothing"
        return LabError(f"The lab guest {self.name!r} {how}; the end of its console: {shown}", remedy)

    def ended_without(self, words: bytes) -> bool:
        """Whether it has ended, and its console never had these words."""
        if self.alive():
            return False
        self._process.let_finish()
        return words not in self.said()

    def _tell(self, command: str, **arguments: str | int) -> None:
        if not self.alive():
            raise self.failed("is off", "Boot it again.")
        qmp.execute(self.qmp, command, **arguments)

    def said(self) -> bytes:
        """What is on its console by now; nothing to be trusted."""
        try:
            return self.console.read_bytes()
        except FileNotFoundError:
            # Not yet, or no more.
            return b""

    def _status(self) -> int | None:
        """Its command's status, once it is off; None if it did not say."""
        deadline = time.monotonic() + LAST_WORDS_S
        while True:
            late = time.monotonic() > deadline
            found = _ENDED.findall(self.said())
            if found or late:
                return int(found[-1]) if found else None
            time.sleep(_PAUSE_S)


@contextlib.contextmanager
def boot(
    specs: Sequence[LabGuest], folder: Path | None = None, *, patience_s: float = _PATIENCE_S, progress: Progress = silent
) -> Iterator[list[BootedGuest]]:
    """Boot guests, all at once; they are gone after the ``with`` block, however it ends, also if this process is killed.

    Parameters
    ----------
    specs : sequence of LabGuest
        What to boot.
    folder : Path, optional
        The existing folder in which a private one is made for sockets and consoles; by default ``$TOOLKIT_SCRATCH``, else /var/tmp.
    patience_s : float
        How long the slowest may take until its command starts.
    progress : Progress
        Told of the guests that have come so far.

    Yields
    ------
    list of BootedGuest
        In the same order; each has started its command.

    Raises
    ------
    LabError
        If a guest does not come up; with the end of its console.
    UnavailableError
        If something is missing here: QEMU, a kernel, virtme-ng.
    UsageError
        If a guest cannot be meant.

    Examples
    --------
    >>> with boot([LabGuest(name="starved", command=["sleep", "60"], rng=None)]) as (guest,):  # doctest: +SKIP
    ...     print(guest.accelerator)
    TCG: /dev/kvm opens, but a kernel booted under KVM said nothing within 3 s
    """
    for spec in specs:
        spec.check()
    if len({spec.name for spec in specs}) < len(specs):
        raise UsageError("Two lab guests have the same name", "Give each a name of its own.")
    support = can_boot()
    if not support.available:
        raise UnavailableError(f"Lab guests cannot be booted here: {support.detail}", support.remedy or "")
    qemu, kernel = find_qemu(), guest_kernel()
    found = accelerator(kernel)
    image = bootable(kernel.image, found)
    with ScratchFolder(folder) as private:
        places = [Places(private, spec.name) for spec in specs]
        for place in places:
            place.check()
        initramfs.write(specs, places, kernel, _ENVIRONMENT)
        commands = [
            command_line(spec, place, qemu=qemu, image=image, accelerator=found.name, init=initramfs.INIT)
            for spec, place in zip(specs, places, strict=True)
        ]
        with Kept(commands, [place.console for place in places], private) as processes:
            guests = []
            for spec, place, process in zip(specs, places, processes, strict=True):
                sockets = tuple(place.socket(port) for port in range(spec.ports))
                guests.append(BootedGuest(spec, sockets, place.qmp, place.console, found, process))
            _await(guests, patience_s, progress)
            yield guests


def _await(guests: Sequence[BootedGuest], patience_s: float, progress: Progress) -> None:
    """Until each has started its command."""
    deadline = time.monotonic() + patience_s
    waiting = list(guests)
    while True:
        late = time.monotonic() > deadline
        waiting = [guest for guest in waiting if _STARTS not in guest.said()]
        progress(len(guests) - len(waiting), len(guests), "booting lab guests")
        if not waiting:
            return
        for guest in waiting:
            if guest.ended_without(_STARTS):
                raise guest.failed("ended before it started its command", "Run: toolkit doctor, which shows what lab guests need.")
        if late:
            remedy = "Boot fewer at once, or wait until this machine has less to do."
            raise waiting[0].failed(f"did not start its command within {patience_s:.0f} s under {guests[0].accelerator}", remedy)
        time.sleep(_PAUSE_S)
