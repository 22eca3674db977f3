"""A lab guest as it is asked for, and QEMU's command line for it. Nothing is started here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import UsageError
from toolkit.guests.devices import (
    CONFINED,
    EGD,
    MOST_PORTS,
    RngLimit,
    Unlimited,
    check_rng,
    port_device,
    port_name,
    ports,
    rng_device,
    socket_chardev,
)
from toolkit.guests.scratch_disk import SERIAL
from toolkit.units import bytes_text

__all__ = ["MOST_PORTS", "LabGuest", "Places", "RngLimit", "Unlimited", "check_name", "command_line", "port_device", "port_name"]

_MIB = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
# unix(7): sun_path, with its final zero.
_MOST_PATH_BYTES = 107
# Debian's kernel and its initramfs do not boot in less.
_LEAST_MEMORY_BYTES = 192 * _MIB


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
        check_name(self.name)
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
        check_rng(self.rng)
        if self.rng is not None and self.rng.backend == EGD:
            raise UsageError("Such a lab guest has nothing that feeds rng-egd", "Give another backend.")
        for disk in self.images():
            if not disk.is_file():
                raise UsageError(f"{str(disk)!r} is no disk image", "Make one first, for example with: truncate -s 1G IMAGE")

    def images(self) -> list[Path]:
        """Of all its disks, in their order."""
        return [*self.disks, *([] if self.scratch_disk is None else [self.scratch_disk])]

    def modules(self) -> list[str]:
        """The kernel's modules for what it has, beside those of virtme-ng's initramfs."""
        return ["overlay", "virtio_console", *["virtio_rng"] * (self.rng is not None), *["virtio_blk"] * bool(self.images())]


def check_name(name: str) -> None:
    """Refuse what is no name for a lab guest.

    Raises
    ------
    UsageError
        Says what a name is.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a lab guest", "Up to 32 letters, digits, '-' and '_'.")


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
    def egd(self) -> Path:
        """Where a feeder of its virtio-rng may come."""
        return self.folder / f"{self.name}.egd"

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


def command_line(guest: LabGuest, places: Places, *, qemu: str, image: Path, accelerator: str, init: str) -> list[str]:
    """QEMU's command line: no network, no disk but those asked for, the host's root read-only, the console to standard output."""
    said = f"console=ttyS0 quiet panic=-1 {init} {guest.append}".rstrip()
    return [
        *(qemu, *CONFINED),
        *("-name", f"virt-toolkit-lab-{guest.name}"),
        *("-machine", "q35", "-accel", accelerator, "-cpu", guest.cpu),
        *("-smp", str(guest.cpus), "-m", f"{guest.memory_bytes // _MIB}M"),
        *("-kernel", str(image), "-initrd", str(places.initramfs), "-append", said),
        *("-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"),
        *("-chardev", socket_chardev("qmp", places.qmp), "-mon", "chardev=qmp,mode=control"),
        *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=root,mount_tag=/dev/root"),
        *rng_device(guest.rng),
        *_disks(guest),
        *ports([places.socket(port) for port in range(guest.ports)]),
    ]


def _disks(guest: LabGuest) -> Iterator[str]:
    for number, path in enumerate(guest.images()):
        # Said to be raw: a guest that writes another format's header into it would otherwise choose what QEMU opens.
        backing = {"driver": "file", "filename": str(path.resolve())}
        yield from ("-blockdev", json.dumps({"driver": "raw", "node-name": f"disk{number}", "file": backing}))
        # By its serial number the agent knows the disk that may be overwritten; the label in it says the same once more.
        serial = f",serial={SERIAL}" if number == len(guest.disks) else ""
        yield from ("-device", f"virtio-blk-pci,drive=disk{number}{serial}")
