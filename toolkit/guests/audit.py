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

from toolkit.errors import GuestError, StoreError, ToolkitError
from toolkit.guests.at_once import at_once
from toolkit.guests.audit_facts import Facts, Move, NextStart, Target, of_rng_state
from toolkit.guests.audit_hosts import Host, connected
from toolkit.guests.audit_store import Recent
from toolkit.guests.connection import Domain, in_time
from toolkit.guests.domain_xml import Channel, Definition, RngDevice
from toolkit.guests.qga import GuestAgent, RefusedError
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
        If not one of the hosts can be asked: what is wrong with each.

    Examples
    --------
    >>> [each.facts.state for each in gather([None])]  # doctest: +SKIP
    """
    with contextlib.ExitStack() as stack:
        hosts, failed = connected(list(dict.fromkeys(uris)), stack)
        if not hosts:
            raise _all_of(list(failed.values()))
        asked = [(host, domain) for host in hosts for domain in host.domains]
        names = Counter((host.own_name, domain.name) for host, domain in asked)
        recent = Recent(store, {domain.name for _, domain in asked})
        questions = [partial(_facts, domain, host, hosts, recent, names[host.own_name, domain.name]) for host, domain in asked]
        found = []
        for done, (place, facts) in enumerate(at_once(questions), 1):
            host, domain = asked[place]
            if isinstance(facts, (ToolkitError, OSError)):
                facts = Facts(target=_unasked(domain, host), silence=_words(facts))
            elif isinstance(facts, BaseException):
                raise facts
            progress(done, len(asked), domain.shown)
            found.append(Audited(host.name, host.connection.uri, facts))
    for uri, error in failed.items():
        at = visible(uri or "libvirt's default address")
        facts = Facts(unreachable=error.what, unreachable_remedy=error.remedy, unreachable_uri=visible(uri or "", None))
        found.append(Audited(at, at, facts))
    return sorted(found, key=lambda each: (each.host, each.uri, each.name))


def _all_of(errors: Sequence[ToolkitError]) -> ToolkitError:
    """One error for hosts none of which can be asked: the first where there is one, else all of them."""
    if len(errors) == 1:
        return errors[0]
    remedies = dict.fromkeys(error.remedy for error in errors if error.remedy)
    return GuestError("; ".join(error.what for error in errors), " ".join(remedies))


def _unasked(domain: Domain, host: Host) -> Target:
    return Target(host.connection.uri, domain.name, domain.uuid)


def _words(error: Exception) -> str:
    return visible(error.what if isinstance(error, ToolkitError) else error, 300)


def _facts(domain: Domain, host: Host, hosts: Sequence[Host], recent: Recent, namesakes: int) -> Facts:
    if host.lost:
        return Facts(target=_unasked(domain, host), silence=host.lost)
    try:
        facts, definition = in_time(lambda: _by_the_host(domain, host), _DOMAIN_LIMIT_S, f"asking the domain {domain.shown}")
    except GuestError as error:
        host.after(error)
        return Facts(target=_unasked(domain, host), silence=error.what)
    if facts.state == "running":
        facts = _by_the_guest(domain, facts, definition)
        try:
            facts = recent.beside(facts, domain.name, host.own_name, namesakes)
        except (StoreError, OSError) as error:
            facts = replace(facts, notes=(*facts.notes, f"What the store has of it could not be read: {_words(error)}."))
    moves = [_moved(domain, facts.cpu_rdrand, host, other) for other in hosts if other is not host]
    return replace(facts, moves=(*moves, *host.missing))


def _by_the_host(domain: Domain, host: Host) -> tuple[Facts, Definition]:
    """What libvirt says: the definition as it runs, and as it will start."""
    state = domain.state()
    running, persistent = domain.is_active(), domain.is_persistent()
    definition = Definition(domain.xml(live=True))
    flags = host.cpu_flags(definition)
    refusal = definition.refuses_pci()
    target = Target(
        host.connection.uri,
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
        inactive = Definition(domain.xml(live=False))
        facts = _configured(facts, host, inactive)
        if definition.qga() is None and inactive.qga() is not None:
            facts = replace(facts, silent_for="port configured")
    return facts, definition


def _virtio_rngs(definition: Definition) -> tuple[RngDevice, ...]:
    return tuple(each for each in definition.rng_devices() if (each.model or "").startswith("virtio"))


def _configured(facts: Facts, host: Host, inactive: Definition) -> Facts:
    """The facts, and what the configuration of a running domain has otherwise."""
    devices, flags = _virtio_rngs(inactive), host.cpu_flags(inactive)
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
    port = definition.qga()
    if port is None:
        return replace(facts, silence="it has no port of qemu-guest-agent", silent_for=facts.silent_for or "no port")
    guest = QgaGuest(GuestAgent(domain.agent, domain.name, _AGENT_LIMIT_S))
    try:
        return in_time(lambda: _asked(guest, facts), _GUEST_LIMIT_S, f"asking the guest of {domain.shown}")
    except (GuestError, OSError) as error:
        return replace(facts, silence=_words(error), silent_for=_silent_for(port, error))


def _silent_for(port: Channel, error: Exception) -> str:
    if isinstance(error, RefusedError):
        return "refused"
    return "disconnected" if port.state == "disconnected" else "no answer"


def _asked(guest: QgaGuest, facts: Facts) -> Facts:
    identity = guest.identity()
    asked = of_rng_state(identity.state, "its qemu-guest-agent", identity.kernel, facts)
    if identity.no_hw_random and asked.hwrng_available is None:
        # As Debian's cloud kernels are until a driver of a source is loaded, which brings rng_available along.
        asked = replace(asked, hwrng_available=(), notes=(*asked.notes, "Its kernel has loaded no driver of any hardware source."))
    return replace(
        asked,
        boot_id=identity.boot_id,
        # Its files were copied without its list of devices and of processes: neither says "none".
        virtio_rng_unbound=None,
        feeders=guest.feeders(),
        cpu_rdrand=facts.cpu_rdrand if asked.cpu_rdrand is None else asked.cpu_rdrand,
        rdrand_detail=facts.rdrand_detail if asked.cpu_rdrand is None else "its cpuinfo",
    )


def _moved(domain: Domain, rdrand: bool | None, host: Host, other: Host) -> Move:
    for each in (host, other):
        if each.lost:
            return Move(other.name, None, None, each.lost, other.connection.uri)
    try:
        found = in_time(
            lambda: other.move(Definition(domain.migratable_xml()), rdrand),
            _MOVE_LIMIT_S,
            f"comparing the processor of {domain.shown} with that of {other.name}",
        )
    except GuestError as error:
        host.after(error)
        other.after(error)
        found = Move(other.name, None, None, error.what)
    return replace(found, uri=other.connection.uri)
