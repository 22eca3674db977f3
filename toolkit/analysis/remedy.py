"""What to do about a verdict's causes: the exact command or XML, for the host or for the guest. Nothing here runs them.

The XML of devices is :mod:`toolkit.analysis.remedy_devices`'; what evidence is missing, :mod:`toolkit.analysis.remedy_evidence`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from toolkit.analysis.remedy_commands import Remedy, audit_again, virsh
from toolkit.analysis.remedy_devices import UNLIMITED_RNG_XML, add_rng, fed_from_urandom, fitting, unlimited
from toolkit.analysis.remedy_evidence import to_tell
from toolkit.analysis.verdicts import Verdict
from toolkit.guests.audit_facts import Facts

__all__ = ["UNLIMITED_RNG_XML", "Remedy", "remedies"]

_WITHOUT_RDRAND_XML = "<feature policy='disable' name='rdrand'/>\n"

_CURRENT = "/sys/class/misc/hw_random/rng_current"
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")

#: What each cause asks for, in the order in which it is told.
_NEEDS_SOURCE = (
    "no-source",
    "source-not-configured",
    "kernel-jitter-only",
    "rdrand-untrusted",
    "blocking-pool-low",
    "blocking-pool-unfed",
    "migration-loses-rdrand",
    "migration-fails",
    "not-ready",
)
#: What was seen to be slow, without a cause beside it that says why.
_SEEN_ALONE = {"slow-ready", "waits-seen", "urandom-before-ready", "not-ready"}


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
            "In the guest, as root: load the driver, now and at each boot. Where its kernel has none, install one that has.",
            "modprobe virtio_rng && echo virtio_rng > /etc/modules-load.d/virtio_rng.conf && "
            "cat /sys/class/misc/hw_random/rng_current",
        )
    if {"hwrng-not-selected", "hwrng-not-credited"} & set(causes):
        yield from _select(facts, causes)
    # What is in its configuration already asks for nothing but a start.
    coming = facts.at_next_start or facts
    if "restart-needed" in causes:
        yield from _started_again(facts)
    if "tight-limit" in causes:
        yield from unlimited(coming)
    elif "stalling-limit" in causes:
        yield from fitting(coming)
    if {"backend-unknown", "source-silent"} & set(causes):
        yield from fed_from_urandom(coming)
    seen_alone = bool(causes) and set(causes) <= _SEEN_ALONE
    if "source-silent" in causes or (seen_alone and (coming.has_virtio_rng or facts.hwrng_current)):
        yield Remedy(
            "In the guest, as root: whether its source gives 64 bytes. Where it does not, look on its host at what feeds it.",
            "timeout 10 head -c 64 /dev/hwrng | wc -c",
        )
    if (seen_alone or set(_NEEDS_SOURCE) & set(causes)) and not coming.has_virtio_rng:
        yield add_rng(facts.target, has_one=coming.loses_virtio_rng)
    if "rdrand-untrusted" in causes and facts.takes_trust_cpu is not False:
        since = "" if facts.takes_trust_cpu else " (kernels since 4.19)"
        yield Remedy(
            f"Or, in the guest: let the kernel credit RDRAND{since}. Put this on its command line and boot it again.",
            None,
            "random.trust_cpu=on\n",
        )
    yield from _by_cause(facts, causes)


def _started_again(facts: Facts) -> Iterator[Remedy]:
    yield Remedy(
        "It is configured already, and comes at its next start; a reboot is not enough. Shut it down …",
        virsh(facts.target, "shutdown"),
    )
    yield Remedy("… and start it once it is off, then look again.", virsh(facts.target, "start"))


def _by_cause(facts: Facts, causes: Iterable[str]) -> Iterator[Remedy]:
    target = facts.target
    for cause in causes:
        if cause in ("blocking-pool-low", "blocking-pool-unfed"):
            yield Remedy(
                "In the guest: let rngd carry the source to the pool (install rng-tools; Debian: apt-get install rng-tools5), and "
                "let programs read getrandom or /dev/urandom in place of /dev/random."
            )
        elif cause in ("slow-ready", "waits-seen", "not-ready"):
            yield Remedy("Look again after the change and its next start.", audit_again(target))
        elif cause == "urandom-before-ready":
            yield Remedy("In the guest: make keys anew that were made in that boot's first seconds, such as those of its ssh.")
        elif cause == "migration-fails":
            yield Remedy(
                "Or take RDRAND from its processor, so that it is the same on all hosts: inside <cpu> of its definition, for its "
                "next start. It needs a virtio-rng then.",
                virsh(target, "edit"),
                _WITHOUT_RDRAND_XML,
            )
        else:
            yield from to_tell(facts, cause)


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
        yield Remedy(
            "In the guest, as root: use it, now and at each boot (systemd-tmpfiles writes it).",
            f"echo {name} > {_CURRENT} && echo 'w {_CURRENT} - - - - {name}' > /etc/tmpfiles.d/rng_current.conf",
        )
    else:
        yield Remedy(
            "In the guest, as root: write one of these names to rng_current.", "cat /sys/class/misc/hw_random/rng_available"
        )
