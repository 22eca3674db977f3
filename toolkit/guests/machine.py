"""A lab guest as it is asked for, and QEMU's command line for it. Nothing is started here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from toolkit.errors import UsageError
from toolkit.guests.scratch_disk import SERIAL
from toolkit.guests.wire import PORT_NAME
from toolkit.units import bytes_text

__all__ = ["MOST_PORTS", "LabGuest", "Places", "RngLimit", "Unlimited", "command_line", "port_name"]

_MIB = 1024 * 1024

#: Ports of one guest.
MOST_PORTS = 31
# A virtio-serial device has 31, but its first is kept for a console (hw/char/virtio-serial-bus.c): the last needs another device.
_PORTS_OF_A_DEVICE = 30

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
# unix(7): sun_path, with its final zero.
_MOST_PATH_BYTES = 107
# Debian's kernel and its initramfs do not boot in less.
_LEAST_MEMORY_BYTES = 192 * _MIB

Backend = Literal["random", "builtin"]
_BACKENDS: Mapping[Backend, str] = {"random": "rng-random,id=rng,filename=/dev/urandom", "builtin": "rng-builtin,id=rng"}


@dataclass(frozen=True, kw_only=True)
class Unlimited:
    """A virtio-rng without a limit.

    Attributes
    ----------
    backend : str
        ``random``: QEMU reads the host's /dev/urandom; ``builtin``: QEMU's own getrandom.
    """

    backend: Backend = "random"


@dataclass(frozen=True, kw_only=True)
class RngLimit:
    """A virtio-rng that gives so many bytes a period, in a burst.

    Attributes
    ----------
    max_bytes, period_ms : int
        The limit.
    backend : str
        As in :class:`Unlimited`.
    """

    max_bytes: int
    period_ms: int
    backend: Backend = "random"


@dataclass(frozen=True, kw_only=True)
class LabGuest:
    """A guest made for an experiment. Its root file system is the host's, which it can read and not change.

    Attributes
    ----------
    name : str
        Letters, digits, ``-`` and ``_``; also its host name.
    command : sequence of str
        The program it runs, as root, and its arguments; when that ends, the guest powers off.
    rng : Unlimited, RngLimit or None
        Its virtio-rng; None for no device.
    cpu : str
        QEMU's name. Under TCG ``max`` has RDRAND, ``qemu64`` has none.
    append : str
        More arguments for its kernel, such as ``random.trust_cpu=off random.trust_bootloader=off``.
    disks : sequence of Path
        Raw images, which become /dev/vda and so on, read and written.
    scratch_disk : Path or None
        One more raw image, as :func:`toolkit.guests.scratch_disk.make_image` makes it: the agent may overwrite it, with leave.
    ports : int
        How many virtio-serial ports; the first is named :data:`toolkit.guests.wire.PORT_NAME`.
    memory_bytes, cpus : int
        Its size.
    environment : mapping of str to str
        What the command finds in its environment, beside PATH, HOME and where this package is.
    """

    name: str
    command: Sequence[str]
    rng: Unlimited | RngLimit | None = field(default_factory=Unlimited)
    cpu: str = "max"
    append: str = ""
    disks: Sequence[Path] = ()
    scratch_disk: Path | None = None
    ports: int = 1
    memory_bytes: int = 512 * _MIB
    cpus: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises
        ------
        UsageError
            Names what is wrong, and what can be given.
        """
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"{self.name!r} is no name for a lab guest", "Up to 32 letters, digits, '-' and '_'.")
        if not 1 <= self.ports <= MOST_PORTS:
            raise UsageError(f"A lab guest cannot have {self.ports} ports", f"Give 1 to {MOST_PORTS}.")
        if self.cpus < 1 or self.memory_bytes < _LEAST_MEMORY_BYTES or self.memory_bytes % _MIB:
            least = bytes_text(_LEAST_MEMORY_BYTES)
            raise UsageError(
                f"A lab guest cannot have {self.cpus} processors and {self.memory_bytes} bytes of memory",
                f"Give at least one processor and {least}, in whole MiB.",
            )
        if not self.command:
            raise UsageError(f"The lab guest {self.name!r} has nothing to run", "Give its command.")
        if isinstance(self.rng, RngLimit) and (self.rng.max_bytes < 1 or self.rng.period_ms < 1):
            raise UsageError("A virtio-rng's limit is at least 1 byte in at least 1 ms", "For no limit give Unlimited().")
        if self.rng is not None and self.rng.backend not in _BACKENDS:
            raise UsageError(f"{self.rng.backend!r} is no backend of virtio-rng here", f"Give one of: {', '.join(_BACKENDS)}.")
        for disk in self.images():
            if not disk.is_file():
                raise UsageError(f"{str(disk)!r} is no disk image", "Make one first, for example with: truncate -s 1G IMAGE")

    def images(self) -> list[Path]:
        """Of all its disks, in their order."""
        return [*self.disks, *([] if self.scratch_disk is None else [self.scratch_disk])]

    def modules(self) -> list[str]:
        """The kernel's modules for what it has, beside those of virtme-ng's initramfs."""
        return ["overlay", "virtio_console", *["virtio_rng"] * (self.rng is not None), *["virtio_blk"] * bool(self.images())]


@dataclass(frozen=True)
class Places:
    """Where a guest's files lie: in a private folder, and gone with it."""

    folder: Path
    name: str

    @property
    def qmp(self) -> Path:
        """The monitor's socket."""
        return self.folder / f"{self.name}.qmp"

    @property
    def console(self) -> Path:
        """What it and QEMU printed."""
        return self.folder / f"{self.name}.console"

    @property
    def initramfs(self) -> Path:
        """What it boots into."""
        return self.folder / f"{self.name}.initramfs"

    def socket(self, port: int) -> Path:
        """The host's end of a port."""
        return self.folder / f"{self.name}.{port}"

    def check(self) -> None:
        """Refuse a folder whose sockets' paths would be too long.

        Raises
        ------
        UsageError
            With how long its path may be.
        """
        longest = len(str(self.qmp).encode())
        if longest > _MOST_PATH_BYTES:
            room = _MOST_PATH_BYTES - longest + len(str(self.folder.parent).encode())
            raise UsageError(
                f"{str(self.folder.parent)!r} is too long a path for sockets in it",
                f"Give a folder (or set TOOLKIT_SCRATCH to one) with a path of at most {room} bytes.",
            )


def port_name(port: int) -> str:
    """What a port is called in the guest, counted from 0: /dev/virtio-ports/NAME.

    Examples
    --------
    >>> port_name(0), port_name(30)
    ('org.virt_toolkit.agent.0', 'org.virt_toolkit.agent.30')
    """
    return f"{PORT_NAME.rpartition('.')[0]}.{port}"


def command_line(guest: LabGuest, places: Places, *, qemu: str, image: Path, accelerator: str, init: str) -> list[str]:
    """QEMU's command line: no network, no disk but those asked for, the host's root read-only, the console to standard output."""
    said = f"console=ttyS0 quiet panic=-1 {init} {guest.append}".rstrip()
    return [
        *(qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        # What a guest that breaks out of its devices may not do: start programs, or become another user.
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-name", f"virt-toolkit-lab-{guest.name}"),
        *("-machine", "q35", "-accel", accelerator, "-cpu", guest.cpu),
        *("-smp", str(guest.cpus), "-m", f"{guest.memory_bytes // _MIB}M"),
        *("-kernel", str(image), "-initrd", str(places.initramfs), "-append", said),
        *("-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"),
        *("-chardev", _socket("qmp", places.qmp), "-mon", "chardev=qmp,mode=control"),
        *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=root,mount_tag=/dev/root"),
        *_rng(guest.rng),
        *_disks(guest),
        *_ports(guest.ports, places),
    ]


def port_device(port: int) -> dict[str, str | int]:
    """What device_add takes for a port."""
    device, place = divmod(port, _PORTS_OF_A_DEVICE)
    return {
        "driver": "virtserialport",
        "id": f"port{port}",
        "bus": f"serial{device}.0",
        "nr": place + 1,
        "chardev": f"port{port}",
        "name": port_name(port),
    }


def _rng(rng: Unlimited | RngLimit | None) -> Iterator[str]:
    if rng is None:
        return
    yield from ("-object", _BACKENDS[rng.backend])
    limit = f",max-bytes={rng.max_bytes},period={rng.period_ms}" if isinstance(rng, RngLimit) else ""
    yield from ("-device", f"virtio-rng-pci,rng=rng{limit}")


def _disks(guest: LabGuest) -> Iterator[str]:
    for number, path in enumerate(guest.images()):
        # Said to be raw: a guest that writes another format's header into it would otherwise choose what QEMU opens.
        backing = {"driver": "file", "filename": str(path.resolve())}
        yield from ("-blockdev", json.dumps({"driver": "raw", "node-name": f"disk{number}", "file": backing}))
        # By its serial number the agent knows the disk that may be overwritten; the label in it says the same once more.
        serial = f",serial={SERIAL}" if number == len(guest.disks) else ""
        yield from ("-device", f"virtio-blk-pci,drive=disk{number}{serial}")


def _ports(count: int, places: Places) -> Iterator[str]:
    for device in range(-(-count // _PORTS_OF_A_DEVICE)):
        yield from ("-device", f"virtio-serial-pci,id=serial{device}")
    for port in range(count):
        yield from ("-chardev", _socket(f"port{port}", places.socket(port)))
        # It takes the driver's name as just another property.
        yield from ("-device", ",".join(f"{name}={value}" for name, value in port_device(port).items()))


def _socket(name: str, path: Path) -> str:
    # QEMU's way to say a comma inside a value.
    return f"socket,id={name},path={str(path).replace(',', ',,')},server=on,wait=off"
