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
from toolkit.guests.audit_store import Recent
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


def recently(store: Store | None, facts: Facts, guest: str, host: str | None = runs.hostname(), namesakes: int = 1) -> Facts:
    return Recent(store, {"web1", "web2"}, NOW).beside(facts, guest, host, namesakes)


def test_a_guest_that_says_nothing_itself_is_known_by_what_our_agent_sent(tmp_path: Path) -> None:
    facts = recently(_filled(tmp_path), SILENT, "web1")
    assert facts.said_by == "what our agent sent 20 s ago"
    assert (facts.boot_id, facts.regime, facts.crng_ready, facts.crng_ready_s) == (BOOT, "latched", True, 1.5)
    assert (facts.hwrng_available, facts.feeders, facts.cpu_rdrand) == (("virtio_rng.0",), (), False)
    assert facts.longest_wait_s == 0.001
    assert judge(facts).verdict == "sound"
    assert judge(SILENT).verdict == "cannot tell"


def test_what_was_sent_an_hour_ago_or_by_another_guest_or_by_one_of_two_namesakes_tells_nothing(tmp_path: Path) -> None:
    old, fresh = _filled(tmp_path / "old", age_s=3600.0), _filled(tmp_path / "fresh")
    assert recently(old, SILENT, "web1") == SILENT
    assert recently(fresh, SILENT, "web2") == SILENT
    assert recently(fresh, SILENT, "web1", namesakes=2) == SILENT
    assert recently(None, SILENT, "web1") == SILENT


def test_what_the_guest_said_itself_counts_more_and_another_boot_of_it_nothing(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    asked = replace(SILENT, said_by="its qemu-guest-agent", boot_id=BOOT, regime="latched", crng_ready_s=2.0, cpu_rdrand=True)
    facts = recently(store, asked, "web1", namesakes=2)
    assert (facts.said_by, facts.crng_ready_s, facts.cpu_rdrand) == ("its qemu-guest-agent", 2.0, True)
    assert facts.crng_ready is True
    booted_since = replace(asked, boot_id="33333333-3333-4333-8333-333333333333")
    assert recently(store, booted_since, "web1") == booted_since


@pytest.mark.parametrize(("missing", "cause"), [("regime", "regime-unknown"), ("hwrng_available", "driver-unknown")])
def test_what_is_missing_in_the_store_stays_missing(tmp_path: Path, missing: str, cause: str) -> None:
    facts = recently(_filled(tmp_path, **{missing: None}), SILENT, "web1")
    assert getattr(facts, missing) is None
    assert (judge(facts).verdict, judge(facts).causes) == ("cannot tell", (cause,))


def test_what_another_hosts_namesake_sent_tells_nothing_but_of_a_boot_that_the_guest_itself_named(tmp_path: Path) -> None:
    store = _filled(tmp_path)
    for host in ("another-machine", f"{runs.hostname()}x", None):
        assert recently(store, SILENT, "web1", host=host) == SILENT
        named = replace(SILENT, said_by="its qemu-guest-agent", boot_id=BOOT)
        assert recently(store, named, "web1", host=host).crng_ready is True
    assert recently(store, SILENT, "web1", host=f"{runs.hostname().partition('.')[0]}.example.org").crng_ready is True


def test_a_source_that_the_hosts_devices_contradict_is_not_believed(tmp_path: Path) -> None:
    gone = recently(_filled(tmp_path / "gone"), replace(SILENT, devices=()), "web1")
    assert (gone.hwrng_available, gone.hwrng_current, gone.hwrng_quality) == (None, None, None)
    assert (judge(gone).verdict, judge(gone).causes) == ("at risk", ("no-source", "kernel-jitter-only"))
    came = recently(_filled(tmp_path / "came", hwrng_available="", hwrng_current=None, hwrng_quality=None), SILENT, "web1")
    assert came.hwrng_available is None
    assert (judge(came).verdict, judge(came).causes) == ("cannot tell", ("driver-unknown",))
    for facts in (gone, came):
        assert any("does not fit the devices" in sentence for sentence in judge(facts).evidence)


def test_a_source_that_the_guest_itself_did_not_name_is_not_taken_from_the_store(tmp_path: Path) -> None:
    asked = replace(SILENT, said_by="its qemu-guest-agent", boot_id=BOOT, regime="latched", hwrng_available=("virtio_rng.0",))
    assert recently(_filled(tmp_path), asked, "web1").hwrng_current is None


@pytest.mark.parametrize("age_s", [50.0, 70.0])
def test_what_was_so_more_than_a_minute_ago_is_not_so_now(tmp_path: Path, age_s: float) -> None:
    store = _filled(tmp_path, age_s=age_s, crng_ready_s=None)
    run = runs.begin("toolkit guests watch", {})
    low = {"guest": "web1", "boot_id": BOOT, "t_ns": 2 * 10**9, "utc": NOW - timedelta(seconds=age_s - 1)}
    low |= {"entropy_avail_bits": 40, "crng_ready": False, "random_readable": False}
    store.append("entropy_samples", run.frame("entropy_samples", [low]))
    verdict = judge(recently(store, SILENT, "web1"))
    assert verdict.verdict == ("starving" if age_s < 60 else "cannot tell")
    assert any("it was not ready, its pool held 40 bits" in sentence for sentence in verdict.evidence) is (age_s > 60)


def test_ready_that_long_ago_is_ready_still(tmp_path: Path) -> None:
    verdict = judge(recently(_filled(tmp_path, age_s=600.0), SILENT, "web1"))
    assert verdict.verdict == "sound"


def test_a_store_is_read_once_for_all_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = Recent(_filled(tmp_path), {"web1", "web2"}, NOW)
    asked = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, table, **more: asked.append(table) or read(self, table, **more))
    for guest in ("web1", "web2", "web1"):
        recent.beside(SILENT, guest, runs.hostname())
    assert sorted(asked) == ["entropy_samples", "rng_state", "source_reads"]
