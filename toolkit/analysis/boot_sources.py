"""What makes a guest ready at its next boot: RDRAND and hardware sources, how sure each is, what stops it. Facts in, sources out.

What follows from them is :mod:`toolkit.analysis.verdicts`' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from toolkit.guests.audit_facts import Facts, bytes_per_s, first_bytes_s
from toolkit.guests.domain_xml import RngDevice
from toolkit.guests.short_answers import LOSES, REQUEST_BYTES, STALLS, behind, mislays
from toolkit.markup import visible
from toolkit.units import duration_text

__all__ = [
    "ABSENT",
    "PROVEN",
    "SLOW_FIRST_BYTES_S",
    "SLOW_READY_S",
    "TIGHT_BYTES_PER_S",
    "UNKNOWN",
    "WEAK",
    "Source",
    "hwrng",
    "rdrand",
    "short_answers",
    "stalling",
    "too_tight",
    "unproven_backend",
]

#: Where the first bytes of a virtio-rng take longer than this, a guest without any is ready sooner: while a program waits the
#: kernel gathers jitter, which took 1 to 2 s (data/reference). There 1024 bytes a second cost nothing, 4 bytes in 4 s took 66 s.
SLOW_FIRST_BYTES_S = 2.0
#: What a blocking pool loses to its readers a limit must bring again, also long after the boot.
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
    if facts.loses_virtio_rng and facts.hwrng_current is None:
        sentence = "The virtio-rng that it runs with is not in its configuration."
        if not names:
            return Source(WEAK, "source-not-configured", sentence)
        others = visible(" ".join(names), 120)
        return Source(UNKNOWN, "source-not-configured", f"{sentence} What of its other sources counts is not known ({others}).")
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
    backend = unproven_backend(facts) if facts.reads_virtio_rng else None
    if backend is not None:
        fed = visible(" ".join(each for each in (backend.backend, backend.source) if each) or "what it does not name", 80)
        unknown.append(("backend-unknown", f"whether what feeds it on the host ({fed}) always has bytes"))
    if facts.hwrng_quality is None:
        unknown.append(("quality-unknown", "how much of it is credited"))
    if unknown and not (facts.crng_ready_s is not None and facts.crng_ready_s <= SLOW_READY_S):
        what = " and ".join(what for _, what in unknown)
        return Source(UNKNOWN, unknown[0][0], f"{current} is in use; {what} is not known.")
    if unknown:
        what = " and ".join(what for _, what in unknown)
        sentence = f"{current} has its driver and is in use; {what} is not known, and this boot was ready in time all the same."
        return Source(PROVEN, "", sentence)
    if facts.ready is False:
        sentence = (
            f"{current} has its driver and is in use, and the generator is not ready all the same: what feeds it gives nothing or "
            "too little, or the guest has only just booted."
        )
        # What another generator makes of it is not known.
        return Source(WEAK, "" if facts.regime is None else "source-silent", sentence)
    limit = f", {_limit(facts.tightest)}" if facts.reads_virtio_rng else ""
    return Source(PROVEN, "", f"{current} has its driver, is in use and credited{limit}.")


def stalling(facts: Facts, outcome: str = STALLS) -> RngDevice | None:
    """The first of its devices whose limit makes a driver with the check of 2026 stall, or lose bytes; None where none does."""
    return next((each for each in facts.devices or () if each.max_bytes is not None and behind(each.max_bytes) == outcome), None)


def short_answers(facts: Facts) -> Source | None:
    """What a limit that is no whole number of requests does: weak where it stalls, unknown where the kernel is, else proven."""
    device = stalling(facts) or stalling(facts, LOSES)
    checks = mislays(facts.kernel)
    in_use = facts.hwrng_available is None or facts.reads_virtio_rng
    if device is None or checks is False or not in_use:
        return None
    by = f"Its virtio-rng's limit of {device.max_bytes} bytes"
    size = f"is no multiple of the {REQUEST_BYTES} that its driver asks for, and does not divide them"
    if behind(device.max_bytes or 0) == LOSES:
        return Source(PROVEN, "", f"{by} {size}: drivers since July 2026 lose a part of each period's bytes behind it.")
    if checks is None:
        sentence = (
            f"{by} {size}: kernels since July 2026 were measured to stall behind such limits; whether its own does is not known."
        )
        return Source(UNKNOWN, "", sentence)
    kernel = visible(facts.kernel or "", 60)
    sentence = (
        f"{by} {size}: kernels with the driver of {kernel} (5.10, 6.1, 6.12 and 7.3 were measured) stall behind such a limit: once "
        "ready, readers of /dev/hwrng and the kernel's own reader wait for ever."
    )
    return Source(WEAK, "stalling-limit", sentence)


def _hwrng_by_the_host(facts: Facts) -> Source:
    """The hardware source where the guest did not show any: what the host configured."""
    if facts.devices is None:
        return Source(UNKNOWN, "source-unknown", "Its hardware sources are not known: it shows no hw_random.")
    if not facts.devices and not facts.has_virtio_rng:
        return Source(ABSENT, "", "The host has given it no virtio-rng.")
    tight = _tight(facts)
    if tight:
        return tight
    sentence = f"The host has given it a virtio-rng, {_limit(facts.tightest)}; whether it has a driver for it is not known."
    return Source(UNKNOWN, "driver-unknown", sentence)


def _limit(device: RngDevice | None) -> str:
    return "unlimited" if device is None else f"limited to {device.max_bytes} bytes a {device.period_ms} ms"


def too_tight(facts: Facts) -> RngDevice | None:
    """The first of its devices, the tightest first, whose limit is worse than no device; None where none is."""
    others = sorted(facts.devices or (), key=lambda each: math.inf if each.max_bytes is None else bytes_per_s(each) or 0.0)
    return next((each for each in (facts.tightest, *others) if each is not None and _why_too_tight(facts, each)), None)


def _why_too_tight(facts: Facts, device: RngDevice) -> str:
    first_s, rate = first_bytes_s(device), bytes_per_s(device)
    if first_s is None or rate is None:
        return ""
    if not device.max_bytes:
        return f"Its virtio-rng is {_limit(device)}: it gives nothing at all."
    if first_s > SLOW_FIRST_BYTES_S:
        return (
            f"Its virtio-rng is {_limit(device)}: the {REQUEST_BYTES} bytes that its driver asks for at first take "
            f"{duration_text(first_s)}, and without a device the kernel is ready sooner where a program waits."
        )
    if facts.regime == "blocking" and rate <= TIGHT_BYTES_PER_S:
        return f"Its virtio-rng is {_limit(device)}, {rate:g} bytes a second, and readers of /dev/random drain this kernel's pool."
    return ""


def _tight(facts: Facts) -> Source | None:
    device = too_tight(facts)
    return None if device is None else Source(WEAK, "tight-limit", _why_too_tight(facts, device))


def unproven_backend(facts: Facts) -> RngDevice | None:
    """The first of its devices that is fed by what may block, run dry or be gone; None where none is.

    The host's /dev/random blocks on kernels before 5.6, and which one the host has is not asked.
    """
    sure = (("builtin", None), ("random", "/dev/urandom"))
    return next((each for each in facts.devices or () if (each.backend, each.source) not in sure), None)
