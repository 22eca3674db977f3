"""How a limit is read: for as long as it takes and no longer; and that guests' real rates are those of their limits."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.needs import require_lab
from toolkit import share
from toolkit.analysis.rates import rates
from toolkit.errors import NotMeasuredWarning, UsageError
from toolkit.experiments import rates as experiment
from toolkit.experiments.rates import measure_rates, reading_for
from toolkit.guests.devices import RngLimit, Unlimited
from toolkit.runs import begin
from toolkit.store import open_store
from toolkit.tables import TABLES

LIMITS = st.builds(
    RngLimit,
    max_bytes=st.integers(1, 10**7) | st.integers(1, 2**63 - 1),
    period_ms=st.integers(1, 10**5) | st.integers(1, 2**32 - 1),
)
#: More than a guest draws, under KVM too.
FASTEST = 20e6


@given(LIMITS, st.integers(3, 50))
def test_a_reading_sees_its_periods_and_holds_all_that_can_come(limit: RngLimit, periods: int) -> None:
    found = reading_for(limit, periods)
    period_s = limit.period_ms / 1000
    assert math.isfinite(found.watch_s)
    assert found.watch_s >= (periods + 0.5) * period_s
    assert found.watch_s <= max(2.0, (periods + 2) * period_s)
    assert 1 <= found.block_bytes <= 4096
    assert found.block_bytes % 64 == 0  # the driver's own request: less, and it would hide when bytes came
    assert 1 <= found.most_reads <= 500_000
    bursts = math.floor(found.watch_s / period_s) + 1
    coming = bursts * math.ceil(limit.max_bytes / found.block_bytes)
    drawn = math.ceil(FASTEST * found.watch_s / found.block_bytes)
    assert found.most_reads >= min(coming, drawn, 500_000)


@given(LIMITS)
def test_the_kernels_own_draws_are_kept_out_where_they_would_count(limit: RngLimit) -> None:
    found = reading_for(limit)
    expected = limit.max_bytes / limit.period_ms * 1000 * found.watch_s
    assert found.quiet or 0.002 * expected >= 64
    if found.quiet:  # it sleeps for half of the time since boot: longer than is read
        assert experiment._quiet_from_s(found) / 2 > found.watch_s
    assert experiment._whole_s(found) < 4 * found.watch_s + 20


def test_a_slow_limit_is_asked_without_waiting_and_a_fast_one_is_read() -> None:
    assert reading_for(RngLimit(max_bytes=16, period_ms=1000)).polled
    assert not reading_for(RngLimit(max_bytes=100_000, period_ms=100)).polled
    assert not reading_for(Unlimited()).polled


def test_fewer_than_three_periods_are_refused() -> None:
    for periods in (2, 0, -1):
        with pytest.raises(UsageError, match="three or more"):
            reading_for(RngLimit(max_bytes=16, period_ms=1000), periods)


def measured(devices: list[RngLimit], folder: Path, periods: int) -> pd.DataFrame:
    """What the analysis says of guests' reads, a row a device; nothing was left out."""
    store, run = open_store(folder / "store"), begin("test", seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotMeasuredWarning)
        reads = measure_rates(devices, store, run, periods=periods)
    assert {name: str(kind) for name, kind in reads.dtypes.items()} == TABLES["source_reads"].dtypes
    states = store.read("rng_state")
    assert len(states) == len(devices)
    assert states["virtio_rng_max_bytes"].tolist() == [device.max_bytes for device in devices]
    assert states["hwrng_current"].eq("virtio_rng.0").all()
    assert len(store.read("source_reads")) == len(reads)
    return rates(reads, states).sort_values("guest", ignore_index=True)


@pytest.mark.lab
@pytest.mark.slow
def test_slow_limits_hold_within_five_percent_below_and_above(tmp_path: Path) -> None:
    require_lab()
    found = measured([RngLimit(max_bytes=102_400, period_ms=1000), RngLimit(max_bytes=16, period_ms=1000)], tmp_path, 3)
    assert found["configured_bytes_per_second"].tolist() == [102_400, 16]
    for _, row in found.iterrows():
        assert 0.95 <= row["ratio"] <= 1.05, row["why"]
        assert row["holds"], row["why"]
        assert row["bursts"] > 3
        assert row["period_s"] == pytest.approx(row["virtio_rng_period_ms"] / 1000, rel=0.05)
        assert row["burst_bytes"] == row["virtio_rng_max_bytes"]


@pytest.mark.lab
@pytest.mark.slow
def test_a_megabyte_a_second_holds_or_was_not_reached_and_is_never_said_not_to_hold(tmp_path: Path) -> None:
    """Without KVM, or beside other tests, a guest may draw less. Then that is said, and nothing of the limit."""
    require_lab()
    (row,) = measured([RngLimit(max_bytes=104_832, period_ms=100)], tmp_path, 3).to_dict("records")  # whole requests of 64 bytes
    assert row["configured_bytes_per_second"] == pytest.approx(1_048_320)
    assert row["bytes_per_second"] > 0
    if pd.isna(row["holds"]):
        assert row["ratio"] < 1
        assert "the limit was not reached" in row["why"] or "leave" in row["why"]
    else:
        assert row["holds"], row["why"]
        assert 0.95 <= row["ratio"] <= 1.05


def test_every_limit_of_the_recorded_sweep_holds_within_five_percent_from_16_bytes_to_a_megabyte_a_second() -> None:
    """A guest under TCG draws little more than a megabyte a second, and less beside other tests: this was recorded by itself."""
    store = open_store(share.reference_store(), create=False)
    found = rates(store.read("source_reads"), store.read("rng_state"))
    limited = found.dropna(subset="configured_bytes_per_second")
    assert limited["configured_bytes_per_second"].min() == 16
    assert limited["configured_bytes_per_second"].max() > 1e6
    assert len(limited) >= 6
    for row in limited.to_dict("records"):
        assert 0.95 <= row["ratio"] <= 1.05, row
        assert row["holds"], row
        assert row["bursts"] > 3, row
