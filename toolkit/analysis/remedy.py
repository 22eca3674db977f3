"""What to do about a verdict's causes: the exact command or XML, for the host or for the guest. Nothing here runs them.

A device is offered to a running guest only where hot-plugging is safe; everywhere else to its configuration, for its next start.
A domain whose name a shell or a terminal could misread is called by its UUID.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

from toolkit.analysis.boot_sources import stalling
from toolkit.analysis.verdicts import Verdict
from toolkit.guests.audit_facts import Facts, Target
from toolkit.guests.domain_xml import RngDevice
from toolkit.guests.short_answers import REQUEST_BYTES, next_fitting

__all__ = ["UNLIMITED_RNG_XML", "Remedy", "remedies"]

#: Fed from the host's /dev/urandom, which never blocks; a limit is what makes a virtio-rng slow, so it has none.
UNLIMITED_RNG_XML = "<rng model='virtio'>\n  <backend model='random'>/dev/urandom</backend>\n</rng>\n"
_QGA_XML = "<channel type='unix'>\n  <target type='virtio' name='org.qemu.guest_agent.0'/>\n</channel>\n"
_WITHOUT_RDRAND_XML = "<feature policy='disable' name='rdrand'/>\n"

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_UUID = re.compile(r"[0-9a-fA-F-]{32,36}")
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")

#: What each cause asks for, in the order in which it is told.
_NEEDS_SOURCE = (
    "no-source",
    "kernel-jitter-only",
    "rdrand-untrusted",
    "blocking-pool-low",
    "blocking-pool-unfed",
    "migration-loses-rdrand",
    "migration-fails",
    "not-ready",
)


@dataclass(frozen=True)
class Remedy:
    """One thing to do.

    Attributes
    ----------
    what : str
        In words: where, and what it brings.
    command : str or None
        The line to run, as it is; None where there is none.
    xml : str or None
        The content of the file that the command names, or what to put into the definition.
    """

    what: str
    command: str | None = None
    xml: str | None = None


def remedies(facts: Facts, verdict: Verdict) -> tuple[Remedy, ...]:
    """What to do about the causes, each thing once; nothing where the guest is sound.

    Examples
    --------
    >>> from toolkit.analysis.verdicts import judge
    >>> facts = Facts(state="running", said_by="its files", regime="latched", crng_ready=False, cpu_rdrand=False, devices=())
    >>> remedies(facts, judge(facts))[0].what
    'Give it a virtio-rng without a limit, on its host.'
    """
    found: dict[tuple[str | None, str], Remedy] = {}
    for remedy in _for_all(facts, verdict.causes):
        found.setdefault((remedy.command, "" if remedy.command else remedy.what), remedy)
    return tuple(found.values())


def _for_all(facts: Facts, causes: tuple[str, ...]) -> Iterator[Remedy]:
    if "driver-not-bound" in causes:
        yield Remedy(
            "In the guest, as root: load the driver. Where its kernel has none, install one that has virtio_rng.",
            "modprobe virtio_rng && cat /sys/class/misc/hw_random/rng_current",
        )
    if {"hwrng-not-selected", "hwrng-not-credited"} & set(causes):
        yield from _select(facts, causes)
    if "tight-limit" in causes:
        yield from _unlimited(facts)
    elif "stalling-limit" in causes:
        yield from _fitting(facts)
    if set(_NEEDS_SOURCE) & set(causes) and not facts.has_virtio_rng:
        yield _add_rng(facts.target)
    if "rdrand-untrusted" in causes:
        yield Remedy(
            "Or, in the guest: let the kernel credit RDRAND. Put this on its command line and boot it again.",
            None,
            "random.trust_cpu=on\n",
        )
    yield from _by_cause(facts, causes)


def _by_cause(facts: Facts, causes: Iterable[str]) -> Iterator[Remedy]:
    target = facts.target
    for cause in causes:
        if cause in ("blocking-pool-low", "blocking-pool-unfed"):
            yield Remedy(
                "In the guest: let rngd carry the source to the pool, and let programs read getrandom or /dev/urandom in place of "
                "/dev/random.",
                "apt-get install rng-tools5",
            )
        elif cause in ("slow-ready", "waits-seen", "not-ready"):
            yield Remedy("Look again after the change and its next start.", _audit(target))
        elif cause == "urandom-before-ready":
            yield Remedy("In the guest: make keys anew that were made in that boot's first seconds, such as those of its ssh.")
        elif cause == "migration-fails":
            yield Remedy(
                "Or take RDRAND from its processor, so that it is the same on all hosts: inside <cpu> of its definition, for its "
                "next start. It needs a virtio-rng then.",
                _virsh(target, "edit"),
                _WITHOUT_RDRAND_XML,
            )
        else:
            yield from _to_tell(facts, cause)


def _to_tell(facts: Facts, cause: str) -> Iterator[Remedy]:
    """How to get the evidence that is missing."""
    target = facts.target
    if cause == "not-running" and target is not None:
        if facts.state == "paused":
            yield Remedy("Let it run, then look again.", _virsh(target, "resume"))
        elif facts.state is not None:
            yield Remedy("Start it, then look again.", _virsh(target, "start"))
        else:
            yield Remedy("Look whether libvirt and the domain's QEMU still answer.", _virsh(target, "domstate"))
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
        yield Remedy("Ask its host.", _audit(target))
    elif cause in ("log-overwritten", "log-refused", "log-absent", "readiness-time-unknown"):
        yield Remedy(
            "In the guest, as root: when it was ready, where its journal still has it; else soon after its next boot.",
            "journalctl -k -b | grep 'crng init done'",
        )
    elif cause == "migration-unknown":
        yield Remedy(
            "Ask all hosts again once they answer; a virtio-rng makes the guest independent of their processors.", _audit(target)
        )
        if not facts.has_virtio_rng:
            yield _add_rng(target)


def _ask_it(target: Target | None) -> Iterator[Remedy]:
    if target is None:
        yield Remedy("Run the toolkit's agent in it, and watch it.", "toolkit guests agent --out agent.pyz")
        return
    at = f" --uri {shlex.quote(target.uri)}"
    yield Remedy(
        "Put our agent into it and watch it for a moment; then look again with the same --store.",
        f"toolkit guests attach {_name(target)}{at} && toolkit guests watch {_name(target)}{at} --for 30s",
    )
    if not target.running or target.persistent:
        yield Remedy(
            "Or give it the port of qemu-guest-agent (save as qga.xml; it is there after its next start), and install "
            "qemu-guest-agent in it.",
            _virsh(target, "attach-device", "qga.xml --config"),
            _QGA_XML,
        )


def _select(facts: Facts, causes: tuple[str, ...]) -> Iterator[Remedy]:
    if "hwrng-not-credited" in causes:
        if facts.has_virtio_rng and not facts.reads_virtio_rng:
            name = next(each for each in (*(facts.hwrng_available or ()), "virtio_rng.0") if each.startswith("virtio_rng"))
        else:
            yield Remedy(
                "In the guest: let the kernel credit it, if you trust it: put this on its command line and boot it again.",
                None,
                "rng_core.default_quality=1000\n",
            )
            return
    else:
        name = next(iter(facts.hwrng_available or ()), "")
    if _SOURCE.fullmatch(name):
        yield Remedy("In the guest, as root: use it.", f"echo {name} > /sys/class/misc/hw_random/rng_current")
    else:
        yield Remedy(
            "In the guest, as root: write one of these names to rng_current.", "cat /sys/class/misc/hw_random/rng_available"
        )


def _add_rng(target: Target | None) -> Remedy:
    if target is None:
        return Remedy("Give it a virtio-rng without a limit, on its host.", None, UNLIMITED_RNG_XML)
    if not target.running:
        words, options = "It is there when it next starts.", "--config"
    elif target.hot_pluggable:
        words, options = "It can come while the guest runs.", "--live --config" if target.persistent else "--live"
    elif target.persistent:
        words = (
            f"For its next start alone: shut it down and start it, a reboot is not enough. While it runs, adding it is not safe: "
            f"{target.why_not or 'that was not asked'}."
        )
        options = "--config"
    else:
        what = "Put a virtio-rng into the definition that it is made from; while it runs, adding it is not safe"
        return Remedy(f"{what}: {target.why_not or 'that was not asked'}.", None, UNLIMITED_RNG_XML)
    return Remedy(
        f"Give it a virtio-rng without a limit (save as rng.xml). {words}",
        _virsh(target, "attach-device", f"rng.xml {options}"),
        UNLIMITED_RNG_XML,
    )


def _unlimited(facts: Facts) -> Iterator[Remedy]:
    device, target = facts.tightest, facts.target
    if target is None or not target.persistent:
        yield Remedy("Take the limit <rate …/> out of the definition that it is made from.", None, UNLIMITED_RNG_XML)
    elif device is None or _limited_xml(device) is None:
        yield Remedy("Take the line <rate …/> out of its <rng>; that counts from its next start on.", _virsh(target, "edit"))
    else:
        yield from _exchanged(target, device, "without a limit", UNLIMITED_RNG_XML)


def _fitting(facts: Facts) -> Iterator[Remedy]:
    """The next limit behind which no driver stalls, with the same period: a little more than what was meant, never less."""
    device, target = stalling(facts), facts.target
    if device is None or device.max_bytes is None:
        return
    fitting = replace(device, max_bytes=next_fitting(device.max_bytes))
    what = f"of {fitting.max_bytes} bytes, which {REQUEST_BYTES} divide or are divided by"
    new = _limited_xml(fitting)
    if target is None or not target.persistent:
        yield Remedy(f"Give it a limit {what}, in the definition that it is made from.", None, new or _rate_xml(fitting) + "\n")
    elif new is None:
        yield Remedy(
            f"Give its <rng> a limit {what}: this line. It counts from its next start on.",
            _virsh(target, "edit"),
            _rate_xml(fitting) + "\n",
        )
    else:
        yield from _exchanged(target, device, f"with a limit {what}", new)


def _exchanged(target: Target, device: RngDevice, which: str, new: str) -> Iterator[Remedy]:
    """Put another device in place of a limited one, in the configuration: libvirt cannot change a limit, and a guest's kernel may
    crash where a virtio-rng that it reads goes away.
    """
    yield Remedy(
        "Take the limited virtio-rng out of its configuration (save as limited.xml) …",
        _virsh(target, "detach-device", "limited.xml --config"),
        _limited_xml(device),
    )
    yield Remedy(
        f"… and put one {which} in its place (save as rng.xml). It counts from its next start on, not from a reboot.",
        _virsh(target, "attach-device", "rng.xml --config"),
        new,
    )


def _limited_xml(device: RngDevice) -> str | None:
    """The device as libvirt finds it again; None for a backend whose XML says more than is known here."""
    if device.backend == "random" and device.source:
        backend = f"<backend model='random'>{escape(device.source)}</backend>"
    elif device.backend == "builtin":
        backend = "<backend model='builtin'/>"
    else:
        return None
    return f"<rng model='virtio'>\n  {_rate_xml(device)}\n  {backend}\n</rng>\n"


def _rate_xml(device: RngDevice) -> str:
    return f"<rate bytes='{device.max_bytes:d}' period='{device.period_ms or 1000:d}'/>"


def _name(target: Target) -> str:
    """What virsh takes for this domain and no other: it tries a number first, then a UUID, then a name."""
    unlike = not target.name.isdigit() and _UUID.fullmatch(target.name) is None
    return target.name if unlike and _PLAIN.fullmatch(target.name) else target.uuid


def _virsh(target: Target | None, verb: str, rest: str = "") -> str | None:
    if target is None:
        return None
    return f"virsh --connect {shlex.quote(target.uri)} {verb} {_name(target)} {rest}".rstrip()


def _audit(target: Target | None) -> str | None:
    return None if target is None else f"toolkit guests audit --connect {shlex.quote(target.uri)}"
