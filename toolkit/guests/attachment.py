"""Our port, and a virtio-rng, into a domain and out of it, while it runs and in its configuration.

What may be done to a running guest is decided in :mod:`toolkit.guests.domain_xml`, before anything is changed; what a call did is
undone if the rest of it fails. Devices that do not bear our alias are never touched.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from toolkit.errors import GuestError, ToolkitWarning
from toolkit.guests import delivery
from toolkit.guests.connection import Domain, connect
from toolkit.guests.domain_xml import (
    OUR_CONTROLLER,
    OUR_PORT,
    OUR_RNG,
    Channel,
    Definition,
    RngLimit,
    controller_xml,
    port_xml,
    rng_xml,
)
from toolkit.guests.qga import GuestAgent
from toolkit.guests.unplugging import unplug, why_not_now

__all__ = ["Attachment", "Step", "attach", "detach"]

#: A guest that loses its disk to a device that came loses it within a second.
_SETTLE_S = 1.5
#: States in which a domain's devices may come and go.
_LIVING = ("running", "paused", "blocked")

_LIVE = "the running guest"
_CONFIG = "its configuration"
_PORT = "port"
_RNG = "virtio-rng"
_CONTROLLER = "virtio-serial controller"
_AGENT = "agent"
_OURS = {OUR_PORT: _PORT, OUR_RNG: _RNG, OUR_CONTROLLER: _CONTROLLER}


@dataclass(frozen=True)
class Step:
    """One thing that was done or found: what (a device, the agent), where, its outcome in a word or two, and the detail."""

    what: str
    where: str
    outcome: str
    detail: str = ""


@dataclass
class Attachment:
    """What :func:`attach` or :func:`detach` did to a domain.

    Attributes
    ----------
    domain : str
        Its name.
    steps : list of Step
        In order.
    by_hand : tuple of str
        Lines that remain to be run in the guest, as root; empty where nothing remains.
    """

    domain: str
    steps: list[Step] = field(default_factory=list)
    by_hand: tuple[str, ...] = ()

    def note(self, what: str, where: str, outcome: str, detail: str = "") -> None:
        """Add a step."""
        self.steps.append(Step(what, where, outcome, detail))


def attach(
    name: str,
    *,
    rng: RngLimit | None = None,
    next_boot: bool = False,
    agent_config: bytes | None = None,
    uri: str | None = None,
) -> Attachment:
    """Give a domain our port (and a virtio-rng), and its guest our agent. Twice is no error.

    A running domain gets them at once and, where it has one, in its configuration; one that is shut off, in its configuration.

    Parameters
    ----------
    name : str
        The domain's exact name, or its UUID.
    rng : RngLimit, optional
        Add a virtio-rng with this limit, fed from the host's /dev/urandom.
    next_boot : bool
        Change the configuration alone.
    agent_config : bytes, optional
        A configuration for the agent; without one it allows nothing beyond its samples.
    uri : str, optional
        Where libvirt is.

    Raises
    ------
    GuestError
        If the running guest cannot take it safely (nothing is changed then), or libvirt or the guest fails (what was done is
        undone).

    Examples
    --------
    >>> attach("web1", rng=RngLimit(1024, 1000)).steps  # doctest: +SKIP
    """
    with connect(uri) as connection:
        domain = connection.domain(name)
        active, persistent = domain.is_active(), domain.is_persistent()
        if next_boot and not persistent:
            raise GuestError(
                f"domain {domain.shown} is transient: it has no configuration for a next boot", "Attach it while it runs."
            )
        done = Attachment(domain.name)
        with contextlib.ExitStack() as undo:
            if active and not next_boot:
                _attach_live(domain, rng, done, undo)
            if persistent:
                _attach_config(domain, rng, done, undo)
            if active and not next_boot:
                _deliver(domain, agent_config, done)
            elif active:
                done.note(_AGENT, _LIVE, "later", "attach it again after the domain's next start")
            else:
                done.note(_AGENT, _LIVE, "later", "the domain is shut off: attach it again when it runs")
            undo.pop_all()
        return done


def _attach_live(domain: Domain, rng: RngLimit | None, done: Attachment, undo: contextlib.ExitStack) -> None:
    state = domain.state()
    if state not in _LIVING:
        raise GuestError(
            f"domain {domain.shown} is {state}: nothing is added to it now", "Use --next-boot, or attach it when it runs."
        )
    definition = Definition(domain.xml(live=True))
    port = definition.port()
    new_rng = _new_rng(domain, definition, rng)
    if port is None and definition.needs_controller():
        raise GuestError(
            f"domain {domain.shown} has no virtio-serial controller with a free port, and one cannot be added while it runs",
            "Use --next-boot: it adds one to the configuration, and it is there when the domain next starts.",
        )
    refusal = definition.refuses_pci() if new_rng else None
    if refusal is not None:
        raise GuestError(f"domain {domain.shown} cannot take a virtio-rng while it runs: {refusal.what}", refusal.remedy)
    answered = _answers(domain)
    if port is None:
        undo.callback(_take_back, domain, OUR_PORT, True)
        domain.attach(port_xml(), live=True)
        done.note(_PORT, _LIVE, "added")
    else:
        _note_port(done, port, _LIVE)
    if new_rng and rng is not None:
        undo.callback(_take_back, domain, OUR_RNG, True)
        domain.attach(rng_xml(rng), live=True)
        others = len(definition.rng_devices())
        done.note(
            _RNG,
            _LIVE,
            "added",
            str(rng) + (f"; beside {others} of somebody else's: rng_current in the guest says which it reads" if others else ""),
        )
    elif rng is not None:
        done.note(_RNG, _LIVE, "there already", str(rng))
    if port is None or new_rng:
        done.note("guest", _LIVE, *_lives(domain, answered, hurt_by_pci=new_rng))


def _attach_config(domain: Domain, rng: RngLimit | None, done: Attachment, undo: contextlib.ExitStack) -> None:
    definition = Definition(domain.xml(live=False))
    port = definition.port()
    new_rng = _new_rng(domain, definition, rng)
    if port is None:
        if definition.needs_controller():
            undo.callback(_take_back, domain, OUR_CONTROLLER, False)
            domain.attach(controller_xml(definition.free_controller_index()), live=False)
            done.note(_CONTROLLER, _CONFIG, "added")
        undo.callback(_take_back, domain, OUR_PORT, False)
        domain.attach(port_xml(), live=False)
        done.note(_PORT, _CONFIG, "added")
    else:
        _note_port(done, port, _CONFIG)
    if new_rng and rng is not None:
        undo.callback(_take_back, domain, OUR_RNG, False)
        domain.attach(rng_xml(rng), live=False)
        done.note(_RNG, _CONFIG, "added", str(rng))
    elif rng is not None:
        done.note(_RNG, _CONFIG, "there already", str(rng))


def _note_port(done: Attachment, port: Channel, where: str) -> None:
    """Say of a port that was there before whose it is."""
    done.note(_PORT, where, "there already", "" if port.alias == OUR_PORT else "somebody else's: detach will leave it")


def _new_rng(domain: Domain, definition: Definition, rng: RngLimit | None) -> bool:
    """Whether a virtio-rng must be added; ours with another limit is no answer to what was asked."""
    if rng is None:
        return False
    ours = [device for device in definition.rng_devices() if device.alias == OUR_RNG]
    if ours and not ours[0].same_limit(rng):
        raise GuestError(
            f"domain {domain.shown} has our virtio-rng already, with another limit than {rng}",
            "A limit cannot be changed while the device is there: toolkit guests detach, then attach again.",
        )
    return not ours


def _take_back(domain: Domain, alias: str, live: bool) -> None:
    """Undo an addition that may not have happened; an error here must not hide the one that led here, so it is warned of."""
    try:
        definition = Definition(domain.xml(live=live))
        if not definition.has(alias):
            return
        why_not = why_not_now(domain, definition, alias) if live else None
        if why_not is None and live:
            unplug(domain, alias)
        elif why_not is None:
            domain.detach(alias, live=False)
    except GuestError as error:
        why_not = error.what
    if why_not is not None:
        where = _LIVE if live else _CONFIG
        warnings.warn(
            f"our {_OURS[alias]} stays in {where} of domain {domain.shown}: {why_not}. To take it away: toolkit guests detach",
            ToolkitWarning,
            stacklevel=2,
        )


def _answers(domain: Domain) -> bool:
    channel = Definition(domain.xml(live=True)).qga()
    if channel is None or domain.state() != "running":
        return False
    try:
        GuestAgent(domain.agent, domain.name, 3.0).call("guest-ping")
    except GuestError:
        return False
    return True


def _lives(domain: Domain, answered: bool, *, hurt_by_pci: bool) -> tuple[str, str]:
    """Whether the guest still lives after a device came; what shows it.

    Raises
    ------
    GuestError
        If it does not: the caller's undoing takes the device away again.
    """
    if hurt_by_pci:
        time.sleep(_SETTLE_S)
    state = domain.state()
    if state not in _LIVING:
        raise GuestError(f"domain {domain.shown} is {state} after the device was added", "Look at its log and console.")
    if not answered:
        return state, "" if state == "paused" else "as libvirt says; no qemu-guest-agent that could be asked"
    if not _answers(domain):
        raise GuestError(
            f"the guest of domain {domain.shown} no longer answers after the device was added, which was taken away again",
            "Look at its console; --next-boot changes the configuration alone.",
        )
    return state, "and its qemu-guest-agent answers as before"


def _deliver(domain: Domain, config: bytes | None, done: Attachment) -> None:
    if not _answers(domain):
        done.note(_AGENT, _LIVE, "not delivered", "no qemu-guest-agent answers there")
    else:
        came = delivery.deliver(GuestAgent(domain.agent, domain.name), config)
        outcome = "there already" if came.already else "started" if came.started else "not delivered"
        done.note(_AGENT, _LIVE, outcome, came.detail)
        if came.started or came.already:
            return
    done.by_hand = delivery.by_hand(config is not None)


def detach(name: str, *, uri: str | None = None) -> Attachment:
    """Take our agent, our port and our virtio-rng away from a domain, also from its configuration. Twice is no error.

    A root port that libvirt itself added to the configuration for our device stays there; it is empty.

    Parameters
    ----------
    name, uri : str
        As for :func:`attach`.

    Raises
    ------
    GuestError
        If the guest does not let a device go; everything else is taken away then all the same.

    Examples
    --------
    >>> detach("web1").steps  # doctest: +SKIP
    """
    with connect(uri) as connection:
        domain = connection.domain(name)
        done = Attachment(domain.name)
        failures: list[GuestError] = []
        if domain.is_active():
            definition = Definition(domain.xml(live=True))
            _withdraw(domain, definition, done)
            for alias in (OUR_PORT, OUR_RNG, OUR_CONTROLLER):
                if definition.has(alias):
                    _kept(failures, lambda alias=alias: _detach_live(domain, definition, alias, done))  # type: ignore[misc]
        if domain.is_persistent():
            definition = Definition(domain.xml(live=False))
            for alias in (OUR_PORT, OUR_RNG, OUR_CONTROLLER):
                if definition.has(alias):
                    _kept(failures, lambda alias=alias: domain.detach(alias, live=False))  # type: ignore[misc]
                    if not Definition(domain.xml(live=False)).has(alias):
                        done.note(_OURS[alias], _CONFIG, "removed")
        if failures:
            removed = ", ".join(f"{step.what} from {step.where}" for step in done.steps if step.outcome == "removed")
            raise GuestError(
                "; ".join(failure.what.rstrip(".") for failure in failures)
                + (f". Removed all the same: {removed}" if removed else ""),
                failures[0].remedy,
            )
        return done


def _kept(failures: list[GuestError], step: Callable[[], None]) -> None:
    """Go on after a failure, so that the rest is taken away too; it is raised at the end."""
    try:
        step()
    except GuestError as error:
        failures.append(error)


def _withdraw(domain: Domain, definition: Definition, done: Attachment) -> None:
    """Stop the agent in the guest, where it can be reached; else say how."""
    try:
        if not _answers(domain):
            raise GuestError("no qemu-guest-agent answers there")
        found = delivery.take_away(GuestAgent(domain.agent, domain.name))
        done.note(
            _AGENT, _LIVE, "removed" if found != "was not there" else "was not there", "" if found == "was not there" else found
        )
    except GuestError as error:
        if definition.has(OUR_PORT):
            done.note(_AGENT, _LIVE, "not reached", error.what)
            done.by_hand = delivery.by_hand_away()


def _detach_live(domain: Domain, definition: Definition, alias: str, done: Attachment) -> None:
    why_not = why_not_now(domain, definition, alias)
    if why_not is not None:
        done.note(_OURS[alias], _LIVE, "stays", f"until the domain is shut down: {why_not}")
        return
    unplug(domain, alias)
    done.note(_OURS[alias], _LIVE, "removed")
