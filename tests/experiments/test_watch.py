"""Watching the pool: moments that do not drift, gaps that are seen, Ctrl-C, and what goes to the store."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from toolkit.errors import StoreError, ToolkitError, UsageError
from toolkit.experiments import watch as watching
from toolkit.experiments.watch import watch
from toolkit.runs import begin
from toolkit.sensors.look import Look, PoolSample, RawLooks
from toolkit.sensors.ticks import Ticks
from toolkit.store import Store, open_store
from toolkit.tables import TABLES


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def test_rows_are_those_of_the_table_with_their_run() -> None:
    run = begin("a test")
    samples = watch(0.1, 0.01, run=run)
    assert {name: str(kind) for name, kind in samples.dtypes.items()} == TABLES["entropy_samples"].dtypes
    assert 0 < len(samples) <= 10
    assert set(samples["run_id"]) == {run.run_id}
    assert set(samples["boot_id"]) == {run.boot_id}
    assert samples["host"].notna().all()
    assert samples["guest"].isna().all()
    assert samples["crng_ready"].all()
    assert (samples["entropy_avail_bits"] > 0).all()


def test_times_are_of_the_boot_clock_and_agree_with_the_calendar() -> None:
    before_ns, before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), pd.Timestamp.now("UTC")
    samples = watch(0.05, 0.01)
    assert samples["t_ns"].iloc[0] > before_ns
    assert samples["t_ns"].is_monotonic_increasing
    assert samples["t_ns"].is_unique
    assert before < samples["utc"].iloc[0] <= samples["utc"].iloc[-1] < pd.Timestamp.now("UTC")


def test_one_look_is_made_where_the_interval_is_longer_than_the_watch() -> None:
    assert len(watch(0.01, 5.0)) == 1


class _Slow(Look):
    """A look that takes longer than three intervals of a hundredth of a second."""

    def series(self, ticks: Ticks, looks: int, into: list[RawLooks]) -> None:
        super().series(ticks, 1, into)
        time.sleep(0.035)


def test_moments_that_pass_are_gaps_and_are_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "Look", _Slow)
    samples = watch(0.2, 0.01)
    assert 1 < len(samples) <= 7
    assert samples["t_ns"].is_monotonic_increasing


def test_a_watch_ends_about_in_time_whatever_was_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stalled(Look):
        def series(self, ticks: Ticks, looks: int, into: list[RawLooks]) -> None:
            time.sleep(0.15)  # in the middle of what was to be made at one go
            super().series(ticks, looks, into)

    monkeypatch.setattr(watching, "Look", Stalled)
    samples = watch(0.2, 0.001)
    since_ns = samples["t_ns"] - samples["t_ns"].iloc[0]
    # Of 200 moments the first 150 were missed, and half of them were to be looked at in one go.
    assert len(samples) <= 100
    assert since_ns.iloc[-1] < 300_000_000


def test_what_a_machine_does_not_tell_is_null(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    class Blind(Look):
        def __call__(self) -> PoolSample:
            return PoolSample(None, None, None)

    monkeypatch.setattr(watching, "Look", Blind)
    samples = watch(0.03, 0.01, store)
    columns = ["entropy_avail_bits", "crng_ready", "random_readable"]
    assert samples[columns].isna().to_numpy().all()
    assert store.read("entropy_samples")[columns].isna().to_numpy().all()


def test_not_ready_is_not_null(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unready(Look):
        def __call__(self) -> PoolSample:
            return PoolSample(0, False, False)

    monkeypatch.setattr(watching, "Look", Unready)
    samples = watch(0.03, 0.01)
    assert (samples["entropy_avail_bits"] == 0).all()
    assert not samples["crng_ready"].any()
    assert samples[["crng_ready", "random_readable"]].notna().to_numpy().all()


def test_ctrl_c_ends_it_early_and_keeps_what_was_seen(store: Store) -> None:
    def interrupt(done: float, _total: float, _words: str) -> None:
        if done > 0.2:
            signal.raise_signal(signal.SIGINT)

    samples = watch(3600.0, 0.005, store, progress=interrupt)
    assert 0 < len(samples) < 3600 / 0.005
    kept = store.read("entropy_samples").sort_values("t_ns", ignore_index=True)
    pd.testing.assert_frame_equal(kept, samples)


def test_batches_go_to_the_store_while_it_watches_and_none_twice(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(watching, "_BATCH_S", 0.05)
    seen_in_store: list[int] = []

    def look_into_the_store(_done: float, _total: float, _words: str) -> None:
        seen_in_store.append(len(store.read("entropy_samples")))

    samples = watch(1.0, 0.005, store, progress=look_into_the_store)
    assert max(seen_in_store) > 0
    kept = store.read("entropy_samples").sort_values("t_ns", ignore_index=True)
    pd.testing.assert_frame_equal(kept, samples)


def test_the_machine_is_looked_at_beside_the_pool(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(watching, "_SYSTEM_EVERY_NS", 50_000_000)
    watch(0.3, 0.01, store)
    system = store.read("system_samples").sort_values("t_ns", ignore_index=True)
    assert len(system) > 1
    assert pd.isna(system["cpu_busy_fraction"].iloc[0])
    assert system["memory_available_bytes"].notna().all()
    assert system["t_ns"].is_unique


def test_its_own_run_is_in_the_store_and_a_given_one_is_its_callers_matter(store: Store) -> None:
    given = begin("a test")
    watch(0.02, 0.01, store, run=given)
    assert store.read("runs").empty
    own = watch(0.02, 0.01, store)
    assert store.read("runs")["run_id"].tolist() == [own["run_id"].iloc[0]]


def test_a_store_that_fails_ends_the_watch_with_its_error(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(watching, "_BATCH_S", 0.02)
    run = begin("a test")

    def spoil(_done: float, _total: float, _words: str) -> None:
        shutil.rmtree(store.path, ignore_errors=True)
        store.path.write_text("no folder any more")

    with pytest.raises(ToolkitError) as caught:
        watch(3600.0, 0.005, store, run=run, progress=_once(spoil))
    assert isinstance(caught.value, StoreError)


def _once(call: Any) -> Any:
    called: list[bool] = []

    def first(*arguments: Any) -> None:
        if not called:
            called.append(True)
            call(*arguments)

    return first


@pytest.mark.parametrize(
    ("duration_s", "interval_s"), [(0, 1), (1, 0), (-1, 1), (1, -1), (1, 1e-9), (float("nan"), 1), (float("inf"), 1)]
)
def test_a_watch_that_cannot_be_meant_is_refused(duration_s: float, interval_s: float) -> None:
    with pytest.raises(UsageError):
        watch(duration_s, interval_s)
