"""The libvirt domains of a machine: which there are, how each can be sampled, and where our port's socket is.

What is added to them and taken away again is :mod:`toolkit.guests.attachment`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.errors import GuestError
from toolkit.guests.attachment import Attachment, Step, attach, detach
from toolkit.guests.connection import Connection, Domain, connect, in_time
from toolkit.guests.cpu_flags import cpu_flags
from toolkit.guests.domain_xml import UNLIMITED, Channel, Definition, RngDevice, RngLimit
from toolkit.guests.qga import GuestAgent
from toolkit.guests.qga_samples import QgaGuest
from toolkit.guests.wire import PORT_NAME
from toolkit.markup import visible

__all__ = [
    "UNLIMITED",
    "Attachment",
    "DomainRow",
    "RngLimit",
    "Step",
    "attach",
    "attached",
    "channel_socket",
    "detach",
    "domains",
    "through_qga",
]

#: How long a qemu-guest-agent may take to answer, for a list.
_AGENT_LIMIT_S = 2.0
#: How long one domain may take altogether before the list goes on without it.
_DOMAIN_LIMIT_S = 15.0
#: Domains asked at the same time.
_AT_ONCE = 8
#: What a sample through qemu-guest-agent needs of it.
_QGA_NEEDED = frozenset({"guest-file-open", "guest-file-read", "guest-file-close"})


@dataclass(frozen=True)
class DomainRow:
    """A domain, as a list shows it. None is "cannot be told"; where that is so for all of it, ``why`` says what happened.

    Attributes
    ----------
    name, uuid, state : str
        As libvirt says; the name may hold anything.
    machine : str or None
        The machine type.
    kind : str or None
        ``kvm``, or ``qemu`` for TCG.
    acpi : bool or None
        Whether it has ACPI, without which no PCI device can safely come or go while it runs.
    rng : tuple of RngDevice
        Its rng devices, with backend and limit.
    channels : tuple of Channel
        Its virtio-serial ports.
    qga : bool or None
        Whether it has the port of qemu-guest-agent.
    qga_answers : bool or None
        Whether an agent answers there; None where it was not asked.
    cpu_rdrand, cpu_rdseed : bool or None
        What the guest's processor offers, and ``cpu_detail``: what tells it.
    sampled_by : str or None
        ``agent`` (our port is there), ``qga``, or None: it cannot be sampled now.
    why : str
        How it can be sampled, or why not.
    """

    name: str
    uuid: str
    state: str | None = None
    machine: str | None = None
    kind: str | None = None
    acpi: bool | None = None
    rng: tuple[RngDevice, ...] = ()
    channels: tuple[Channel, ...] = ()
    qga: bool | None = None
    qga_answers: bool | None = None
    cpu_rdrand: bool | None = None
    cpu_rdseed: bool | None = None
    cpu_detail: str = ""
    sampled_by: str | None = None
    why: str = ""


def domains(uri: str | None = None) -> list[DomainRow]:
    """The domains of a machine, by name; one that hangs is said to, and hides no other.

    Parameters
    ----------
    uri : str, optional
        Such as ``qemu:///system``; by default libvirt's own default.

    Raises
    ------
    UnavailableError
        If libvirt-python is not installed, or what answers is no QEMU.
    GuestError
        If libvirt cannot be reached.

    Examples
    --------
    >>> [row.name for row in domains() if row.sampled_by is None]  # doctest: +SKIP
    """
    with connect(uri) as connection, ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(partial(_row_or_why, connection), connection.domains()))


def _row_or_why(connection: Connection, domain: Domain) -> DomainRow:
    try:
        return in_time(lambda: _row(connection, domain), _DOMAIN_LIMIT_S, f"asking the domain {domain.shown}")
    except GuestError as error:
        return DomainRow(domain.name, domain.uuid, why=error.what)


def _row(connection: Connection, domain: Domain) -> DomainRow:
    state = domain.state()
    definition = Definition(domain.xml(live=True))
    flags = cpu_flags(connection, definition)
    qga = definition.qga()
    commands, silence = _qga_commands(domain, state) if qga is not None else (None, "")
    sampled_by, why = _how(definition, state, commands, silence)
    return DomainRow(
        name=domain.name,
        uuid=domain.uuid,
        state=state,
        machine=definition.machine,
        kind=definition.kind,
        acpi=definition.acpi,
        rng=tuple(definition.rng_devices()),
        channels=tuple(definition.channels()),
        qga=qga is not None,
        qga_answers=None if qga is None or state != "running" else commands is not None,
        cpu_rdrand=flags.rdrand,
        cpu_rdseed=flags.rdseed,
        cpu_detail=flags.detail,
        sampled_by=sampled_by,
        why=why,
    )


def _qga_commands(domain: Domain, state: str) -> tuple[frozenset[str] | None, str]:
    """What its qemu-guest-agent may do; None where none answers, and why."""
    if state != "running":
        return None, f"the domain is {state}"
    try:
        return GuestAgent(domain.agent, domain.name, _AGENT_LIMIT_S).enabled(), ""
    except GuestError as error:
        return None, error.what


def _how(definition: Definition, state: str, commands: frozenset[str] | None, silence: str) -> tuple[str | None, str]:
    """By what a domain can be sampled now, and the words for it."""
    if state != "running":
        return None, f"it is {state}"
    port = definition.port()
    if port is not None:
        opened = {"connected": "has it open", "disconnected": "has not opened it: no agent runs there"}
        return "agent", f"our port is there; the guest {opened.get(port.state or '', 'may have it open')}"
    attaching = (
        "'toolkit guests attach --next-boot', since it has no virtio-serial controller with a free port"
        if definition.needs_controller()
        else "'toolkit guests attach'"
    )
    if commands is not None and commands >= _QGA_NEEDED:
        return "qga", f"through qemu-guest-agent's file calls; for our agent's rate: {attaching}"
    if commands is not None:
        return None, f"its qemu-guest-agent may not read files (block-rpcs or allow-rpcs in the guest); use {attaching}"
    if definition.qga() is not None:
        return None, f"its qemu-guest-agent does not answer ({silence}); use {attaching}"
    return None, f"it has neither our port nor a qemu-guest-agent; use {attaching}"


def channel_socket(name: str, uri: str | None = None) -> Path:
    """The host's socket of our port in a running domain: it is there, and this user may connect it.

    Parameters
    ----------
    name, uri : str
        The domain's exact name or UUID, and where libvirt is.

    Raises
    ------
    GuestError
        If the domain does not run or has no port of ours, or if its socket cannot be connected; with what to do.

    Examples
    --------
    >>> channel_socket("web1")  # doctest: +SKIP
    """
    with connect(uri) as connection:
        domain = connection.domain(name)
        if not domain.is_active():
            raise GuestError(f"domain {domain.shown} is {domain.state()}", "Start it first.")
        path = _port_path(domain)
        if path is None:
            raise GuestError(f"domain {domain.shown} has no port {PORT_NAME}", f"Run: toolkit guests attach {domain.shown}")
    _check(path, domain.shown)
    return path


def attached(uri: str | None = None) -> list[tuple[str, Path]]:
    """The running domains that have our port: name and socket, by name. A domain that cannot be asked is left out.

    Parameters
    ----------
    uri : str, optional
        Where libvirt is.
    """
    found = []
    with connect(uri) as connection:
        for domain in connection.domains():
            with contextlib.suppress(GuestError):
                path = _port_path(domain) if domain.is_active() else None
                if path is not None:
                    found.append((domain.name, path))
    return found


def _port_path(domain: Domain) -> Path | None:
    port = Definition(domain.xml(live=True)).port()
    return None if port is None or not port.source else Path(port.source)


def _check(path: Path, shown: str) -> None:
    """Make sure that a socket is there and this user's to connect; not by connecting, which the guest would see."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
        allowed = os.access(path, os.W_OK, effective_ids=True)
    except OSError as error:
        is_socket, allowed = False, error.errno != errno.EACCES
    if not allowed:
        raise GuestError(
            f"the socket {visible(path)} of domain {shown} may not be connected by this user",
            "Run as root, or as the user whose domain it is.",
        )
    if not is_socket:
        raise GuestError(
            f"the socket {visible(path)} of domain {shown} is not there",
            "Where libvirt is another machine's, watch there; else look whether the domain still runs: virsh list.",
        )


@contextlib.contextmanager
def through_qga(name: str, uri: str | None = None, limit_s: float = 5.0) -> Iterator[QgaGuest]:
    """A running domain's guest, to be sampled through its qemu-guest-agent. Use it in one thread.

    Parameters
    ----------
    name, uri : str
        The domain's exact name or UUID, and where libvirt is.
    limit_s : float
        The most that one command may take, in whole seconds.

    Raises
    ------
    GuestError
        If the domain does not run or has no qemu-guest-agent's port.

    Examples
    --------
    >>> with through_qga("web1") as guest:  # doctest: +SKIP
    ...     guest.look().entropy_avail_bits
    """
    with connect(uri) as connection:
        domain = connection.domain(name)
        if not domain.is_active():
            raise GuestError(f"domain {domain.shown} is {domain.state()}", "Start it first.")
        if Definition(domain.xml(live=True)).qga() is None:
            raise GuestError(
                f"domain {domain.shown} has no port for qemu-guest-agent", "Give it one, or use our agent: toolkit guests attach."
            )
        yield QgaGuest(GuestAgent(domain.agent, domain.name, limit_s))
