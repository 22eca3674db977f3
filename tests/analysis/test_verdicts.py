"""Verdicts: a table of cases with what is expected of each and why, and what holds for any facts whatever."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trees import TREES
from toolkit.analysis.remedy import UNLIMITED_RNG_XML, remedies
from toolkit.analysis.verdicts import AT_RISK, CANNOT_TELL, SOUND, STARVING, VERDICTS, judge
from toolkit.guests.audit_facts import Facts, Move, NextStart, Target, of_rng_state
from toolkit.guests.domain_xml import RngDevice
from toolkit.sensors.rng import read_rng_state


def device(max_bytes: int | None = None, period_ms: int | None = None) -> RngDevice:
    return RngDevice("virtio", "random", "/dev/urandom", max_bytes, period_ms, None)


def recorded(name: str) -> Facts:
    root = TREES / name
    kernel = (root / "proc/sys/kernel/osrelease").read_text().strip()
    return of_rng_state(read_rng_state(root), "its own files", kernel)


UNLIMITED = (device(),)
TARGET = Target("qemu:///system", "web1", "00000000-0000-0000-0000-000000000001", running=True)
#: A guest of which everything is known and nothing is wrong, in each way to be so.
RDRAND = Facts(
    target=TARGET,
    state="running",
    said_by="its qemu-guest-agent",
    kernel="6.1.0-18-amd64",
    regime="latched",
    regime_evidence="poolsize 256",
    poolsize_bits=256,
    entropy_avail_bits=256,
    crng_ready=True,
    crng_ready_s=0.0,
    urandom_warnings=0,
    kernel_log="complete",
    hwrng_available=(),
    cpu_rdrand=True,
    trust_cpu=True,
    feeders=(),
    devices=(),
)
VIRTIO = replace(
    RDRAND,
    crng_ready_s=1.2,
    hwrng_available=("virtio_rng.0",),
    hwrng_current="virtio_rng.0",
    hwrng_quality=1024,
    cpu_rdrand=False,
    devices=UNLIMITED,
)
#: A kernel whose driver was measured to stall behind limits that are no multiple of its request.
CHECKED = replace(VIRTIO, kernel="6.1.0-56-amd64")
BARE = replace(RDRAND, cpu_rdrand=False, crng_ready_s=8.6)
FED = replace(BARE, feeders=("jitterentropy-rngd",), crng_ready_s=3.0)
BLOCKING = replace(
    VIRTIO,
    regime="blocking",
    regime_evidence="read_wakeup_threshold is offered",
    kernel="4.19.0-16-amd64",
    poolsize_bits=4096,
    entropy_avail_bits=3000,
    hwrng_quality=1000,
    random_readable=True,
)
OFF = Facts(target=replace(TARGET, running=False), state="shut off", cpu_rdrand=False, devices=UNLIMITED)
SILENT = replace(OFF, target=TARGET, state="running", silence="it has no port of qemu-guest-agent")
SOUND_ONES = {"rdrand": RDRAND, "virtio": VIRTIO, "feeder": FED, "blocking": BLOCKING}


@dataclass(frozen=True)
class Case:
    name: str
    facts: Facts
    verdict: str
    causes: str
    why: str


def tight(max_bytes: int, period_ms: int, facts: Facts = VIRTIO) -> Facts:
    return replace(facts, devices=(device(max_bytes, period_ms),))


def fed_by(backend: str, source: str | None) -> Facts:
    return replace(VIRTIO, devices=(RngDevice("virtio", backend, source, None, None, None),))


ALL_OF = "all of it is known, and nothing is wrong"
CASES = [
    # Recorded machines.
    Case(
        "recorded: blocking, 87 bits, slow",
        recorded("blocking"),
        AT_RISK,
        "blocking-pool-low slow-ready urandom-before-ready",
        "87 bits are fewer than a key, and the boot took 65 s; that a feeder runs does not undo it",
    ),
    Case(
        "recorded: estimating, RDRAND trusted",
        recorded("estimating"),
        SOUND,
        "",
        "RDRAND is credited; a TPM of quality 0 is no harm",
    ),
    Case(
        "recorded: draining, 112 of 256", recorded("draining"), SOUND, "", "a sawtooth is normal; a virtio-rng that made it in time"
    ),
    Case("recorded: latched", recorded("latched"), SOUND, "", "256 is the latch's only value; RDRAND and a virtio-rng"),
    Case(
        "recorded: device without a driver",
        recorded("unbound"),
        AT_RISK,
        "driver-not-bound kernel-jitter-only slow-ready",
        "the device is there and rng_available is empty",
    ),
    Case(
        "recorded: log overwritten",
        recorded("overwritten"),
        CANNOT_TELL,
        "source-unknown trust-unknown log-overwritten",
        "ready, but not since when nor by what",
    ),
    Case(
        "recorded: container that hides all",
        recorded("hidden"),
        CANNOT_TELL,
        "source-unknown rdrand-unknown log-absent",
        "ready by the latch; nothing else is shown",
    ),
    Case(
        "recorded: log overwritten, and the host knows of an unlimited device",
        replace(recorded("overwritten"), devices=UNLIMITED),
        CANNOT_TELL,
        "driver-unknown trust-unknown log-overwritten",
        "a device helps only with a driver, of which nothing was seen",
    ),
    Case(
        "recorded: log overwritten, its kernel known to credit RDRAND",
        replace(recorded("overwritten"), trust_cpu=True),
        SOUND,
        "",
        "when it was ready is not known, but that it is, and why it will be",
    ),
    # What entropy_avail means.
    Case("256, latched", VIRTIO, SOUND, "", "never low entropy"),
    Case(
        "256, latched, no source",
        BARE,
        AT_RISK,
        "no-source kernel-jitter-only",
        "at risk for want of a source, not for 256",
    ),
    Case(
        "255, latched",
        replace(BARE, entropy_avail_bits=255, crng_ready=None, crng_ready_s=None),
        STARVING,
        "not-ready no-source kernel-jitter-only",
        "below the latch it is not ready",
    ),
    Case(
        "150, blocking", replace(BLOCKING, entropy_avail_bits=150), AT_RISK, "blocking-pool-low", "readable, and fewer than one key"
    ),
    Case(
        "150, estimating",
        replace(VIRTIO, regime="estimating", entropy_avail_bits=150),
        SOUND,
        "",
        "after ready a low estimate is harmless",
    ),
    Case("0, draining", replace(VIRTIO, regime="draining", entropy_avail_bits=0), SOUND, "", "it drops to 0 at each reseed"),
    Case(
        "12, blocking",
        replace(BLOCKING, entropy_avail_bits=12),
        STARVING,
        "blocking-pool-low",
        "below the floor /dev/random blocks",
    ),
    Case(
        "blocking, poll says not readable",
        replace(BLOCKING, entropy_avail_bits=None, random_readable=False),
        STARVING,
        "blocking-pool-low",
        "it was seen to block",
    ),
    Case("blocking, the pool not seen", replace(BLOCKING, entropy_avail_bits=None), CANNOT_TELL, "pool-unknown", "it may be empty"),
    Case("blocking, full and fed", BLOCKING, SOUND, "", ALL_OF),
    Case(
        "blocking, RDRAND alone",
        replace(BLOCKING, hwrng_available=(), hwrng_current=None, devices=(), cpu_rdrand=True),
        AT_RISK,
        "blocking-pool-unfed",
        "RDRAND makes it ready and fills no blocking pool",
    ),
    Case(
        "blocking, whether a feeder runs is not known",
        replace(BLOCKING, hwrng_available=(), hwrng_current=None, devices=(), cpu_rdrand=True, feeders=None),
        CANNOT_TELL,
        "blocking-pool-unfed",
        "a feeder may fill it",
    ),
    Case(
        "blocking, rngd with nothing to carry",
        replace(BLOCKING, hwrng_available=(), hwrng_current=None, devices=(), feeders=("rngd",)),
        AT_RISK,
        "blocking-pool-unfed no-source",
        "a name is no source",
    ),
    Case(
        "blocking, rngd that may have something to carry",
        replace(BLOCKING, hwrng_available=(), hwrng_current=None, devices=(), cpu_rdrand=None, feeders=("rngd",)),
        CANNOT_TELL,
        "rdrand-unknown blocking-pool-unfed",
        "RDRAND, if it has it",
    ),
    Case(
        "blocking, rngd that carries RDRAND",
        replace(BLOCKING, hwrng_available=(), hwrng_current=None, devices=(), cpu_rdrand=True, feeders=("rngd",)),
        SOUND,
        "",
        "RDRAND makes it ready, and rngd keeps the pool full of it",
    ),
    # Not ready.
    Case(
        "not ready, and a virtio-rng in use",
        replace(VIRTIO, crng_ready=False, crng_ready_s=None, entropy_avail_bits=0),
        STARVING,
        "not-ready source-silent",
        "what feeds the device gives nothing",
    ),
    Case(
        "not ready, nothing",
        replace(BARE, crng_ready=False, crng_ready_s=None),
        STARVING,
        "not-ready no-source kernel-jitter-only",
        "getrandom waits",
    ),
    Case(
        "not ready, 4 bytes per 4 s",
        replace(tight(4, 4000), crng_ready=False, crng_ready_s=None, entropy_avail_bits=40),
        STARVING,
        "not-ready tight-limit",
        "the limit is why",
    ),
    Case(
        "not ready before 5.4, nothing",
        replace(BARE, regime="blocking", kernel="4.9.0", crng_ready=False, crng_ready_s=None, entropy_avail_bits=20),
        STARVING,
        "not-ready blocking-pool-low blocking-pool-unfed no-source",
        "no jitter of the kernel's own: nothing bounds the wait",
    ),
    Case(
        "another generator, not ready",
        replace(VIRTIO, regime=None, crng_ready=False, crng_ready_s=None),
        STARVING,
        "not-ready",
        "EAGAIN is EAGAIN under any generator",
    ),
    Case(
        "another generator (LRNG)",
        replace(VIRTIO, regime=None, regime_evidence="/proc/lrng_type: another generator than the kernel's own"),
        CANNOT_TELL,
        "regime-unknown",
        "what its numbers mean is not known",
    ),
    # Sources.
    Case("RDRAND credited, nothing else", RDRAND, SOUND, "", ALL_OF),
    Case(
        "RDRAND untrusted",
        replace(RDRAND, trust_cpu=False),
        AT_RISK,
        "rdrand-untrusted kernel-jitter-only",
        "offered, not credited",
    ),
    Case(
        "RDRAND untrusted, virtio-rng", replace(VIRTIO, cpu_rdrand=True, trust_cpu=False), SOUND, "", "the device makes up for it"
    ),
    Case("RDRAND, trust not known", replace(RDRAND, trust_cpu=None), CANNOT_TELL, "trust-unknown", "it may not count"),
    Case("4 bytes per 4 s", tight(4, 4000), AT_RISK, "tight-limit", "worse than no device at the next boot"),
    Case("1024 bytes per 1 s", tight(1024, 1000), SOUND, "", "measured: as soon ready as without a limit"),
    Case("16 bytes per 1 s", tight(16, 1000), AT_RISK, "tight-limit", "the first 64 bytes take 3 s: longer than jitter"),
    Case(
        "64 bytes per 60 s beside 4 bytes per 2 s",
        replace(VIRTIO, devices=(device(64, 60000), device(4, 2000))),
        AT_RISK,
        "tight-limit",
        "of the one the first 64 bytes come at once, of the other they take 30 s",
    ),
    Case("64 bytes per 60 s", tight(64, 60000), SOUND, "", "the first 64 bytes come at once"),
    Case(
        "64 bytes per 60 s beside 32 bytes per 10 ms, blocking",
        replace(BLOCKING, devices=(device(64, 60000), device(32, 10))),
        AT_RISK,
        "tight-limit blocking-pool-unfed",
        "what readers take comes back at a byte a second",
    ),
    Case("no bytes at all", tight(0, 1000), AT_RISK, "tight-limit", "a device that gives nothing"),
    Case("32 bytes per 1 s", tight(32, 1000), SOUND, "", "the first 64 bytes take 1 s"),
    Case("1 MB per 1 s", tight(10**6, 1000), SOUND, "", "a limit that nobody feels"),
    Case(
        "1000 bytes per 0.5 s, a driver of 2026",
        tight(1000, 500, CHECKED),
        AT_RISK,
        "stalling-limit",
        "measured: 1000 is 40 more than a multiple of 64, and its reader waits for ever",
    ),
    Case(
        "100 bytes per 0.5 s, a driver of 2026",
        tight(100, 500, CHECKED),
        AT_RISK,
        "stalling-limit",
        "slow at its next boot, and stalled when the limit is reached",
    ),
    Case(
        "1000 bytes per 0.5 s, a driver of 2026, RDRAND credited",
        tight(1000, 500, replace(CHECKED, cpu_rdrand=True)),
        SOUND,
        "",
        "getrandom does not need the device; that its readers stall is said",
    ),
    Case("1024 bytes per 0.5 s, a driver of 2026", tight(1024, 500, CHECKED), SOUND, "", "a multiple of 64"),
    Case("1500 bytes per 0.5 s, a driver of 2026", tight(1500, 500, CHECKED), SOUND, "", "28 bytes a period are lost, no more"),
    Case(
        "1000 bytes per 0.5 s, a driver before it",
        tight(1000, 500, replace(VIRTIO, kernel="6.12.95+deb12-cloud-amd64")),
        SOUND,
        "",
        "measured: it gets what the limit allows",
    ),
    Case(
        "1000 bytes per 0.5 s, a kernel of which it is not known",
        tight(1000, 500),
        SOUND,
        "",
        "nothing was measured of it; that others stall is said",
    ),
    Case(
        "4 bytes per 4 s, RDRAND credited",
        tight(4, 4000, replace(VIRTIO, cpu_rdrand=True)),
        SOUND,
        "",
        "ready before the device is asked",
    ),
    Case(
        "driver not bound, no RDRAND",
        replace(VIRTIO, hwrng_available=(), hwrng_current=None, hwrng_quality=None),
        AT_RISK,
        "driver-not-bound kernel-jitter-only",
        "configured by the host, read by nobody",
    ),
    Case(
        "driver not bound, RDRAND credited",
        replace(RDRAND, devices=UNLIMITED),
        SOUND,
        "",
        "it needs no device; that one lies idle is said",
    ),
    Case(
        "source not selected",
        replace(VIRTIO, hwrng_current=None, hwrng_quality=None),
        AT_RISK,
        "hwrng-not-selected",
        "available and not in use",
    ),
    Case("source not credited", replace(VIRTIO, hwrng_quality=0), AT_RISK, "hwrng-not-credited", "its bits count for nothing"),
    Case(
        "a TPM in use, the virtio-rng not bound",
        replace(VIRTIO, hwrng_available=("tpm-rng-0",), hwrng_current="tpm-rng-0"),
        SOUND,
        "",
        "one source that counts is enough; the idle device is said",
    ),
    Case("feeder running, quick", FED, SOUND, "", "ready within seconds with what it has at each boot"),
    Case(
        "feeder running, log overwritten",
        replace(FED, crng_ready_s=None, kernel_log="overwritten"),
        CANNOT_TELL,
        "readiness-time-unknown log-overwritten",
        "a feeder begins late; how late is not known",
    ),
    Case(
        "haveged, a pool of 256 bits",
        replace(FED, feeders=("haveged",)),
        CANNOT_TELL,
        "feeder-unknown",
        "measured: that of Debian 12 spins and never fills it; a newer one does",
    ),
    Case(
        "haveged, a pool of 4096 bits",
        replace(FED, feeders=("haveged",), regime="estimating", poolsize_bits=4096, entropy_avail_bits=3000),
        SOUND,
        "",
        "what it leaves of so many bits does not matter",
    ),
    Case(
        "haveged beside a virtio-rng",
        replace(VIRTIO, feeders=("haveged",)),
        SOUND,
        "",
        "the device makes it ready, whatever haveged does",
    ),
    Case("feeder running, slow", replace(FED, crng_ready_s=40.0), AT_RISK, "slow-ready", "it came too late in this boot"),
    # What its configuration has otherwise than what it runs with.
    Case(
        "a device in the running guest alone",
        replace(VIRTIO, next_start=NextStart(())),
        AT_RISK,
        "source-not-configured kernel-jitter-only",
        "its next start is without it",
    ),
    Case(
        "a device in the running guest alone, RDRAND credited",
        replace(VIRTIO, cpu_rdrand=True, next_start=NextStart(())),
        SOUND,
        "",
        "RDRAND stays",
    ),
    Case(
        "a device in the running guest alone, and a TPM",
        replace(VIRTIO, hwrng_available=("virtio_rng.0", "tpm-rng-0"), next_start=NextStart(())),
        CANNOT_TELL,
        "source-not-configured",
        "nothing is known of the TPM as a source",
    ),
    Case(
        "a device in the running guest alone, which is silent",
        replace(SILENT, next_start=NextStart(())),
        AT_RISK,
        "source-not-configured",
        "seen on the host",
    ),
    Case(
        "a device in the configuration alone",
        replace(BARE, next_start=NextStart(UNLIMITED)),
        AT_RISK,
        "restart-needed",
        "a reboot keeps what it has, which is nothing; its next start does not",
    ),
    Case(
        "a device in the configuration alone, limited to 4 bytes per 4 s",
        replace(BARE, next_start=NextStart((device(4, 4000),))),
        AT_RISK,
        "tight-limit",
        "its next start is worse than this one",
    ),
    Case(
        "a device in the configuration alone, a TPM in use",
        replace(VIRTIO, devices=(), hwrng_available=("tpm-rng-0",), hwrng_current="tpm-rng-0", next_start=NextStart(UNLIMITED)),
        SOUND,
        "",
        "one source that counts is enough",
    ),
    Case(
        "not ready, and a device in the configuration alone",
        replace(BARE, crng_ready=False, crng_ready_s=None, next_start=NextStart(UNLIMITED)),
        STARVING,
        "not-ready restart-needed",
        "what helps is there already",
    ),
    Case(
        "4 bytes per 4 s, and no limit in the configuration any more",
        replace(tight(4, 4000), next_start=NextStart(UNLIMITED)),
        AT_RISK,
        "restart-needed",
        "the remedy was followed, and counts from its next start on",
    ),
    Case(
        "no limit, and one in the configuration",
        replace(VIRTIO, next_start=NextStart((device(4, 4000),))),
        AT_RISK,
        "tight-limit",
        "its next start waits",
    ),
    Case(
        "RDRAND now, and none in the configuration",
        replace(RDRAND, next_start=NextStart((), cpu_rdrand=False)),
        AT_RISK,
        "no-source kernel-jitter-only",
        "its next start is without it",
    ),
    Case(
        "no RDRAND now, and one in the configuration that its kernel credits",
        replace(BARE, next_start=NextStart((), cpu_rdrand=True)),
        AT_RISK,
        "restart-needed",
        "a reboot keeps the processor",
    ),
    # This boot.
    Case(
        "slow with a good source",
        replace(VIRTIO, crng_ready_s=755.0),
        AT_RISK,
        "slow-ready",
        "what made it slow may be there still",
    ),
    Case("a wait was seen", replace(VIRTIO, longest_wait_s=12.0), AT_RISK, "waits-seen", "a program waited"),
    Case("a read of a millisecond", replace(VIRTIO, longest_wait_s=0.001), SOUND, "", "no wait"),
    # What cannot be asked.
    Case("nothing known", Facts(), CANNOT_TELL, "not-running source-unknown rdrand-unknown", "nothing"),
    Case("host silent", Facts(unreachable="no answer within 40 s"), CANNOT_TELL, "host-unreachable", "its host did not answer"),
    Case(
        "another host's service feeds the device, log overwritten",
        replace(fed_by("egd", "10.0.0.1"), crng_ready_s=None, kernel_log="overwritten"),
        CANNOT_TELL,
        "backend-unknown log-overwritten",
        "the service may be gone at its next boot",
    ),
    Case(
        "the host's /dev/random feeds the device, log overwritten",
        replace(fed_by("random", "/dev/random"), crng_ready_s=None, kernel_log="overwritten"),
        CANNOT_TELL,
        "backend-unknown log-overwritten",
        "it blocks on older kernels of hosts",
    ),
    Case("the host's /dev/random feeds the device, quick", fed_by("random", "/dev/random"), SOUND, "", "it did not block"),
    Case(
        "QEMU's own generator feeds the device, log overwritten",
        replace(fed_by("builtin", None), crng_ready_s=None, kernel_log="overwritten"),
        SOUND,
        "",
        "it never blocks",
    ),
    Case(
        "fed by the host's /dev/urandom, and by another's service after its next start",
        replace(VIRTIO, next_start=NextStart(fed_by("egd", "10.0.0.1").devices or ())),
        CANNOT_TELL,
        "backend-unknown",
        "that this boot was quick says nothing of what it did not have",
    ),
    Case("shut off, a device", OFF, CANNOT_TELL, "not-running driver-unknown", "its kernel may have no driver"),
    Case("shut off, no source", replace(OFF, devices=()), AT_RISK, "no-source", "whatever kernel it has, it gets nothing"),
    Case("shut off, 4 bytes per 4 s", tight(4, 4000, OFF), AT_RISK, "tight-limit", "whatever kernel it has"),
    Case(
        "shut off, RDRAND",
        replace(OFF, cpu_rdrand=True, devices=()),
        CANNOT_TELL,
        "not-running trust-unknown",
        "its kernel may not credit it",
    ),
    Case("silent, a device", SILENT, CANNOT_TELL, "guest-silent driver-unknown", "a device alone proves nothing"),
    Case("silent, no source", replace(SILENT, devices=()), AT_RISK, "no-source", "seen on the host"),
    # Moves.
    Case(
        "relies on RDRAND, and a host lacks it",
        replace(RDRAND, moves=(Move("b", False, True), Move("c", False, False))),
        AT_RISK,
        "migration-loses-rdrand",
        "on c nothing is left",
    ),
    Case(
        "does not rely on RDRAND",
        replace(VIRTIO, cpu_rdrand=True, moves=(Move("c", False, False),)),
        SOUND,
        "",
        "the device goes along",
    ),
    Case(
        "its processor requires RDRAND, and a host lacks it",
        replace(RDRAND, moves=(Move("c", True, False, "missing features: rdrand"),)),
        AT_RISK,
        "migration-fails",
        "libvirt refuses the move for RDRAND",
    ),
    Case(
        "a move fails for another feature, to a host that lacks RDRAND too",
        replace(VIRTIO, cpu_rdrand=True, moves=(Move("c", True, False, "missing features: avx512f"),)),
        SOUND,
        "",
        "libvirt names another reason",
    ),
    Case(
        "relies on RDRAND, a host lacks it, and a feeder runs",
        replace(RDRAND, feeders=("haveged",), moves=(Move("c", False, False),)),
        CANNOT_TELL,
        "migration-unknown",
        "the feeder is left, and how soon it would do was not seen",
    ),
    Case("a move fails for another feature", replace(RDRAND, moves=(Move("c", True, True),)), SOUND, "", "no matter of randomness"),
    Case(
        "relies on RDRAND, and a host is silent",
        replace(RDRAND, moves=(Move("c"),)),
        CANNOT_TELL,
        "migration-unknown",
        "nobody said",
    ),
    Case("has a device, and a host is silent", replace(VIRTIO, moves=(Move("c"),)), SOUND, "", "no host can take its source away"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_case_gets_its_verdict_and_its_causes(case: Case) -> None:
    verdict = judge(case.facts)
    assert (verdict.verdict, " ".join(verdict.causes)) == (case.verdict, case.causes), (case.why, verdict.evidence)
    assert verdict.evidence
    assert all(sentence.endswith(".") and len(sentence) < 700 for sentence in verdict.evidence), verdict.evidence
    assert verdict.because in verdict.evidence
    assert bool(verdict.causes) == (verdict.verdict != SOUND)
    assert not any("low entropy" in sentence or "healthy" in sentence for sentence in verdict.evidence)


@pytest.mark.parametrize("case", [case for case in CASES if case.verdict != SOUND], ids=lambda case: case.name)
def test_whatever_is_not_sound_has_something_to_do(case: Case) -> None:
    for facts in (case.facts, replace(case.facts, target=TARGET), replace(case.facts, target=replace(TARGET, persistent=False))):
        assert remedies(facts, judge(facts))


def test_a_limit_that_stalls_is_exchanged_for_the_next_that_does_not() -> None:
    facts = tight(1000, 500, CHECKED)
    verdict = judge(facts)
    assert "1000 bytes is no multiple of the 64" in verdict.because
    assert "were measured" in verdict.because
    old, new = remedies(facts, verdict)
    assert "detach-device web1 limited.xml --config" in str(old.command)
    assert "<rate bytes='1000' period='500'/>" in str(old.xml)
    assert "attach-device web1 rng.xml --config" in str(new.command)
    assert "<rate bytes='1024' period='500'/>" in str(new.xml)
    (edited,) = remedies(replace(facts, devices=(replace(facts.devices[0], backend="egd"),)), verdict)
    assert (str(edited.command).split()[-2:], edited.xml) == (["edit", "web1"], "<rate bytes='1024' period='500'/>\n")
    (written,) = remedies(replace(facts, target=None), verdict)
    assert "bytes='1024'" in str(written.xml)
    # Of a kernel or a guest of which it cannot be told the evidence says so, and nothing is asked for.
    for known in (tight(1000, 500), tight(1000, 500, replace(CHECKED, cpu_rdrand=True))):
        assert any("no multiple of the 64" in sentence for sentence in judge(known).evidence)


def test_a_device_that_gives_nothing_or_may_not_is_looked_at_and_fed_otherwise() -> None:
    silent = replace(VIRTIO, crng_ready=False, crng_ready_s=None, entropy_avail_bits=0)
    assert "has its driver, is in use and credited" not in " ".join(judge(silent).evidence)
    (look, again) = remedies(silent, judge(silent))
    assert look.command == "timeout 10 head -c 64 /dev/hwrng | wc -c"
    assert again.what == "Look again after the change and its next start."
    blocking = replace(fed_by("random", "/dev/random"), crng_ready=None, crng_ready_s=None)
    old, new = (remedy for remedy in remedies(blocking, judge(blocking)) if remedy.xml)
    assert str(old.command).endswith("detach-device web1 old.xml --config")
    assert old.xml == "<rng model='virtio'>\n  <backend model='random'>/dev/random</backend>\n</rng>\n"
    assert (str(new.command).endswith("attach-device web1 rng.xml --config"), new.xml) == (True, UNLIMITED_RNG_XML)
    service = replace(blocking, devices=fed_by("egd", "10.0.0.1").devices)
    (edited,) = (remedy for remedy in remedies(service, judge(service)) if remedy.xml)
    assert (str(edited.command).split()[-2:], edited.xml) == (["edit", "web1"], "<backend model='random'>/dev/urandom</backend>\n")


def test_a_slow_boot_alone_names_something_to_change_or_to_look_at() -> None:
    with_rdrand = replace(RDRAND, crng_ready_s=40.0)
    assert any(remedy.xml == UNLIMITED_RNG_XML for remedy in remedies(with_rdrand, judge(with_rdrand)))
    with_device = replace(VIRTIO, crng_ready_s=40.0)
    assert any("/dev/hwrng" in str(remedy.command) for remedy in remedies(with_device, judge(with_device)))
    for facts in (with_rdrand, with_device):
        assert judge(facts).causes == ("slow-ready",)


def _commands(facts: Facts) -> str:
    return "\n".join(f"{remedy.what} {remedy.command}" for remedy in remedies(facts, judge(facts)))


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("paused", "resume"),
        ("suspended", "dompmwakeup"),
        ("shut off", "start"),
        ("shutting down", "domstate"),
        ("crashed", "domstate"),
        ("no state", "domstate"),
        (None, "domstate"),
    ],
)
def test_a_domain_that_does_not_run_is_brought_back_by_what_its_state_asks_for(state: str | None, verb: str) -> None:
    facts = replace(OFF, state=state)
    (command,) = (str(remedy.command) for remedy in remedies(facts, judge(facts)) if "virsh" in str(remedy.command))
    assert f" {verb} web1" in command


@pytest.mark.parametrize(
    ("silent_for", "there", "missing"),
    [
        ("", "qga.xml", "systemctl"),
        ("no port", "qga.xml", "systemctl"),
        ("port configured", "shutdown web1", "qga.xml"),
        ("disconnected", "systemctl enable --now qemu-guest-agent", "qga.xml"),
        ("refused", "block-rpcs", "qga.xml"),
        ("no answer", "guest-ping", "qga.xml"),
    ],
)
def test_a_silent_guest_is_made_to_speak_by_what_kept_it_from_it(silent_for: str, there: str, missing: str) -> None:
    said = _commands(replace(SILENT, silent_for=silent_for))
    assert there in said
    assert missing not in said


def test_our_agent_is_watched_on_the_guests_own_host() -> None:
    at_home = replace(SILENT, target=replace(TARGET, uri="qemu+unix:///session?socket=/x"))
    assert "--uri 'qemu+unix:///session?socket=/x' --for 30s" in _commands(at_home)
    remote = _commands(replace(SILENT, target=replace(TARGET, uri="qemu+ssh://root@other:22/system")))
    assert "On its host: put our agent" in remote
    assert "--uri qemu:///system --for 30s" in remote
    # A guest that spoke through its qemu-guest-agent has that port already.
    assert "qga.xml" not in _commands(replace(BLOCKING, entropy_avail_bits=None))


def test_commands_name_whole_addresses_and_all_hosts_that_a_question_is_about() -> None:
    far = f"qemu+ssh://root@other/system?keyfile=/{'k' * 300}"
    facts = replace(RDRAND, target=replace(TARGET, uri=far), moves=(Move("c", uri="qemu+ssh://c/system"),))
    assert f"toolkit guests audit --connect '{far}' --connect qemu+ssh://c/system" in _commands(facts)
    gone = Facts(unreachable="it refuses", unreachable_remedy="Join the group libvirt.", unreachable_uri=far)
    assert _commands(gone) == f"Join the group libvirt. virsh --connect '{far}' list --all"


def test_a_parameter_is_offered_to_kernels_that_have_it_alone() -> None:
    old = replace(
        BLOCKING, kernel="4.9.0-12-amd64", cpu_rdrand=True, trust_cpu=False, devices=(), hwrng_available=(), hwrng_current=None
    )
    assert "rdrand-untrusted" in judge(old).causes
    for facts, offered in ((old, False), (replace(old, kernel="4.19.0-16-amd64"), True), (replace(old, kernel=None), True)):
        assert any("trust_cpu" in str(remedy.xml) for remedy in remedies(facts, judge(facts))) is offered
    assert "kernels since 4.19" in _commands(replace(old, kernel=None))


def test_what_is_changed_in_a_guest_is_changed_for_its_next_boot_too() -> None:
    unbound = replace(VIRTIO, hwrng_available=(), hwrng_current=None, hwrng_quality=None)
    assert "> /etc/modules-load.d/virtio_rng.conf" in _commands(unbound)
    unselected = replace(VIRTIO, hwrng_current=None, hwrng_quality=None)
    assert "- - - - virtio_rng.0' > /etc/tmpfiles.d/rng_current.conf" in _commands(unselected)


def test_what_is_configured_already_is_not_asked_for_again() -> None:
    for facts in (replace(BARE, next_start=NextStart(UNLIMITED)), replace(tight(4, 4000), next_start=NextStart(UNLIMITED))):
        off, on = remedies(facts, judge(facts))
        assert "configured already, and comes at its next start" in off.what
        assert [str(each.command).split()[-2:] for each in (off, on)] == [["shutdown", "web1"], ["start", "web1"]]
    facts = replace(VIRTIO, next_start=NextStart(()))
    (put,) = remedies(facts, judge(facts))
    assert str(put.command).endswith("attach-device web1 rng.xml --config")  # it runs with one, and needs none now
    facts = replace(VIRTIO, next_start=NextStart((device(4, 4000),)))
    taken, _ = remedies(facts, judge(facts))
    assert "<rate bytes='4' period='4000'/>" in str(taken.xml)  # what its configuration has, not what it runs with


def test_what_is_sound_asks_for_nothing() -> None:
    assert all(remedies(facts, judge(facts)) == () for facts in SOUND_ONES.values())


def test_an_empty_latch_is_no_cause_of_its_own() -> None:
    """256, and any number, on a kernel whose number says nothing changes no verdict once the guest is known to be ready."""
    for regime in ("latched", "draining", "estimating"):
        verdicts = {judge(replace(VIRTIO, regime=regime, entropy_avail_bits=bits)).verdict for bits in (0, 1, 63, 150, 256, 4096)}
        assert verdicts == {SOUND}, regime


#: Fields whose absence says that there is nothing of the kind, and not that it is not known.
_DIFFERENCES = ("target", "unreachable", "moves", "notes", "next_start", "loses_virtio_rng")
_GAPS = {each.name: getattr(Facts(), each.name) for each in fields(Facts) if each.name not in _DIFFERENCES}


def _first_s(limited: RngDevice) -> float:
    return ((63 // limited.max_bytes) * (limited.period_ms or 1000) / 1000) if limited.max_bytes else float("inf")


def _proves(facts: Facts) -> bool:
    """What must have been seen for a guest to be called sound, said once more and otherwise than in the code under test."""
    if facts.next_start is not None:
        lost = facts.devices and not facts.next_start.devices
        was = bool(facts.crng_ready or facts.crng_ready_s is not None or facts.random_readable or facts.entropy_avail_bits == 256)
        then = replace(facts, next_start=None, devices=facts.next_start.devices, crng_ready=was, crng_ready_s=None)
        if facts.next_start.cpu_rdrand is not None:
            then = replace(then, cpu_rdrand=facts.next_start.cpu_rdrand)
        if lost and (facts.hwrng_current or "").startswith("virtio"):
            then = replace(then, hwrng_available=())
        return _proves(replace(facts, next_start=None)) and _proves(then)
    ready = facts.crng_ready is True or facts.crng_ready_s is not None or facts.random_readable or facts.entropy_avail_bits == 256
    in_time = facts.crng_ready_s is not None and facts.crng_ready_s <= 10
    rdrand = facts.cpu_rdrand and facts.trust_cpu
    virtio = (facts.hwrng_current or "").startswith("virtio")
    # Two seconds for the first 64 bytes, of which a period's worth comes at once; and what feeds it never blocks.
    slow = [each for each in facts.devices or () if each.max_bytes is not None and _first_s(each) > 2]
    sure = all(each.backend == "builtin" or each.source == "/dev/urandom" for each in facts.devices or ())
    limit = not virtio or (not slow and ((facts.devices is not None and sure) or in_time))
    device_works = bool(facts.hwrng_current and facts.hwrng_available and limit and (facts.hwrng_quality or in_time))
    feeds = {"rngd": bool(facts.hwrng_available or facts.cpu_rdrand), "haveged": (facts.poolsize_bits or 0) > 256}
    fed = any(feeds.get(name, True) for name in facts.feeders or ())
    source = device_works or (rdrand and facts.regime != "blocking") or (rdrand and fed) or (fed and in_time)
    pool = facts.regime != "blocking" or (facts.entropy_avail_bits or 0) >= 256
    return bool(facts.state == "running" and facts.said_by and facts.regime and ready and source and pool)


@pytest.mark.parametrize("name", SOUND_ONES)
def test_a_sound_guest_of_which_less_is_known_is_sound_only_where_the_rest_proves_it(name: str) -> None:
    sound = SOUND_ONES[name]
    assert judge(sound).verdict == SOUND
    lost = 0
    for count in (1, 2, 3):
        for missing in combinations(_GAPS, count):
            facts = replace(sound, **{field: _GAPS[field] for field in missing})
            verdict = judge(facts)
            assert verdict.verdict != STARVING, (missing, verdict)
            assert verdict.verdict != SOUND or _proves(facts), (missing, verdict)
            lost += verdict.verdict != SOUND
    assert lost


def _or_none(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


_TRUTH = _or_none(st.booleans())
_NAMES = st.lists(st.sampled_from(["virtio_rng.0", "tpm-rng-0", "x\x1b[31m", ""]), max_size=2).map(tuple)
_DEVICES = st.lists(
    st.builds(
        RngDevice,
        _or_none(st.just("virtio")),
        _or_none(st.sampled_from(["random", "egd", "builtin"])),
        _or_none(st.sampled_from(["/dev/urandom", "/dev/random", "a&b<c"])),
        _or_none(st.sampled_from([0, 4, 32, 64, 1024]) | st.integers(0, 2**40)),
        _or_none(st.integers(0, 2**40)),
        st.none(),
    ),
    max_size=2,
).map(tuple)
ANY = st.builds(
    Facts,
    target=_or_none(st.builds(Target, st.just("qemu:///system"), st.text(max_size=9), st.just("u"), st.booleans(), st.booleans())),
    state=_or_none(st.sampled_from(["running", "paused", "shut off", "no state"])),
    said_by=st.sampled_from(["", "its files"]),
    unreachable=st.sampled_from(["", "", "", "gone"]),
    kernel=_or_none(st.sampled_from(["4.9", "5.4.1", "6.18", "", "x"])),
    regime=_or_none(st.sampled_from(["blocking", "estimating", "draining", "latched"])),
    poolsize_bits=_or_none(st.sampled_from([0, 256, 4096])),
    entropy_avail_bits=_or_none(st.sampled_from([-1, 0, 63, 64, 150, 255, 256, 4096])),
    crng_ready=_TRUTH,
    random_readable=_TRUTH,
    crng_ready_s=_or_none(st.floats(allow_nan=True)),
    urandom_warnings=_or_none(st.integers(-1, 99)),
    kernel_log=_or_none(st.sampled_from(["complete", "overwritten", "refused", "absent", "other"])),
    hwrng_available=_or_none(_NAMES),
    hwrng_current=_or_none(st.sampled_from(["virtio_rng.0", "tpm-rng-0", ""])),
    hwrng_quality=_or_none(st.sampled_from([0, 1, 1024])),
    virtio_rng_unbound=_or_none(st.integers(0, 2)),
    cpu_rdrand=_TRUTH,
    trust_cpu=_TRUTH,
    feeders=_or_none(st.lists(st.sampled_from(["rngd", "haveged", "x\x1b[31m"]), max_size=2).map(tuple)),
    longest_wait_s=_or_none(st.floats(allow_nan=True)),
    devices=_or_none(_DEVICES),
    next_start=st.none() | st.builds(NextStart, _DEVICES, _TRUTH),
    moves=st.lists(st.builds(Move, st.text(max_size=5), _TRUTH, _TRUTH, st.text(max_size=5)), max_size=2).map(tuple),
)


@given(ANY)
def test_any_facts_get_a_verdict_that_their_evidence_allows_and_something_to_do(facts: Facts) -> None:
    verdict = judge(facts)
    assert verdict.verdict in VERDICTS
    assert "\x1b" not in "".join(verdict.evidence)
    if verdict.verdict == SOUND:
        assert _proves(facts), verdict
        assert facts.ready
    else:
        assert verdict.causes
        assert remedies(facts, verdict)
    if facts.ready is False and not facts.unreachable:
        assert verdict.verdict == STARVING


@given(ANY, st.sampled_from(sorted(_GAPS)))
def test_forgetting_something_never_makes_an_uncertain_guest_sound(facts: Facts, forgotten: str) -> None:
    if judge(facts).verdict == CANNOT_TELL:
        assert judge(replace(facts, **{forgotten: _GAPS[forgotten]})).verdict != SOUND
