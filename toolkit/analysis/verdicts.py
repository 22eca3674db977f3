"""Whether a guest is sound, at risk, starving, or cannot be told, with the causes and the evidence. Facts in, a verdict out.

What each regime means decides. Only a ``blocking`` kernel can run dry after it was ready; on all later ones a guest that is ready
stays so until it is booted again, so that its risk is about its next boot, and ``entropy_avail`` says nothing about it. What to do
about a cause is :mod:`toolkit.analysis.remedy`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.guests.audit_facts import Facts, bytes_per_s
from toolkit.markup import visible

__all__ = ["AT_RISK", "CANNOT_TELL", "SOUND", "STARVING", "VERDICTS", "Verdict", "judge"]

STARVING, AT_RISK, CANNOT_TELL, SOUND = "starving", "at risk", "cannot tell", "sound"
#: In the order in which one outweighs another.
VERDICTS = (STARVING, AT_RISK, CANNOT_TELL, SOUND)

#: read_wakeup_threshold of drivers/char/random.c before 5.6, by default: with fewer bits a read of /dev/random waits.
FLOOR_BITS = 64
#: A key of 32 bytes, the least that a program asks /dev/random for: with fewer bits it waits in the middle of it.
ONE_KEY_BITS = 256
#: At or below this rate a virtio-rng made a boot longer than none at all: 26 s with 1024 bytes a second, 9 s without a device.
TIGHT_BYTES_PER_S = 1024.0
#: A boot that takes longer than this to be ready is slower than kernels that have nothing but their own jitter (9 s, emulated).
SLOW_READY_S = 10.0
#: A read of getrandom or /dev/random that took this long waited for randomness, and not for a processor.
LONG_WAIT_S = 1.0

_LOGS = {
    "overwritten": ("log-overwritten", "the beginning of the kernel log is overwritten"),
    "refused": ("log-refused", "the kernel log may not be read"),
    "absent": ("log-absent", "no kernel log was shown"),
}


@dataclass(frozen=True)
class Verdict:
    """The verdict about a guest.

    Attributes
    ----------
    verdict : str
        ``sound``, ``at risk``, ``starving`` or ``cannot tell``: the worst that the evidence allows to say.
    causes : tuple of str
        Short names, the weightiest first; none where it is sound.
    evidence : tuple of str
        What was seen, and where, a sentence each; what is missing stands there too.
    because : str
        The weightiest of those sentences.
    """

    verdict: str
    causes: tuple[str, ...]
    evidence: tuple[str, ...]
    because: str = ""


@dataclass
class _Findings:
    """Sentences in the order they were found, and the causes by the verdict that each alone would give."""

    said: list[str] = field(default_factory=list)
    because: dict[str, str] = field(default_factory=dict)
    proof: str = ""
    causes: dict[str, list[str]] = field(default_factory=lambda: {STARVING: [], AT_RISK: [], CANNOT_TELL: []})

    def note(self, sentence: str) -> None:
        self.said.append(sentence)

    def cause(self, weight: str, name: str, sentence: str) -> None:
        if name not in self.causes[weight]:
            self.causes[weight].append(name)
            self.because.setdefault(name, sentence)
        self.said.append(sentence)

    def verdict(self) -> Verdict:
        worst = next((weight for weight in (STARVING, AT_RISK, CANNOT_TELL) if self.causes[weight]), SOUND)
        known = [*self.causes[STARVING], *self.causes[AT_RISK]]
        causes = tuple(known or self.causes[CANNOT_TELL])
        return Verdict(worst, causes, tuple(self.said), self.because[causes[0]] if causes else self.proof)


def judge(facts: Facts) -> Verdict:
    """The verdict about a guest.

    Parameters
    ----------
    facts : Facts
        What is known of it. What is not known never counts in its favour.

    Returns
    -------
    Verdict
        ``starving`` only for what is so now; ``sound`` only where it was seen that it is ready and what makes it so at its next
        boot; else ``at risk`` where a cause was seen, and ``cannot tell`` where it was not.

    Examples
    --------
    >>> judge(Facts()).verdict
    'cannot tell'
    """
    found = _Findings()
    if facts.unreachable:
        found.cause(CANNOT_TELL, "host-unreachable", f"Its host cannot be asked: {visible(facts.unreachable, 500)}.")
        return found.verdict()
    _spoke(facts, found)
    _now(facts, found)
    proven = _sources(facts, found)
    _this_boot(facts, found, proven)
    _moves(facts, found)
    for note in facts.notes:
        found.note(note)
    return found.verdict()


def _spoke(facts: Facts, found: _Findings) -> None:
    """Whether there is a guest to be judged, and whether its numbers can be read."""
    if facts.state != "running":
        state = f"is {visible(facts.state)}" if facts.state else "is in a state that could not be asked"
        why = f": {facts.silence}" if facts.silence and not facts.state else ""
        found.cause(CANNOT_TELL, "not-running", f"The domain {state}{why}; its kernel cannot be asked.")
    elif not facts.said_by:
        found.cause(CANNOT_TELL, "guest-silent", f"The guest itself said nothing: {facts.silence or 'it was not asked'}.")
    elif facts.regime is None:
        evidence = visible(facts.regime_evidence or "no evidence of it")
        found.cause(CANNOT_TELL, "regime-unknown", f"What its kernel's numbers mean is not known ({evidence}).")
    else:
        kernel = f", kernel {visible(facts.kernel, 60)}" if facts.kernel else ""
        found.note(f"Regime {facts.regime}{kernel} (by {facts.said_by}: {visible(facts.regime_evidence or 'its own word')}).")


def _now(facts: Facts, found: _Findings) -> None:
    """Whether it starves now."""
    if facts.ready is False:
        found.cause(STARVING, "not-ready", "Its random number generator is not ready: getrandom waits now.")
    elif facts.ready:
        when = "" if facts.crng_ready_s is None else f", {facts.crng_ready_s:.1f} s after it booted"
        until = "" if facts.regime in (None, "blocking") else "; it stays so until the next boot"
        found.note(f"Its random number generator is ready{when}{until}.")
    elif facts.said_by:
        found.cause(CANNOT_TELL, "readiness-unknown", "Whether its random number generator is ready was not seen.")
    bits = facts.entropy_avail_bits
    if facts.regime == "blocking":
        _blocking_pool(facts, bits, found)
    elif bits is not None and facts.regime is not None:
        what = "the only value there is once it is ready" if (facts.regime, bits) == ("latched", 256) else "no sign of starvation"
        if facts.ready:
            found.note(f"entropy_avail is {bits}: under the regime {facts.regime} that is {what}.")


def _blocking_pool(facts: Facts, bits: int | None, found: _Findings) -> None:
    if facts.random_readable is False or (bits is not None and bits < FLOOR_BITS):
        seen = "poll says so" if bits is None else f"entropy_avail is {bits}, of which {FLOOR_BITS} are needed"
        found.cause(STARVING, "blocking-pool-low", f"/dev/random blocks now: {seen}.")
    elif bits is None:
        found.cause(CANNOT_TELL, "pool-unknown", "Its kernel's /dev/random can block at any time, and its pool was not seen.")
    elif bits < ONE_KEY_BITS:
        sentence = f"entropy_avail is {bits}: a program that takes a key of {ONE_KEY_BITS} bits from /dev/random waits."
        found.cause(AT_RISK, "blocking-pool-low", sentence)
    else:
        found.note(f"entropy_avail is {bits}: enough for {bits // ONE_KEY_BITS} keys of {ONE_KEY_BITS} bits.")


#: How sure a source is at the next boot.
_PROVEN, _WEAK, _ABSENT, _UNKNOWN = "proven", "weak", "absent", "unknown"


@dataclass(frozen=True)
class _Source:
    """One source: how sure it is, the cause that it is where it is not proven, and the sentence."""

    strength: str
    cause: str
    sentence: str


def _rdrand(facts: Facts) -> _Source:
    by = f" ({visible(facts.rdrand_detail)})" if facts.rdrand_detail else ""
    if facts.cpu_rdrand is False:
        return _Source(_ABSENT, "", f"Its processor offers no RDRAND{by}.")
    if facts.cpu_rdrand is None:
        return _Source(_UNKNOWN, "rdrand-unknown", f"Whether its processor offers RDRAND is not known{by}.")
    if facts.ready is False:
        return _Source(_ABSENT, "rdrand-untrusted", f"RDRAND is offered{by}, and the generator is not ready all the same.")
    if facts.trust_cpu is False:
        sentence = "Its processor offers RDRAND, and its kernel does not credit it (random.trust_cpu is off)."
        return _Source(_ABSENT, "rdrand-untrusted", sentence)
    if facts.trust_cpu is None:
        sentence = f"Its processor offers RDRAND{by}; whether its kernel credits it (random.trust_cpu) is not known."
        return _Source(_UNKNOWN, "trust-unknown", sentence)
    return _Source(_PROVEN, "", f"RDRAND is offered and credited{by}: it makes the generator ready as it boots.")


def _hwrng(facts: Facts) -> _Source:
    names = facts.hwrng_available
    if names is None:
        return _hwrng_by_the_host(facts)
    if not names:
        if facts.has_virtio_rng:
            sentence = "It has a virtio-rng and no driver for it: rng_available is empty, and nobody reads the device."
            return _Source(_WEAK, "driver-not-bound", sentence)
        return _Source(_ABSENT, "", "It has no hardware source: rng_available is empty.")
    shown = visible(" ".join(names), 120)
    if facts.hwrng_current is None:
        return _Source(_WEAK, "hwrng-not-selected", f"None of its hardware sources is in use (rng_available: {shown}).")
    current = visible(facts.hwrng_current, 60)
    if facts.hwrng_quality == 0:
        return _Source(_WEAK, "hwrng-not-credited", f"{current} is in use, and its quality is 0: none of its bits are credited.")
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
        return _Source(_UNKNOWN, unknown[0][0], f"{current} is in use; {what} is not known.")
    if unknown:
        what = " and ".join(what for _, what in unknown)
        sentence = f"{current} has its driver and is in use; {what} is not known, and this boot was ready in time all the same."
        return _Source(_PROVEN, "", sentence)
    limit = f", {_limit(facts)}" if facts.reads_virtio_rng else ""
    return _Source(_PROVEN, "", f"{current} has its driver, is in use and credited{limit}.")


def _hwrng_by_the_host(facts: Facts) -> _Source:
    """The hardware source where the guest did not show any: what the host configured."""
    if facts.devices is None:
        return _Source(_UNKNOWN, "source-unknown", "Its hardware sources are not known: it shows no hw_random.")
    if not facts.devices and not facts.has_virtio_rng:
        return _Source(_ABSENT, "", "The host has given it no virtio-rng.")
    tight = _tight(facts)
    if tight:
        return tight
    sentence = f"The host has given it a virtio-rng, {_limit(facts)}; whether it has a driver for it is not known."
    return _Source(_UNKNOWN, "driver-unknown", sentence)


def _limit(facts: Facts) -> str:
    device = facts.tightest
    return "unlimited" if device is None else f"limited to {device.max_bytes} bytes a {device.period_ms} ms"


def _tight(facts: Facts) -> _Source | None:
    device = facts.tightest
    rate = None if device is None else bytes_per_s(device)
    if rate is None or rate > TIGHT_BYTES_PER_S:
        return None
    return _Source(
        _WEAK,
        "tight-limit",
        f"Its virtio-rng is {_limit(facts)}, {rate:g} bytes a second: so tight a limit makes a boot longer than no device at all.",
    )


def _sources(facts: Facts, found: _Findings) -> bool:
    """What makes it ready at its next boot, and what keeps a blocking pool full; gives whether a source is proven."""
    rdrand, hwrng = _rdrand(facts), _hwrng(facts)
    proven = _PROVEN in (rdrand.strength, hwrng.strength)
    for source in (hwrng, rdrand):
        if source.strength == _PROVEN:
            found.proof = source.sentence
        # With another source that is proven it is worth saying, and no cause.
        if proven or not source.cause:
            found.note(source.sentence)
        elif source.strength == _UNKNOWN:
            found.cause(CANNOT_TELL, source.cause, source.sentence)
        elif rdrand.strength == _UNKNOWN:
            found.cause(CANNOT_TELL, source.cause, f"{source.sentence} RDRAND, if it is credited, would make up for it.")
        elif source is rdrand and hwrng.strength == _UNKNOWN:
            found.note(source.sentence)
        else:
            found.cause(AT_RISK, source.cause, source.sentence)
    if facts.feeders:
        sentence = f"A feeder runs in it: {visible(' '.join(facts.feeders), 120)}."
        found.note(sentence)
        found.proof = found.proof or sentence
    if facts.regime == "blocking" and not facts.feeders and hwrng.strength != _PROVEN:
        _unfed(hwrng, found)
    if not proven and _UNKNOWN not in (rdrand.strength, hwrng.strength):
        _without(facts, hwrng, found)
    return proven


def _unfed(hwrng: _Source, found: _Findings) -> None:
    """A blocking pool is emptied by who reads it, at any time; RDRAND credits nothing to it after boot."""
    if hwrng.strength == _UNKNOWN:
        found.cause(
            CANNOT_TELL, "blocking-pool-unfed", "Whether anything keeps the pool of its blocking /dev/random full is not known."
        )
    else:
        sentence = "Nothing but interrupts fills the pool of its blocking /dev/random, which any reader can empty."
        found.cause(AT_RISK, "blocking-pool-unfed", sentence)


def _without(facts: Facts, hwrng: _Source, found: _Findings) -> None:
    """It has neither RDRAND that counts nor a hardware source that does."""
    if facts.feeders and hwrng.strength == _ABSENT:
        if facts.crng_ready_s is None and facts.ready is not False:
            sentence = "A feeder begins late in a boot, and how long this guest waited for it is not known."
            found.cause(CANNOT_TELL, "readiness-time-unknown", sentence)
        return
    if hwrng.strength == _ABSENT and facts.cpu_rdrand is False:
        also = "" if facts.feeders is not None else " (whether a feeder runs in it is not known)"
        found.cause(AT_RISK, "no-source", f"Nothing gives it randomness as it boots{also}.")
    if hwrng.strength == _ABSENT or hwrng.cause == "driver-not-bound":
        if facts.gathers_jitter:
            sentence = (
                "At its next boot it has its kernel's own jitter alone: a wait of seconds, bounded where there is a cycle counter."
            )
            found.cause(AT_RISK, "kernel-jitter-only", sentence)
        elif facts.gathers_jitter is False:
            found.note("Its kernel gathers no jitter itself (that came with 5.4): at boot, a wait has no bound.")


def _this_boot(facts: Facts, found: _Findings, proven: bool) -> None:
    """What this boot showed, which the next one will show again."""
    slow = facts.crng_ready_s is not None and facts.crng_ready_s > SLOW_READY_S
    if slow:
        sentence = f"It took {facts.crng_ready_s:.1f} s to be ready in this boot; a source that came since shows at the next one."
        found.cause(AT_RISK, "slow-ready", sentence)
    if facts.urandom_warnings:
        sentence = f"Programs read /dev/urandom {facts.urandom_warnings} times before it was ready: keys made then may be weak."
        if slow:
            found.cause(AT_RISK, "urandom-before-ready", sentence)
        else:
            found.note(sentence)
    if facts.longest_wait_s is not None and facts.longest_wait_s >= LONG_WAIT_S:
        sentence = f"A read of getrandom or /dev/random took {facts.longest_wait_s:.1f} s in this boot."
        found.cause(AT_RISK, "waits-seen", sentence)
    if facts.said_by and facts.crng_ready_s is None and facts.ready and facts.kernel_log in _LOGS:
        name, words = _LOGS[facts.kernel_log]
        sentence = f"It is ready; since when is not known: {words}."
        if proven:
            found.note(sentence)
        else:
            found.cause(CANNOT_TELL, name, sentence)


def _moves(facts: Facts, found: _Findings) -> None:
    """What would become of it on the other hosts of the set."""
    if facts.cpu_rdrand is False:
        relies: bool | None = False
    elif _hwrng(facts).strength == _PROVEN:
        relies = False
    else:
        relies = None if facts.cpu_rdrand is None or facts.trust_cpu is None else facts.trust_cpu
    for move in facts.moves:
        host, detail = visible(move.host), f" ({visible(move.detail, 300)})" if move.detail else ""
        lacks = move.rdrand is False and facts.cpu_rdrand is not False
        if move.fails and lacks:
            found.cause(AT_RISK, "migration-fails", f"It cannot move to {host}, which offers no RDRAND{detail}.")
        elif move.fails:
            found.note(f"It cannot move to {host}, for another reason than RDRAND{detail}.")
        elif lacks and relies:
            sentence = f"On {host} it would have no RDRAND, and it has no other source that counts{detail}."
            found.cause(AT_RISK, "migration-loses-rdrand", sentence)
        elif (lacks and relies is None) or (relies and (move.fails is None or move.rdrand is None)):
            sentence = f"Whether it would still have what it relies on after a move to {host} is not known{detail}."
            found.cause(CANNOT_TELL, "migration-unknown", sentence)
        elif lacks:
            found.note(f"On {host} it would have no RDRAND; it does not rely on it{detail}.")
        elif move.fails is None or move.rdrand is None:
            found.note(f"Whether it could move to {host} is not known{detail}.")
        else:
            found.note(f"It can move to {host}.")
