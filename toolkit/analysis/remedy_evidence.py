"""How to get the evidence that an audit lacks: the line to run in the guest, on its host, or with our own agent."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from toolkit.analysis.remedy_commands import Remedy, audit_again, name, virsh
from toolkit.analysis.remedy_devices import add_rng
from toolkit.guests.audit_facts import Facts, Target

__all__ = ["to_tell"]

_QGA_XML = "<channel type='unix'>\n  <target type='virtio' name='org.qemu.guest_agent.0'/>\n</channel>\n"


def to_tell(facts: Facts, cause: str) -> Iterator[Remedy]:
    """How to get the evidence that is missing."""
    target = facts.target
    if cause == "not-running" and target is not None:
        yield from _running(facts)
    elif cause in ("guest-silent", "readiness-unknown", "pool-unknown", "not-running"):
        yield from _ask_it(facts)
    elif cause == "regime-unknown":
        yield Remedy("In the guest: what its generator says of itself.", "cat /proc/lrng_type; grep -r . /proc/sys/kernel/random")
    elif cause == "trust-unknown":
        yield Remedy(
            "In the guest: whether its kernel credits RDRAND.",
            "cat /proc/cmdline; grep RANDOM_TRUST_CPU /boot/config-$(uname -r)",
        )
    elif cause == "rdrand-unknown":
        yield Remedy("In the guest: whether its processor offers RDRAND.", "grep -cw rdrand /proc/cpuinfo")
    elif cause in ("driver-unknown", "source-unknown", "quality-unknown"):
        yield Remedy(
            "In the guest, outside of containers: which hardware sources it has.", "grep . /sys/class/misc/hw_random/rng_*"
        )
    elif cause == "feeder-unknown":
        yield Remedy(
            "In the guest: which haveged it is: before 1.9.18 it is no source here. A virtio-rng makes it not matter.",
            "dpkg -s haveged || rpm -q haveged",
        )
        if not facts.has_virtio_rng:
            yield add_rng(target)
    elif cause == "host-unreachable":
        yield _reachable(facts)
    elif cause == "limit-unknown":
        yield Remedy("Ask its host.", audit_again(target))
    elif cause in ("log-overwritten", "log-refused", "log-absent", "readiness-time-unknown"):
        yield Remedy(
            "In the guest, as root: when it was ready, where its journal still has it; else soon after its next boot.",
            "journalctl -k -b | grep -E 'crng (init )?done'",
        )
    elif cause == "migration-unknown":
        yield Remedy(
            "Ask all hosts again once they answer; a virtio-rng makes the guest independent of their processors.",
            audit_again(target, [move.uri for move in facts.moves]),
        )
        if not facts.has_virtio_rng:
            yield add_rng(target)


def _running(facts: Facts) -> Iterator[Remedy]:
    """What lets the domain run, by libvirt's word for its state."""
    target = facts.target
    if facts.state == "paused":
        yield Remedy("Let it run, then look again.", virsh(target, "resume"))
    elif facts.state == "suspended":
        yield Remedy("Its guest sleeps: wake it up, then look again.", virsh(target, "dompmwakeup"))
    elif facts.state == "shutting down":
        yield Remedy("It is shutting down: wait until it is off, and start it if it is to run.", virsh(target, "domstate"))
    elif facts.state == "crashed":
        yield Remedy(
            "Look why it crashed, in its log on its host; what is left of it has to be destroyed before it can start.",
            virsh(target, "domstate", "--reason"),
        )
    elif facts.state == "shut off":
        yield Remedy("Start it, then look again.", virsh(target, "start"))
    elif facts.state is not None:
        yield Remedy("Look what became of it, and look again once it runs.", virsh(target, "domstate", "--reason"))
    else:
        yield Remedy("Look whether libvirt and the domain's QEMU still answer.", virsh(target, "domstate"))


def _reachable(facts: Facts) -> Remedy:
    words = facts.unreachable_remedy or "Look whether its libvirt runs and may be reached from here, and audit it again."
    at = f"--connect {shlex.quote(facts.unreachable_uri)} " if facts.unreachable_uri else ""
    return Remedy(words, f"virsh {at}list --all")


def _ask_it(facts: Facts) -> Iterator[Remedy]:
    """How the guest can be brought to speak, by what kept it from it."""
    target = facts.target
    if target is None:
        yield Remedy("Run the toolkit's agent in it, and watch it.", "toolkit guests agent --out agent.pyz")
        return
    if facts.silent_for == "disconnected":
        yield Remedy(
            "In the guest, as root: install qemu-guest-agent (Debian: apt-get install qemu-guest-agent) and start it.",
            "systemctl enable --now qemu-guest-agent",
        )
    elif facts.silent_for == "refused":
        yield Remedy(
            "In the guest, as root: let its qemu-guest-agent read files: take guest-file-open, -read, -close and guest-exec out of "
            "what it blocks (block-rpcs, blacklist, or missing in allow-rpcs), and restart it.",
            "grep -rs rpcs /etc/sysconfig/qemu-ga /etc/qemu /etc/default/qemu-guest-agent; systemctl cat qemu-guest-agent",
        )
    elif facts.silent_for == "no answer":
        yield Remedy("Look whether its qemu-guest-agent answers at all, or the guest hangs.", _ping(target))
    elif facts.silent_for == "port configured":
        yield Remedy(
            "The port of qemu-guest-agent is in its configuration, and comes at its next start: shut it down, start it, and "
            "install qemu-guest-agent in it.",
            virsh(target, "shutdown"),
        )
    yield _watched(target)
    if not facts.said_by and facts.silent_for in ("", "no port") and (not target.running or target.persistent):
        yield Remedy(
            "Or give it the port of qemu-guest-agent (save as qga.xml; it is there after its next start), and install "
            "qemu-guest-agent in it.",
            virsh(target, "attach-device", "qga.xml --config"),
            _QGA_XML,
        )


def _ping(target: Target) -> str | None:
    return virsh(target, "qemu-agent-command", shlex.quote('{"execute": "guest-ping"}'))


def _watched(target: Target) -> Remedy:
    """Our agent, which is watched on the guest's own host alone: its port is a socket there."""
    uri = urlsplit(target.uri)
    if not uri.netloc.rpartition("@")[2]:
        at, where, there = target.uri, "", "look again"
    else:
        at, where, there = f"qemu://{uri.path}", "On its host: ", "audit it there"
    at = f"--uri {shlex.quote(at)}"
    what = "put our agent into it and watch it for a moment"
    return Remedy(
        f"{where}{what if where else what.capitalize()}; then {there} with the same --store.",
        f"toolkit guests attach {name(target)} {at} && toolkit guests watch {name(target)} {at} --for 30s",
    )
