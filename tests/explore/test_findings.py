"""Findings: sentences whose numbers are those of the tables, in which a machine's text does nothing."""

from __future__ import annotations

import re

import pandas as pd

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
