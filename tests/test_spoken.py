"""What the command line says about what it measured: sentences with numbers, and nothing that was not seen."""

from __future__ import annotations

import pandas as pd

from toolkit import runs, spoken
from toolkit.tables import TABLES

RUN = runs.begin("test")


def _samples(t_ns: list[int], **columns: list[object]) -> pd.DataFrame:
    utc = pd.to_datetime(t_ns, utc=True)
    rows = [{"t_ns": t, "utc": when} for t, when in zip(t_ns, utc, strict=True)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return RUN.frame("entropy_samples", rows)


def _state(regime: str | None) -> pd.DataFrame:
    return RUN.frame("rng_state", [{"regime": regime}])


def test_a_watch_counts_its_looks_and_the_moments_it_missed() -> None:
    samples = _samples([0, 10**8, 4 * 10**8], entropy_avail_bits=[256] * 3, crng_ready=[True] * 3, random_readable=[True] * 3)
    said = " ".join(spoken.watched(samples, _state("latched"), 0.1))
    assert "3 looks in 400 ms; 2 moments were missed" in said
    assert "constant" in said
    assert "did not starve" in said


def test_a_pool_below_its_floor_is_starvation_on_a_blocking_kernel_and_not_on_a_latched_one() -> None:
    samples = _samples([0, 10**9, 2 * 10**9], entropy_avail_bits=[500, 3, 4], crng_ready=[True] * 3, random_readable=[True] * 3)
    assert "starved 1 time(s), 1 s in all" in " ".join(spoken.watched(samples, _state("blocking"), 1.0))
    assert "did not starve" in " ".join(spoken.watched(samples, _state("latched"), 1.0))


def test_an_unknown_regime_is_said_and_starvation_is_not_judged() -> None:
    samples = _samples([0, 10**9], entropy_avail_bits=[1, 1], crng_ready=[None, None], random_readable=[None, None])
    said = " ".join(spoken.watched(samples, _state(None), 1.0))
    assert "cannot be told" in said
    assert "starve " not in said


def test_looks_that_saw_nothing_do_not_say_that_the_machine_did_not_starve() -> None:
    samples = _samples([0, 10**9], entropy_avail_bits=[256, 256], crng_ready=[None, None], random_readable=[None, None])
    said = " ".join(spoken.watched(samples, _state("latched"), 1.0))
    assert "cannot be told" in said
    assert "did not starve" not in said


def test_a_watch_without_a_look_says_so() -> None:
    assert spoken.watched(TABLES["entropy_samples"].empty(), _state("latched"), 1.0) == [
        "No look was made: the watch ended before its first."
    ]


def _allocation(
    method: str, repeat: int, allocate_ns: int | None, discontinuities: int | None, errno: int | None = None
) -> dict[str, object]:
    return {
        "filesystem": "ext4",
        "method": method,
        "size_bytes": 2**20,
        "repeat": repeat,
        "position": repeat,
        "allocate_ns": allocate_ns,
        "errno": errno,
        "extents": 0 if method == "ftruncate" else 4,
        "discontinuities": discontinuities,
    }


def test_allocation_times_are_fastest_first_with_intervals_from_three_repeats_on() -> None:
    rows = [_allocation("write_4k", n, ms * 10**6, 2) for n, ms in enumerate([10, 20, 30])]
    rows += [_allocation("fallocate", n, us * 1000, 0) for n, us in enumerate([5, 7])]
    rows += [_allocation("mmap_memset", 0, None, None, errno=28), _allocation("ftruncate", 0, 10**9, 0)]
    shown = spoken.allocation_times(RUN.frame("allocations", rows)).set_index("method")
    assert list(shown.index) == ["fallocate", "write_4k", "ftruncate", "mmap_memset"]
    assert shown.loc["ftruncate", "pieces"] == "–"
    assert shown.loc["write_4k", "median"] == "20 ms"
    assert shown.loc["write_4k", "95 % interval"] == "10 ms – 30 ms"
    assert shown.loc["write_4k", "pieces"] == "3"
    assert shown.loc["fallocate", "95 % interval"] == "–"
    assert shown.loc["mmap_memset", "median"] == "–"
    assert shown.loc["mmap_memset", "failed"] == 1


def test_no_allocation_gives_an_empty_table() -> None:
    assert spoken.allocation_times(TABLES["allocations"].empty()).empty


def test_source_rates_are_written_with_their_units() -> None:
    reads = [
        {"t_ns": n * 10**6, "source": "/dev/hwrng", "block_bytes": 4096, "read_bytes": 1024, "wait_ns": 10**6} for n in range(40)
    ]
    (row,) = spoken.source_rates(RUN.frame("source_reads", reads)).to_dict("records")
    assert row["rate"] == "1.02 MB/s"
    assert row["block"] == "4 KiB"
    assert row["reads"] == 40


def test_extents_are_said_with_what_cannot_be_compared() -> None:
    frame = RUN.frame("extents", [{"file": "x", "layer": 0, "logical_byte": 0, "length_bytes": 4096, "flags": "last"}])
    assert spoken.extents_of(frame, 0) == "1 extent, 4 KiB mapped; 0 physical discontinuities."
    assert "not counted" in spoken.extents_of(frame, None)
