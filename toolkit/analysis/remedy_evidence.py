"""How to get the evidence that an audit lacks: the line to run in the guest, on its host, or with our own agent."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from toolkit.analysis.remedy_commands import Remedy, audit_again, name, virsh
from toolkit.analysis.remedy_devices import add_rng
from toolkit.guests.audit_facts import Facts, Target

__all__ = ["to_tell"]

_QGA_XML = "<channel type='unix'>\n  <target type='virtio' name='org.qemu.guest_agent.0'/>\n</channel>\n"


def to_tell(facts: Facts, cause: str) -> Iterator[Remedy]:
    """How to get the evidence that is missing."""
    target = facts.target
    if cause == "not-running" and target is not None:
        if facts.state == "paused":
            yield Remedy("Let it run, then look again.", virsh(target, "resume"))
        elif facts.state is not None:
            yield Remedy("Start it, then look again.", virsh(target, "start"))
        else:
            yield Remedy("Look whether libvirt and the domain's QEMU still answer.", virsh(target, "domstate"))
    elif cause in ("guest-silent", "readiness-unknown", "pool-unknown", "not-running"):
        yield from _ask_it(target)
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
    elif cause == "host-unreachable":
        yield Remedy("Look whether its libvirt runs and may be reached from here, and audit it again.")
    elif cause == "limit-unknown":
        yield Remedy("Ask its host.", audit_again(target))
    elif cause in ("log-overwritten", "log-refused", "log-absent", "readiness-time-unknown"):
        yield Remedy(
            "In the guest, as root: when it was ready, where its journal still has it; else soon after its next boot.",
            "journalctl -k -b | grep 'crng init done'",
        )
    elif cause == "migration-unknown":
        yield Remedy(
            "Ask all hosts again once they answer; a virtio-rng makes the guest independent of their processors.",
            audit_again(target),
        )
        if not facts.has_virtio_rng:
            yield add_rng(target)


def _ask_it(target: Target | None) -> Iterator[Remedy]:
    if target is None:
        yield Remedy("Run the toolkit's agent in it, and watch it.", "toolkit guests agent --out agent.pyz")
        return
    at = f" --uri {shlex.quote(target.uri)}"
    yield Remedy(
        "Put our agent into it and watch it for a moment; then look again with the same --store.",
        f"toolkit guests attach {name(target)}{at} && toolkit guests watch {name(target)}{at} --for 30s",
    )
    if not target.running or target.persistent:
        yield Remedy(
            "Or give it the port of qemu-guest-agent (save as qga.xml; it is there after its next start), and install "
            "qemu-guest-agent in it.",
            virsh(target, "attach-device", "qga.xml --config"),
            _QGA_XML,
        )
