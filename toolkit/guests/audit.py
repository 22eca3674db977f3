"""Gathers what can be known of every domain of one or many hosts: its definition, its guest's own word, a store's, its moves.

Every question is bounded in time, and what hangs hides nothing else: a host that does not answer is one row that says so, a domain
whose libvirt hangs another, and a guest that is silent still has its definition. Nothing is changed anywhere. What the facts mean
is said by :mod:`toolkit.analysis.verdicts`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from toolkit.errors import GuestError, ToolkitError, UnavailableError
from toolkit.guests.at_once import at_once
from toolkit.guests.audit_facts import Facts, Move, NextStart, Target, of_rng_state
from toolkit.guests.audit_store import recently
from toolkit.guests.connection import Connection, Domain, connect, in_time
from toolkit.guests.cpu_flags import cpu_flags
from toolkit.guests.domain_xml import Definition, RngDevice
from toolkit.guests.migration import move
from toolkit.guests.qga import GuestAgent
from toolkit.guests.qga_samples import QgaGuest
from toolkit.markup import visible
from toolkit.progress import Progress, silent
from toolkit.store import Store

__all__ = ["Audited", "gather"]

#: How long libvirt may take for one domain altogether, its guest for its own word, and another host for the comparison.
_DOMAIN_LIMIT_S = 20.0
_GUEST_LIMIT_S = 45.0
_MOVE_LIMIT_S = 20.0
#: How long one command of a qemu-guest-agent may take.
_AGENT_LIMIT_S = 3.0


@dataclass(frozen=True)
class Audited:
    """A domain of a host and what is known of it; a host that could not be asked has one without a domain.

    Attributes
    ----------
    host, uri : str
        The host's own name (where it did not say it, or another of the set has the same, the URI), and where its libvirt is.
    facts : Facts
        ``facts.target`` is the domain.
    """

    host: str
    uri: str
    facts: Facts

    @property
    def name(self) -> str:
        """The domain's name, which may hold anything; empty for a host that could not be asked."""
        return "" if self.facts.target is None else self.facts.target.name


@dataclass(frozen=True)
class _Host:
    name: str
    connection: Connection
    domains: tuple[Domain, ...]
    #: Hosts of the set that could not be asked.
    missing: tuple[Move, ...] = ()


def gather(uris: Sequence[str | None], store: Store | None = None, progress: Progress = silent) -> list[Audited]:
    """What can be known of all domains of some hosts, by host and name.

    Parameters
    ----------
    uris : sequence of str or None
        The hosts; None is libvirt's own default. Two that lead to one libvirt are one host.
    store : Store, optional
        Where a guest does not say something itself, what the store received from its agent a short while ago is used.
    progress : callable, optional
        Called with the domains done, all domains, and the domain.

    Raises
    ------
    UnavailableError
        If libvirt-python is not installed.
    ToolkitError
        If not one of the hosts can be asked: what is wrong with the first.

    Examples
    --------
    >>> [each.facts.state for each in gather([None])]  # doctest: +SKIP
    """
    with contextlib.ExitStack() as stack:
        hosts, failed = _connected(list(dict.fromkeys(uris)), stack)
        if not hosts:
            raise next(iter(failed.values()))
        names = Counter(domain.name for host in hosts for domain in host.domains)
        asked = [(host, domain) for host in hosts for domain in host.domains]
        questions = [partial(_facts, domain, host, hosts, store, names[domain.name]) for host, domain in asked]
        found = []
        for done, (place, facts) in enumerate(at_once(questions), 1):
            if isinstance(facts, BaseException):
                raise facts
            host, domain = asked[place]
            progress(done, len(asked), domain.shown)
            found.append(Audited(host.name, host.connection.uri, facts))
    for uri, error in failed.items():
        at = visible(uri or "libvirt's default address")
        found.append(Audited(at, at, Facts(unreachable=error.what)))
    return sorted(found, key=lambda each: (each.host, each.uri, each.name))


def _connected(uris: list[str | None], stack: contextlib.ExitStack) -> tuple[list[_Host], dict[str | None, ToolkitError]]:
    """The hosts that answer, each once, and why the others do not. They are asked at once: one that hangs delays no other."""
    answers = dict(at_once([partial(_opened, uri) for uri in uris]))
    hosts: dict[str, _Host] = {}
    failed: dict[str | None, ToolkitError] = {}
    for place, uri in enumerate(uris):
        answer = answers[place]
        if isinstance(answer, (GuestError, UnavailableError)):
            failed[uri] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            left, host = answer
            stack.push(left)
            hosts.setdefault(host.connection.uri, host)
    alike = Counter(host.name for host in hosts.values())
    missing = tuple(Move(visible(uri or "libvirt's default address"), None, None, error.what) for uri, error in failed.items())
    named = [replace(host, name=host.name if alike[host.name] == 1 else uri, missing=missing) for uri, host in hosts.items()]
    return named, failed


def _opened(uri: str | None) -> tuple[contextlib.ExitStack, _Host]:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connect(uri))
        host = _Host(visible(connection.host_name()), connection, tuple(connection.domains()))
        return stack.pop_all(), host


def _facts(domain: Domain, host: _Host, hosts: Sequence[_Host], store: Store | None, namesakes: int) -> Facts:
    uri = host.connection.uri
    try:
        facts, definition = in_time(lambda: _by_the_host(domain, uri), _DOMAIN_LIMIT_S, f"asking the domain {domain.shown}")
    except GuestError as error:
        return Facts(target=Target(uri, domain.name, domain.uuid), silence=error.what)
    if facts.state == "running":
        facts = _by_the_guest(domain, facts, definition)
        facts = recently(store, facts, domain.name, namesakes)
    moves = [_moved(domain, facts.cpu_rdrand, other) for other in hosts if other is not host]
    return replace(facts, moves=(*moves, *host.missing))


def _by_the_host(domain: Domain, uri: str) -> tuple[Facts, Definition]:
    """What libvirt says: the definition as it runs, and as it will start."""
    state = domain.state()
    running, persistent = domain.is_active(), domain.is_persistent()
    definition = Definition(domain.xml(live=True))
    flags = cpu_flags(domain.connection, definition)
    refusal = definition.refuses_pci()
    target = Target(
        uri,
        domain.name,
        domain.uuid,
        running=running,
        persistent=persistent,
        hot_pluggable=refusal is None,
        why_not="" if refusal is None else refusal.what,
    )
    facts = Facts(
        target=target,
        state=state,
        cpu_rdrand=flags.rdrand,
        rdrand_detail=flags.detail,
        devices=_virtio_rngs(definition),
    )
    if running and persistent:
        facts = _configured(facts, domain, Definition(domain.xml(live=False)))
    return facts, definition


def _virtio_rngs(definition: Definition) -> tuple[RngDevice, ...]:
    return tuple(each for each in definition.rng_devices() if (each.model or "").startswith("virtio"))


def _configured(facts: Facts, domain: Domain, inactive: Definition) -> Facts:
    """The facts, and what the configuration of a running domain has otherwise."""
    devices, flags = _virtio_rngs(inactive), cpu_flags(domain.connection, inactive)
    # A processor that is the host's is written otherwise where it runs, so that what is compared is what libvirt makes of both.
    other = flags.rdrand is not None and facts.cpu_rdrand is not None and flags.rdrand is not facts.cpu_rdrand
    if not other and _alike(devices) == _alike(facts.devices or ()):
        return facts
    coming = NextStart(devices, flags.rdrand, f"its configuration: {flags.detail}") if other else NextStart(devices)
    return replace(facts, next_start=coming)


def _alike(devices: Sequence[RngDevice]) -> Counter[RngDevice]:
    """What can be compared: libvirt gives each device of a running domain an alias."""
    return Counter(replace(each, alias=None) for each in devices)


def _by_the_guest(domain: Domain, facts: Facts, definition: Definition) -> Facts:
    """What the guest says itself, through its qemu-guest-agent, which reads files and a kernel log and leaves nothing behind."""
    if definition.qga() is None:
        return replace(facts, silence="it has no port of qemu-guest-agent")
    guest = QgaGuest(GuestAgent(domain.agent, domain.name, _AGENT_LIMIT_S))
    try:
        return in_time(lambda: _asked(guest, facts), _GUEST_LIMIT_S, f"asking the guest of {domain.shown}")
    except GuestError as error:
        return replace(facts, silence=visible(error.what, 300))


def _asked(guest: QgaGuest, facts: Facts) -> Facts:
    identity = guest.identity()
    asked = of_rng_state(identity.state, "its qemu-guest-agent", identity.kernel, facts)
    return replace(
        asked,
        boot_id=identity.boot_id,
        # Its files were copied without its list of devices and of processes: neither says "none".
        virtio_rng_unbound=None,
        feeders=guest.feeders(),
        cpu_rdrand=facts.cpu_rdrand if asked.cpu_rdrand is None else asked.cpu_rdrand,
        rdrand_detail=facts.rdrand_detail if asked.cpu_rdrand is None else "its cpuinfo",
    )


def _moved(domain: Domain, rdrand: bool | None, other: _Host) -> Move:
    def compared() -> Move:
        return move(Definition(domain.migratable_xml()), rdrand, other.name, other.connection)

    try:
        return in_time(compared, _MOVE_LIMIT_S, f"comparing the processor of {domain.shown} with that of {other.name}")
    except GuestError as error:
        return Move(other.name, None, None, error.what)
