"""What an audit takes from a store: the gaps of what is known, of the same boot, of a short while ago, and of one guest alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from toolkit import open_store, runs
from toolkit.analysis.verdicts import judge
from toolkit.guests.audit_facts import Facts
from toolkit.guests.audit_store import recently
from toolkit.guests.domain_xml import RngDevice
from toolkit.store import Store

BOOT, EARLIER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
SILENT = Facts(
    state="running",
    silence="it has no port of qemu-guest-agent",
    devices=(RngDevice("virtio", "random", "/dev/urandom", None, None, None),),
)


def _filled(path: Path, guest: str = "web1", age_s: float = 20.0, **state: Any) -> Store:
    store = open_store(path)
    run = runs.begin("toolkit guests watch", {})
    store.append("runs", run.row())

    def put(table: str, boot_id: str, **row: Any) -> None:
        store.append(table, run.frame(table, [{"guest": guest, "boot_id": boot_id, **row}]))

    at = NOW - timedelta(seconds=age_s)
    put("entropy_samples", EARLIER, t_ns=10**9, utc=at - timedelta(minutes=5), entropy_avail_bits=3, crng_ready=False)
    put("entropy_samples", BOOT, t_ns=10**9, utc=at, entropy_avail_bits=256, crng_ready=True, random_readable=True)
    known = {"regime": "latched", "poolsize_bits": 256, "crng_ready_s": 1.5, "hwrng_available": "virtio_rng.0"}
    known |= {"hwrng_current": "virtio_rng.0", "hwrng_quality": 1024, "cpu_rdrand": False, "feeders": "", **state}
    put("rng_state", EARLIER, regime="blocking", crng_ready_s=900.0)
    put("rng_state", BOOT, **known)
    for source, wait_ns in (("getrandom", 10**6), ("/dev/hwrng", 30 * 10**9)):
        put("source_reads", BOOT, t_ns=10**9, source=source, block_bytes=64, read_bytes=64, wait_ns=wait_ns)
    put("source_reads", EARLIER, t_ns=10**9, source="getrandom", block_bytes=64, read_bytes=64, wait_ns=80 * 10**9)
    return store


def test_a_guest_that_says_nothing_itself_is_known_by_what_our_agent_sent(tmp_path: Path) -> None:
    facts = recently(_filled(tmp_path), SILENT, "web1", now=NOW)
    assert facts.said_by == "what our agent sent 20 s ago"
    assert (facts.boot_id, facts.regime, facts.crng_ready, facts.crng_ready_s) == (BOOT, "latched", True, 1.5)
    assert (facts.hwrng_available, facts.feeders, facts.cpu_rdrand) == (("virtio_rng.0",), (), False)
    assert facts.longest_wait_s == 0.001
    assert judge(facts).verdict == "sound"
    assert judge(SILENT).verdict == "cannot tell"


def test_what_was_sent_an_hour_ago_or_by_another_guest_or_by_one_of_two_namesakes_tells_nothing(tmp_path: Path) -> None:
    old, fresh = _filled(tmp_path / "old", age_s=3600.0), _filled(tmp_path / "fresh")
    assert recently(old, SILENT, "web1", now=NOW) == SILENT
    assert recently(fresh, SILENT, "web2", now=NOW) == SILENT
    assert recently(fresh, SILENT, "web1", namesakes=2, now=NOW) == SILENT
    assert recently(None, SILENT, "web1", now=NOW) == SILENT


def test_what_the_guest_said_itself_counts_more_and_another_boot_of_it_nothing(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    asked = replace(SILENT, said_by="its qemu-guest-agent", boot_id=BOOT, regime="latched", crng_ready_s=2.0, cpu_rdrand=True)
    facts = recently(store, asked, "web1", namesakes=2, now=NOW)
    assert (facts.said_by, facts.crng_ready_s, facts.cpu_rdrand) == ("its qemu-guest-agent", 2.0, True)
    assert facts.crng_ready is True
    booted_since = replace(asked, boot_id="33333333-3333-4333-8333-333333333333")
    assert recently(store, booted_since, "web1", now=NOW) == booted_since


@pytest.mark.parametrize(("missing", "cause"), [("regime", "regime-unknown"), ("hwrng_available", "driver-unknown")])
def test_what_is_missing_in_the_store_stays_missing(tmp_path: Path, missing: str, cause: str) -> None:
    facts = recently(_filled(tmp_path, **{missing: None}), SILENT, "web1", now=NOW)
    assert getattr(facts, missing) is None
    assert (judge(facts).verdict, judge(facts).causes) == ("cannot tell", (cause,))
