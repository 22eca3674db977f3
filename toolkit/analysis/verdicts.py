"""Whether a guest is sound, at risk, starving, or cannot be told, with the causes and the evidence. Facts in, a verdict out.

What each regime means decides. Only a ``blocking`` kernel can run dry after it was ready; on all later ones a guest that is ready
stays so until it is booted again, so that its risk is about its next boot, and ``entropy_avail`` says nothing about it. What to do
about a cause is :mod:`toolkit.analysis.remedy`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.analysis import boot_sources
from toolkit.analysis.boot_sources import ABSENT, PROVEN, SLOW_READY_S, UNKNOWN, Source
from toolkit.guests.audit_facts import Facts, Move
from toolkit.markup import visible

__all__ = ["AT_RISK", "CANNOT_TELL", "SOUND", "STARVING", "VERDICTS", "Verdict", "judge"]

STARVING, AT_RISK, CANNOT_TELL, SOUND = "starving", "at risk", "cannot tell", "sound"
#: In the order in which one outweighs another.
VERDICTS = (STARVING, AT_RISK, CANNOT_TELL, SOUND)

#: read_wakeup_threshold of drivers/char/random.c before 5.6, by default: with fewer bits a read of /dev/random waits.
FLOOR_BITS = 64
#: A key of 32 bytes, the least that a program asks /dev/random for: with fewer bits it waits in the middle of it.
ONE_KEY_BITS = 256
#: A read of getrandom or /dev/random that took this long waited for randomness, and not for a processor.
LONG_WAIT_S = 1.0

#: How what was found is told where a guest's configuration is not what it runs with.
_NOW, _THEN = "As it runs", "At its next start"

_HAVEGED = "haveged runs in it; before 1.9.18 it never fills a pool of 256 bits, and which one it is is not known."
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

    def of(self, when: str, other: _Findings, *weights: str) -> None:
        """Take what was found of the guest at some time: its sentences, which say when, and its causes of these weights."""
        for weight in weights:
            for name in other.causes[weight]:
                self.cause(weight, name, f"{when}: {other.because[name]}")
        told = {other.because[name] for weight in weights for name in other.causes[weight]}
        for sentence in other.said:
            if sentence not in told:
                self.note(f"{when}: {sentence}")

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
    proven = _sources_of_both(facts, found)
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


def _sources_of_both(facts: Facts, found: _Findings) -> bool:
    """Its sources as it runs, which a reboot keeps, and by its configuration, which counts from its next start on."""
    coming = facts.at_next_start
    if coming is None:
        return _sources(facts, found)
    now, then = _Findings(), _Findings()
    proven = all([_sources(facts, now), _sources(coming, then)])
    found.proof = f"{_THEN}: {then.proof}"
    if now.causes[AT_RISK] and not then.causes[AT_RISK]:
        sentence = "Its configuration was changed since it started: that counts from its next start on; a reboot keeps what it has."
        found.cause(AT_RISK, "restart-needed", sentence)
        found.of(_NOW, now)
    else:
        found.of(_NOW, now, *(() if then.causes[AT_RISK] else (CANNOT_TELL,)))
    found.of(_THEN, then, AT_RISK, CANNOT_TELL)
    return proven


def _sources(facts: Facts, found: _Findings) -> bool:
    """What makes it ready at its next boot, and what keeps a blocking pool full; gives whether a source is proven."""
    rdrand, hwrng = boot_sources.rdrand(facts), boot_sources.hwrng(facts)
    proven = PROVEN in (rdrand.strength, hwrng.strength)
    for source in (hwrng, rdrand):
        if source.strength == PROVEN:
            found.proof = source.sentence
        # With another source that is proven it is worth saying, and no cause.
        if proven or not source.cause:
            found.note(source.sentence)
        elif source.strength == UNKNOWN:
            found.cause(CANNOT_TELL, source.cause, source.sentence)
        elif rdrand.strength == UNKNOWN:
            found.cause(CANNOT_TELL, source.cause, f"{source.sentence} RDRAND, if it is credited, would make up for it.")
        elif source is rdrand and hwrng.strength == UNKNOWN:
            found.note(source.sentence)
        else:
            found.cause(AT_RISK, source.cause, source.sentence)
    short = boot_sources.short_answers(facts)
    if short is not None and short.cause and rdrand.strength != PROVEN:
        found.cause(AT_RISK, short.cause, short.sentence)
    elif short is not None:
        found.note(short.sentence)
    if facts.driver_bound is False and facts.hwrng_available:
        found.note("It has a virtio-rng too, without a driver: nobody reads it.")
    _feeders(facts, found)
    if facts.regime == "blocking" and not facts.feeding and hwrng.strength != PROVEN:
        _unfed(facts, hwrng, found)
    if not proven and UNKNOWN not in (rdrand.strength, hwrng.strength):
        _without(facts, hwrng, found)
    return proven


def _feeders(facts: Facts, found: _Findings) -> None:
    if not facts.feeders:
        return
    sentence = f"A feeder runs in it: {visible(' '.join(facts.feeders), 120)}."
    if facts.feeding:
        found.proof = found.proof or sentence
    elif facts.feeding is None and "haveged" in facts.feeders:
        sentence = _HAVEGED
    elif facts.feeding is None:
        sentence = "rngd runs in it; whether there is a hardware source or RDRAND that it could carry is not known."
    else:
        sentence = "rngd runs in it, and there is neither a hardware source nor RDRAND that it could carry."
    found.note(sentence)


def _unfed(facts: Facts, hwrng: Source, found: _Findings) -> None:
    """A blocking pool is emptied by who reads it, at any time; RDRAND credits nothing to it after boot."""
    if hwrng.strength == UNKNOWN or facts.feeding is None:
        found.cause(
            CANNOT_TELL, "blocking-pool-unfed", "Whether anything keeps the pool of its blocking /dev/random full is not known."
        )
    else:
        sentence = "Nothing but interrupts fills the pool of its blocking /dev/random, which any reader can empty."
        found.cause(AT_RISK, "blocking-pool-unfed", sentence)


def _without(facts: Facts, hwrng: Source, found: _Findings) -> None:
    """It has neither RDRAND that counts nor a hardware source that does."""
    if facts.feeding and hwrng.strength == ABSENT:
        if facts.crng_ready_s is None and facts.ready is not False:
            sentence = "A feeder begins late in a boot, and how long this guest waited for it is not known."
            found.cause(CANNOT_TELL, "readiness-time-unknown", sentence)
        return
    if facts.feeders and facts.feeding is None and hwrng.strength == ABSENT:
        found.cause(CANNOT_TELL, "feeder-unknown", _HAVEGED)
        return
    if hwrng.strength == ABSENT and facts.cpu_rdrand is False:
        also = "" if facts.feeders is not None else " (whether a feeder runs in it is not known)"
        found.cause(AT_RISK, "no-source", f"Nothing gives it randomness as it boots{also}.")
    if hwrng.strength == ABSENT or hwrng.cause in ("driver-not-bound", "source-not-configured"):
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
    elif boot_sources.hwrng(facts).strength == PROVEN:
        relies = False
    else:
        relies = None if facts.cpu_rdrand is None or facts.trust_cpu is None else facts.trust_cpu
    for move in facts.moves:
        host, detail = visible(move.host), f" ({visible(move.detail, 300)})" if move.detail else ""
        lacks = move.rdrand is False and facts.cpu_rdrand is not False
        if move.fails and lacks and _for_rdrand(move):
            found.cause(AT_RISK, "migration-fails", f"It cannot move to {host}, which offers no RDRAND{detail}.")
        elif move.fails:
            found.note(f"It cannot move to {host}, for another reason than RDRAND{detail}.")
        elif lacks and relies and facts.feeders and facts.feeding != ():
            sentence = (
                f"On {host} it would have no RDRAND; whether and how soon its feeder would make it ready is not known{detail}."
            )
            found.cause(CANNOT_TELL, "migration-unknown", sentence)
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


def _for_rdrand(move: Move) -> bool:
    """Whether RDRAND is why a move is refused: libvirt names the features that are missing, where it names any."""
    words = move.detail.lower()
    return "rdrand" in words or "features" not in words
