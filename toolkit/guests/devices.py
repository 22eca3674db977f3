"""Parts of QEMU's command line that every kind of lab guest has: its virtio-rng with what feeds it, ports, sockets."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.errors import UsageError
from toolkit.guests import egd
from toolkit.guests.wire import PORT_NAME

__all__ = [
    "BACKENDS",
    "CONFINED",
    "EGD",
    "MOST_PORTS",
    "Backend",
    "RngLimit",
    "Unlimited",
    "check_rng",
    "egd_feeder",
    "port_device",
    "port_name",
    "ports",
    "rng_device",
    "socket_chardev",
]

#: Ports of one guest.
MOST_PORTS = 31
# A virtio-serial device has 31, but its first is kept for a console (hw/char/virtio-serial-bus.c): the last needs another device.
_PORTS_OF_A_DEVICE = 30

#: What QEMU itself gets: no device that was not asked for, and what a guest that breaks out of its devices may not do: start
#: programs, or become another user.
CONFINED = (
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
    *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
)

# What QEMU's properties max-bytes and period hold (hw/virtio/virtio-rng.c).
_MOST_MAX_BYTES = 2**63 - 1
_MOST_PERIOD_MS = 2**32 - 1

Backend = Literal["random", "builtin", "/dev/random", "/dev/urandom", "/dev/hwrng", "egd"]

#: The backend that needs a feeder beside QEMU: :func:`egd_feeder`.
EGD: Backend = "egd"

#: What feeds a virtio-rng, and how QEMU is told.
BACKENDS: Mapping[Backend, str] = {
    "random": "rng-random,id=rng,filename=/dev/urandom",
    "builtin": "rng-builtin,id=rng",
    "/dev/random": "rng-random,id=rng,filename=/dev/random",
    "/dev/urandom": "rng-random,id=rng,filename=/dev/urandom",
    "/dev/hwrng": "rng-random,id=rng,filename=/dev/hwrng",
    EGD: "rng-egd,id=rng,chardev=egd",
}


@dataclass(frozen=True, kw_only=True)
class Unlimited:
    """A virtio-rng without a limit.

    Attributes
    ----------
    backend : str
        ``random`` or the path of one of the host's devices: QEMU reads it, /dev/urandom for ``random``; ``builtin``: QEMU's own
        getrandom; ``egd``: a program that QEMU asks over a socket.
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


def check_rng(rng: Unlimited | RngLimit | None) -> None:
    """Refuse a virtio-rng that cannot be meant.

    Raises
    ------
    UsageError
        Names what can be given.
    """
    if isinstance(rng, RngLimit) and (rng.max_bytes < 1 or rng.period_ms < 1):
        raise UsageError("A virtio-rng's limit is at least 1 byte in at least 1 ms", "For no limit give Unlimited().")
    if isinstance(rng, RngLimit) and (rng.max_bytes > _MOST_MAX_BYTES or rng.period_ms > _MOST_PERIOD_MS):
        raise UsageError("QEMU cannot count so many bytes or so long a period", f"Give a period of {_MOST_PERIOD_MS} ms at most.")
    if rng is not None and rng.backend not in BACKENDS:
        raise UsageError(f"{rng.backend!r} is no backend of virtio-rng here", f"Give one of: {', '.join(BACKENDS)}.")


def rng_device(rng: Unlimited | RngLimit | None, egd_socket: Path | None = None, *, translated: bool = False) -> Iterator[str]:
    """QEMU's arguments for a virtio-rng.

    Parameters
    ----------
    rng : Unlimited, RngLimit or None
        The device.
    egd_socket : Path, optional
        Where a feeder may come, for the backend that needs one.
    translated : bool
        Whether the guest runs under TCG. Then a thread of its own for the guest's requests, which is quick under KVM, makes each
        wait for the other: a guest drew 0.9 to 1.3 MB/s with it here, 1.4 without.
    """
    if rng is None:
        return
    if rng.backend == EGD and egd_socket is not None:
        yield from ("-chardev", socket_chardev("egd", egd_socket))
    yield from ("-object", BACKENDS[rng.backend])
    limit = f",max-bytes={rng.max_bytes},period={rng.period_ms}" if isinstance(rng, RngLimit) else ""
    yield from ("-device", f"virtio-rng-pci,rng=rng{limit}{',ioeventfd=off' if translated else ''}")


def egd_feeder(egd_socket: Path) -> list[str]:
    """The command that answers what the backend ``egd`` asks for."""
    return [sys.executable, "-I", "-S", egd.__file__, str(egd_socket)]


def port_name(port: int) -> str:
    """What a port is called in the guest, counted from 0: /dev/virtio-ports/NAME.

    Examples
    --------
    >>> port_name(0), port_name(30)
    ('org.virt_toolkit.agent.0', 'org.virt_toolkit.agent.30')
    """
    return f"{PORT_NAME.rpartition('.')[0]}.{port}"


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


def ports(sockets: list[Path], *, watched: bool = True) -> Iterator[str]:
    """QEMU's arguments for ports, with the host's end of each.

    Parameters
    ----------
    sockets : list of Path
        The host's ends.
    watched : bool
        Whether QEMU's main loop watches each of a device's 64 queues, so that a port's bytes go while the guest runs on. It then
        looks at all of them for each request of any other device: a sixth of what QEMU does for a guest that draws all it can.
    """
    for device in range(-(-len(sockets) // _PORTS_OF_A_DEVICE)):
        yield from ("-device", f"virtio-serial-pci,id=serial{device}{'' if watched else ',ioeventfd=off'}")
    for port, path in enumerate(sockets):
        yield from ("-chardev", socket_chardev(f"port{port}", path))
        # It takes the driver's name as just another property.
        yield from ("-device", ",".join(f"{name}={value}" for name, value in port_device(port).items()))


def socket_chardev(name: str, path: Path) -> str:
    """A socket of QEMU's, at which one peer may come at a time."""
    # QEMU's way to say a comma inside a value.
    return f"socket,id={name},path={str(path).replace(',', ',,')},server=on,wait=off"
