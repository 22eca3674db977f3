"""Verdicts about guests that were really booted: a table of them with what is expected of each and why.

Their kernels are of the regime ``latched``: no suite has another one today. The other regimes are recorded trees, in
tests/analysis/test_verdicts.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernels import all_feeders, other_kernel, shared_cache
from tests.needs import need, require_lab
from toolkit.analysis.remedy import remedies
from toolkit.analysis.verdicts import AT_RISK, CANNOT_TELL, SOUND, STARVING, Verdict, judge
from toolkit.experiments.boot_once import feeder_for
from toolkit.experiments.boot_plan import Cell
from toolkit.guests.audit_facts import Facts, of_rng_state
from toolkit.guests.devices import RngLimit, Unlimited
from toolkit.guests.domain_xml import RngDevice
from toolkit.guests.recorded import recorded
from toolkit.guests.short_answers import mislays
from toolkit.guests.tiny import TinyGuest, boot_tiny
from toolkit.lab_kernels import find_kernels

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]

LONG_S = 240.0
NO_RDRAND = "max,rdrand=off,rdseed=off"
UNTRUSTED = "random.trust_cpu=off random.trust_bootloader=off"
#: A read of /dev/random returns once the generator is ready, whatever made it so.
READY = "head -c 1 /dev/random > /dev/null\n"
#: More than the kernel's log holds, in records that it does not print.
FLOOD = 'line=$(head -c 800 /dev/zero | tr "\\0" x)\nn=0\nwhile [ $n -lt 400 ]; do echo "$line" > /dev/kmsg; n=$((n + 1)); done\n'
#: A loaded machine boots slowly, and then that is a cause as well; of the causes here none comes from it.
SLOWNESS = {"slow-ready", "urandom-before-ready"}


@dataclass(frozen=True)
class Case:
    name: str
    verdict: str
    causes: str
    why: str
    rng: Unlimited | RngLimit | None = None
    cpu: str = NO_RDRAND
    append: str = UNTRUSTED
    script: str = READY
    feeder: str = ""
    older: bool = False


CASES = [
    Case("rdrand-credited", SOUND, "", "ready before user space, and so again", cpu="max", append="random.trust_cpu=on"),
    Case("rdrand-untrusted", AT_RISK, "rdrand-untrusted kernel-jitter-only", "offered, and not credited", cpu="max"),
    Case("no-source-waiting", STARVING, "not-ready no-source kernel-jitter-only", "nothing gives it anything", script=""),
    Case("no-source-ready", AT_RISK, "no-source kernel-jitter-only", "ready by its own jitter, and waits again at its next boot"),
    Case("virtio-rng", SOUND, "", "a device without a limit, whose driver is bound", rng=Unlimited()),
    Case(
        "four-bytes-waiting",
        STARVING,
        "not-ready tight-limit",
        "64 bytes take a minute",
        rng=RngLimit(max_bytes=4, period_ms=4000),
        script="",
    ),
    Case(
        "four-bytes-ready",
        AT_RISK,
        "tight-limit",
        "ready by jitter alone: its next boot is as slow",
        rng=RngLimit(max_bytes=4, period_ms=4000),
    ),
    Case(
        "stalling-limit",
        AT_RISK,
        "stalling-limit",
        "1000 bytes are no multiple of the driver's 64: who reads it will wait for ever",
        rng=RngLimit(max_bytes=1000, period_ms=500),
    ),
    Case(
        "driver-not-bound",
        AT_RISK,
        "driver-not-bound kernel-jitter-only",
        "its host gave it a device, and nothing in it reads that",
        rng=Unlimited(),
        script=f"rmmod virtio_rng || exit\n{READY}",
    ),
    Case(
        "feeder-running",
        SOUND,
        "",
        "nothing asked, so jitterentropy-rngd made it ready, and it begins with each boot",
        script='until dmesg | grep -q "crng init done"; do sleep 0.3; done\n',
        feeder="jitterentropy-rngd",
    ),
    Case(
        "log-overwritten",
        CANNOT_TELL,
        "trust-unknown log-overwritten",
        "it is ready; since when and by what is gone",
        cpu="max",
        append="printk.devkmsg=on",
        script=READY + FLOOD,
    ),
    Case("older-kernel", SOUND, "", "5.10 with the newer generator: a device whose driver is bound", rng=Unlimited(), older=True),
]


def _host_says(rng: Unlimited | RngLimit | None) -> tuple[RngDevice, ...]:
    """The device as libvirt would tell of it."""
    if rng is None:
        return ()
    limit = (rng.max_bytes, rng.period_ms) if isinstance(rng, RngLimit) else (None, None)
    return (RngDevice("virtio", "random", "/dev/urandom", *limit, None),)


def _guest(case: Case) -> TinyGuest:
    command, files = "", {}
    if case.feeder:
        command, files = feeder_for(Cell("", "absent", "none", "", "nothing", case.feeder))
    begun = f"mkdir -p /dev/shm\n(exec {command}) > /dev/null 2>&1 < /dev/null &\n" if command else ""
    (newest, *_) = find_kernels()
    return TinyGuest(
        name=case.name,
        script=f"{begun}{case.script}record_machine",
        kernel=other_kernel() if case.older else newest,
        rng=case.rng,
        cpu=case.cpu,
        append=case.append,
        files=files,
    )


@pytest.fixture(scope="module")
def facts() -> Iterator[dict[str, Facts]]:
    """What is known of the guest of each case, by its name."""
    require_lab()
    all_feeders()
    (newest, *_) = find_kernels()
    need(mislays(newest.version) is True, f"a kernel whose driver stalls; the newest here is {newest.version}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="judged-") as folder, shared_cache():
        for two in (CASES[place : place + 2] for place in range(0, len(CASES), 2)):
            with boot_tiny([_guest(case) for case in two], Path(folder)) as guests:
                for case, guest in zip(two, guests, strict=True):
                    said = recorded(guest.result(LONG_S))
                    known = Facts(state="running", devices=_host_says(case.rng))
                    found[case.name] = of_rng_state(said.state, "its own files", said.kernel, known)
        yield found


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_real_guest_gets_the_verdict_that_its_configuration_deserves(case: Case, facts: dict[str, Facts]) -> None:
    known = facts[case.name]
    verdict = judge(known)
    slow = SLOWNESS & set(verdict.causes)
    expected = AT_RISK if slow and case.verdict == SOUND else case.verdict
    assert verdict.verdict == expected, (case.why, verdict.evidence)
    assert " ".join(cause for cause in verdict.causes if cause not in slow) == case.causes, (case.why, verdict.evidence)
    assert not slow or (known.crng_ready_s or 0) > 10
    assert not any("low entropy" in sentence or "healthy" in sentence for sentence in verdict.evidence)
    assert bool(remedies(known, verdict)) == (verdict.verdict != SOUND)
    _means_what_its_regime_does(known, verdict)


def _means_what_its_regime_does(known: Facts, verdict: Verdict) -> None:
    assert (known.regime, known.poolsize_bits) == ("latched", 256)
    assert known.entropy_avail_bits is not None
    assert (known.entropy_avail_bits == 256) is (known.ready is True)
    assert known.ready is (verdict.verdict != STARVING)
