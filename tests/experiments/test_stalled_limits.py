"""A limit behind which a driver waits for ever: the experiment ends, says that the source stalled, and keeps the reads."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.needs import need, require_lab
from toolkit.analysis.rates import rates
from toolkit.experiments.rates import measure_rates, reading_for
from toolkit.guests.devices import RngLimit
from toolkit.guests.short_answers import LOSES, STALLS, behind, fits, mislays, next_fitting
from toolkit.lab_kernels import find_kernels
from toolkit.runs import begin
from toolkit.store import open_store


@pytest.mark.slow
def test_a_source_that_stalls_ends_within_its_budget_and_is_stored_as_stalled(tmp_path: Path) -> None:
    require_lab()
    (kernel, *_) = find_kernels()
    need(mislays(kernel.version) is True, f"a kernel whose driver stalls; the newest here is {kernel.version}")
    # Fast enough that reads wait for their bytes: one that waits stalls at the first answer that was cut, whoever else reads.
    device = RngLimit(max_bytes=10_033, period_ms=500, backend="random")
    assert behind(10_033) == STALLS
    assert not reading_for(device).polled
    store, run = open_store(tmp_path / "store"), begin("a test")
    reads = measure_rates([device], store, run, kernel=kernel)
    # What the reader waited for in vain is there, as a wait; and it is nobody's rate.
    assert reads["errno"].dropna().tolist() == [errno.ETIMEDOUT]
    assert reads["read_bytes"].isna().tolist()[-1:] == [True]
    (row,) = rates(store.read("source_reads"), store.read("rng_state")).to_dict("records")
    assert (row["holds"], row["virtio_rng_max_bytes"]) == (False, 10_033)
    assert row["why"].startswith("stalled")


def test_a_limit_fits_where_no_answer_is_left_unfinished() -> None:
    assert [size for size in range(1, 66) if fits(size)] == [1, 2, 4, 8, 16, 32, 64]
    for size in range(1, 3000):
        assert fits(size) == (behind(size) is None), size
        fitting = next_fitting(size)
        assert fitting >= size, size
        assert not any(fits(between) for between in range(size, fitting)), size
        assert fits(fitting), size


#: As docs/lab.md has it: what became of a reader that waits, in guests of kernels with the check.
MEASURED = {16: None, 20: STALLS, 24: LOSES, 48: STALLS, 64: None, 65: LOSES, 80: LOSES, 96: LOSES, 97: STALLS, 100: STALLS}


@pytest.mark.parametrize("size", MEASURED)
def test_the_replayed_driver_does_what_the_real_one_was_measured_to_do(size: int) -> None:
    assert behind(size) == MEASURED[size]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("6.1.177", False),
        ("6.1.178", True),
        ("6.1.178-1-custom", True),
        ("5.10.0-32-cloud-amd64", False),
        ("5.10.0-40-amd64", None),
        ("5.10.0-46-cloud-amd64", True),
        ("6.1.0-56-amd64", True),
        ("6.1.0-55-rt-amd64", None),
        ("6.12.95+deb12-cloud-amd64", False),
        ("7.1.3", False),
        ("7.2.0", True),
        ("7.3.4+deb13-cloud-amd64", True),
        ("6.13.7", None),
        ("5.14.0-503.el9.x86_64", None),
        ("6.8.0-31-generic", None),
        ("", None),
        (None, None),
        ("x", None),
    ],
)
def test_a_kernel_s_release_tells_whether_it_mislays_only_where_it_can(kernel: str | None, expected: bool | None) -> None:
    assert mislays(kernel) is expected
