"""Findings: sentences whose numbers are those of the tables, in which a machine's text does nothing."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from tests.plots import made
from toolkit.analysis.starvation import starvation
from toolkit.explore import findings
from toolkit.markup import Fragment
from toolkit.units import duration_text

HOSTILE = "<script>alert('x')</script>"


def words(sentences: list[Fragment]) -> str:
    return re.sub(r"<[^>]+>", "", "\n".join(sentences))


def test_the_fast_way_is_compared_with_writing() -> None:
    frame = made.allocations(filesystems=("ext4",))
    asked, written = (
        frame.loc[frame["method"] == way, "allocate_ns"].astype(float).median() / 1e9 for way in ("posix_fallocate", "write_4k")
    )
    said = words(findings.fragmentation(frame))
    assert f"posix_fallocate reserves 256 MiB in {duration_text(asked)} (95 % interval" in said
    assert f"write_4k takes {duration_text(written)}" in said
    assert "n = 5" in said


def test_too_few_repeats_are_said_to_be_too_few() -> None:
    assert "too few for an interval" in words(findings.fragmentation(made.allocations(repeats=2)))


def test_emulation_and_refusal_are_called_by_their_names() -> None:
    said = words(findings.fragmentation(made.allocations(filesystems=("ext3",))))
    assert "ext3 cannot preallocate: glibc emulates posix_fallocate" in said
    assert "fallocate failed on ext3 with EOPNOTSUPP" in said


def test_a_latched_target_is_told_by_what_tells() -> None:
    samples, states = made.entropy_samples(), made.rng_state()
    said = words(findings.starvation(states, samples, starvation(samples, states)))
    for part in (
        "ready 900 ms after boot",
        "virtio_rng.0",
        "RDRAND",
        "no feeder",
        "stays at 256",
        "did not starve",
        "256 bits all the time",
    ):
        assert part in said


def test_what_is_not_known_of_a_target_is_said_to_be_unknown() -> None:
    states = made.rng_state(
        crng_ready_s=[None], crng_ready=[None], cpu_rdrand=[None], feeders=[None], hwrng_available=[None], regime=[None]
    )
    said = words(findings.starvation(states, made.entropy_samples().head(0), starvation(made.entropy_samples().head(0), "latched")))
    for part in ("could not be asked", "hardware sources unknown", "RDRAND unknown", "feeders unknown", "regime is unknown"):
        assert part in said


def test_starved_targets_are_told_how_often_and_how_long() -> None:
    samples, states = made.entropy_samples("blocking"), made.rng_state("blocking")
    episodes = starvation(samples, states)
    total_s = float((episodes["end_ns"] - episodes["start_ns"]).sum()) / 1e9
    assert f"starved in {len(episodes)} episodes, {duration_text(total_s)} in all" in words(
        findings.starvation(states, samples, episodes)
    )


def test_a_boot_of_unknown_regime_is_not_said_to_be_unstarved() -> None:
    samples = made.entropy_samples(count=5)
    samples.loc[:, ["crng_ready", "random_readable"]] = False
    states = made.unseen(made.rng_state(), "regime")
    said = words(findings.starvation(states, samples, starvation(samples.head(0), "latched")))
    assert "whether it starved cannot be told, because the regime of its kernel is not known" in said
    assert "did not starve" not in said


@pytest.mark.parametrize(
    ("regime", "columns"),
    [("latched", ["crng_ready", "random_readable"]), ("blocking", ["entropy_avail_bits", "random_readable"])],
)
def test_a_boot_of_which_no_sample_holds_evidence_is_not_said_to_be_unstarved(regime: str, columns: list[str]) -> None:
    samples, states = made.unseen(made.entropy_samples(regime, count=5), *columns), made.rng_state(regime)
    said = words(findings.starvation(states, samples, starvation(samples, states)))
    assert "whether it starved cannot be told, because" in said
    assert "never seen" in said
    assert "did not starve" not in said


def test_a_verdict_on_some_of_the_samples_says_on_how_many() -> None:
    samples, states = made.entropy_samples(count=5), made.rng_state()
    samples.loc[1:, ["crng_ready", "random_readable"]] = None
    assert "did not starve as far as 1 of the samples tell" in words(
        findings.starvation(states, samples, starvation(samples, states))
    )


def test_an_episode_cut_by_the_edge_may_have_been_longer() -> None:
    samples, states = made.entropy_samples("estimating"), made.rng_state("estimating")
    assert "at least" in words(findings.starvation(states, samples, starvation(samples, states)))


def test_sources_are_told_with_rate_and_failures() -> None:
    reads = made.source_reads()
    reads.loc[reads["source"] == "/dev/hwrng", ["errno", "read_bytes"]] = [11, None]
    said = words(findings.throughput(reads))
    assert "getrandom gives" in said
    assert "/dev/hwrng: 18 of 18 reads failed with EAGAIN" in said


def test_what_was_not_measured_has_its_reason_and_its_remedy() -> None:
    said = words(findings.not_measured(made.capabilities()))
    assert "filesystem zfs: the kernel has no zfs. install zfs-dkms" in said
    assert "ext4" not in said


def test_what_a_newer_run_could_measure_is_no_longer_missing() -> None:
    old, new = made.capabilities(), made.capabilities().assign(run_id="run-2", available=True)
    assert findings.not_measured(pd.concat([new, old], ignore_index=True)) == []
    said = findings.not_measured(pd.concat([old.assign(run_id="run-2", detail="newer"), old], ignore_index=True))
    assert len(said) == 2
    assert "the kernel has no zfs" not in words(said)


def test_each_file_system_is_told_by_its_own_largest_size() -> None:
    small = made.allocations(filesystems=("xfs",), sizes=(4 * made.MIB,))
    said = words(findings.fragmentation(pd.concat([made.allocations(filesystems=("ext4",)), small], ignore_index=True)))
    assert "ext4: posix_fallocate reserves 256 MiB" in said
    assert "xfs: posix_fallocate reserves 4 MiB" in said


def test_refusals_are_told_where_nothing_was_timed() -> None:
    said = words(findings.fragmentation(made.allocations(filesystems=("ext3",), methods=("fallocate",))))
    assert "fallocate failed on ext3 with EOPNOTSUPP" in said


def test_machine_text_is_inert_in_every_finding() -> None:
    frames = [
        findings.fragmentation(made.allocations(filesystems=("ext3",)).assign(filesystem=HOSTILE)),
        findings.throughput(made.source_reads().assign(source=HOSTILE)),
        findings.not_measured(made.capabilities().assign(detail=HOSTILE, remedy=HOSTILE)),
        findings.machines(made.runs(host=HOSTILE).assign(cpu_model=HOSTILE, command=HOSTILE)),
        findings.starvation(
            made.rng_state(host=[HOSTILE], feeders=[HOSTILE]),
            made.entropy_samples(host=HOSTILE),
            starvation(made.entropy_samples(host=HOSTILE), "latched"),
        ),
    ]
    for said in frames:
        assert said
        assert "<script>" not in "".join(said)
        assert "&lt;script&gt;" in "".join(said)


def test_nothing_measured_gives_no_finding() -> None:
    assert findings.fragmentation(made.allocations().head(0)) == []
    assert findings.throughput(made.source_reads().head(0)) == []
    assert "No run is recorded" in words(findings.machines(pd.DataFrame(made.runs().head(0))))
