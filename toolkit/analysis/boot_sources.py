"""What makes a guest ready at its next boot: RDRAND and hardware sources, and how sure each is. Facts in, sources out.

What follows from them is :mod:`toolkit.analysis.verdicts`' business.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.guests.audit_facts import Facts, bytes_per_s
from toolkit.markup import visible

__all__ = ["ABSENT", "PROVEN", "SLOW_READY_S", "TIGHT_BYTES_PER_S", "UNKNOWN", "WEAK", "Source", "hwrng", "rdrand"]

#: At or below this rate a virtio-rng made a boot longer than none at all: 26 s with 1024 bytes a second, 9 s without a device.
TIGHT_BYTES_PER_S = 1024.0
#: A boot that takes longer than this to be ready is slower than kernels that have nothing but their own jitter (9 s, emulated).
SLOW_READY_S = 10.0

#: How sure a source is at the next boot.
PROVEN, WEAK, ABSENT, UNKNOWN = "proven", "weak", "absent", "unknown"


@dataclass(frozen=True)
class Source:
    """One source: how sure it is, the cause that it is where it is not proven, and the sentence."""

    strength: str
    cause: str
    sentence: str


def rdrand(facts: Facts) -> Source:
    """The processor's instruction: it counts where it is offered and the kernel credits it."""
    by = f" ({visible(facts.rdrand_detail)})" if facts.rdrand_detail else ""
    if facts.cpu_rdrand is False:
        return Source(ABSENT, "", f"Its processor offers no RDRAND{by}.")
    if facts.cpu_rdrand is None:
        return Source(UNKNOWN, "rdrand-unknown", f"Whether its processor offers RDRAND is not known{by}.")
    if facts.ready is False:
        return Source(ABSENT, "rdrand-untrusted", f"RDRAND is offered{by}, and the generator is not ready all the same.")
    if facts.trust_cpu is False:
        sentence = "Its processor offers RDRAND, and its kernel does not credit it (random.trust_cpu is off)."
        return Source(ABSENT, "rdrand-untrusted", sentence)
    if facts.trust_cpu is None:
        sentence = f"Its processor offers RDRAND{by}; whether its kernel credits it (random.trust_cpu) is not known."
        return Source(UNKNOWN, "trust-unknown", sentence)
    return Source(PROVEN, "", f"RDRAND is offered and credited{by}: it makes the generator ready as it boots.")


def hwrng(facts: Facts) -> Source:
    """The hardware source in use: it counts where it has its driver, is credited, and is not limited too tightly."""
    names = facts.hwrng_available
    if names is None:
        return _hwrng_by_the_host(facts)
    if not names:
        if facts.has_virtio_rng:
            sentence = "It has a virtio-rng and no driver for it: rng_available is empty, and nobody reads the device."
            return Source(WEAK, "driver-not-bound", sentence)
        return Source(ABSENT, "", "It has no hardware source: rng_available is empty.")
    shown = visible(" ".join(names), 120)
    if facts.hwrng_current is None:
        return Source(WEAK, "hwrng-not-selected", f"None of its hardware sources is in use (rng_available: {shown}).")
    current = visible(facts.hwrng_current, 60)
    if facts.hwrng_quality == 0:
        return Source(WEAK, "hwrng-not-credited", f"{current} is in use, and its quality is 0: none of its bits are credited.")
    tight = _tight(facts) if facts.reads_virtio_rng else None
    if tight:
        return tight
    unknown = []
    if facts.reads_virtio_rng and facts.devices is None:
        unknown.append(("limit-unknown", "its limit on the host"))
    if facts.hwrng_quality is None:
        unknown.append(("quality-unknown", "how much of it is credited"))
    if unknown and not (facts.crng_ready_s is not None and facts.crng_ready_s <= SLOW_READY_S):
        what = " and ".join(what for _, what in unknown)
        return Source(UNKNOWN, unknown[0][0], f"{current} is in use; {what} is not known.")
    if unknown:
        what = " and ".join(what for _, what in unknown)
        sentence = f"{current} has its driver and is in use; {what} is not known, and this boot was ready in time all the same."
        return Source(PROVEN, "", sentence)
    limit = f", {_limit(facts)}" if facts.reads_virtio_rng else ""
    return Source(PROVEN, "", f"{current} has its driver, is in use and credited{limit}.")


def _hwrng_by_the_host(facts: Facts) -> Source:
    """The hardware source where the guest did not show any: what the host configured."""
    if facts.devices is None:
        return Source(UNKNOWN, "source-unknown", "Its hardware sources are not known: it shows no hw_random.")
    if not facts.devices and not facts.has_virtio_rng:
        return Source(ABSENT, "", "The host has given it no virtio-rng.")
    tight = _tight(facts)
    if tight:
        return tight
    sentence = f"The host has given it a virtio-rng, {_limit(facts)}; whether it has a driver for it is not known."
    return Source(UNKNOWN, "driver-unknown", sentence)


def _limit(facts: Facts) -> str:
    device = facts.tightest
    return "unlimited" if device is None else f"limited to {device.max_bytes} bytes a {device.period_ms} ms"


def _tight(facts: Facts) -> Source | None:
    device = facts.tightest
    rate = None if device is None else bytes_per_s(device)
    if rate is None or rate > TIGHT_BYTES_PER_S:
        return None
    return Source(
        WEAK,
        "tight-limit",
        f"Its virtio-rng is {_limit(facts)}, {rate:g} bytes a second: so tight a limit makes a boot longer than no device at all.",
    )
