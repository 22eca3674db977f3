"""Starvation: the same episodes as a plain loop finds, however the samples are ordered, split, and wherever they are computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import dask
import dask.dataframe as dd
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, example, given, settings
from pandas.testing import assert_frame_equal

from tests.analysis import oracle
from toolkit import open_store, starvation
from toolkit.analysis import starvation as module
from toolkit.errors import NotMeasuredWarning, TableError, UsageError
from toolkit.tables import TABLES

COLUMNS = ["host", "guest", "boot_id", "start_ns", "end_ns", "samples", "lowest_bits", "cause", "censored"]
REGIMES = ["blocking", "estimating", "draining", "latched"]
SECOND = 10**9


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Entropy samples from rows; what a row leaves out is null, or the host h, boot b."""
    full = [{"run_id": "r", "host": "h", "boot_id": "b", "utc": pd.Timestamp(0, tz="UTC"), **row} for row in rows]
    kinds = TABLES["entropy_samples"].dtypes
    return pd.DataFrame({name: pd.Series([row.get(name) for row in full], dtype=kind) for name, kind in kinds.items()})


def series(ready: str, step_s: float = 1) -> pd.DataFrame:
    """One boot: a letter a sample, S starving, . not, a space a sample that is not there."""
    rows = [{"t_ns": int(i * step_s * SECOND), "crng_ready": letter != "S"} for i, letter in enumerate(ready) if letter != " "]
    return table(rows)


def rows_of(episodes: pd.DataFrame) -> list[tuple[Any, ...]]:
    assert list(episodes.columns) == COLUMNS
    plain = episodes.astype(object)
    return [tuple(row) for row in plain.where(plain.notna(), None).itertuples(index=False)]


def brief(episodes: pd.DataFrame) -> list[tuple[int, int, str]]:
    """Each episode's first and last second, and how it is censored."""
    return [(row.start_ns // SECOND, row.end_ns // SECOND, row.censored) for row in episodes.itertuples()]


def test_runs_of_starving_samples_are_episodes_censored_at_the_edge_of_the_data() -> None:
    assert brief(starvation(series("SS..SSS.S"), "latched")) == [(0, 1, "start"), (4, 6, "none"), (8, 8, "end")]
    assert brief(starvation(series("SSS"), "latched")) == [(0, 2, "both")]
    assert brief(starvation(series("S"), "latched")) == [(0, 0, "both")]
    assert brief(starvation(series("..."), "latched")) == []


def test_a_gap_in_sampling_cuts_an_episode_and_censors_both_sides() -> None:
    gap = " " * 30
    assert brief(starvation(series(f".SS{gap}SS."), "latched")) == [(1, 2, "end"), (33, 34, "start")]
    assert brief(starvation(series(f".SS.{gap}.SS."), "latched")) == [(1, 2, "none"), (35, 36, "none")]
    assert brief(starvation(series(".SS     SS."), "latched")) == [(1, 9, "none")]
    assert brief(starvation(series(".SS     SS."), "latched", max_gap_s=2)) == [(1, 2, "end"), (8, 9, "start")]


def test_each_regime_has_its_own_definition_and_cause() -> None:
    samples = table(
        [
            {"t_ns": 1, "entropy_avail_bits": 63, "crng_ready": True, "random_readable": True},
            {"t_ns": 2, "entropy_avail_bits": 64, "crng_ready": True, "random_readable": True},
            {"t_ns": 3, "entropy_avail_bits": 500, "crng_ready": True, "random_readable": False},
            {"t_ns": 4, "entropy_avail_bits": 500, "crng_ready": False, "random_readable": True},
            {"t_ns": 5, "entropy_avail_bits": 500, "crng_ready": None, "random_readable": True},
            {"t_ns": 6, "entropy_avail_bits": 256, "crng_ready": None, "random_readable": False},
        ]
    )
    blocking = starvation(samples, "blocking")
    assert blocking[["start_ns", "cause", "lowest_bits"]].values.tolist() == [
        [1, "pool_below_floor", 63], [3, "random_not_readable", 500], [6, "random_not_readable", 256],
    ]  # fmt: skip
    assert starvation(samples, "blocking", floor_bits=63)["start_ns"].tolist() == [3, 6]
    for regime in REGIMES[1:]:
        found = starvation(samples, regime)
        assert found[["start_ns", "cause"]].values.tolist() == [[4, "crng_not_ready"], [6, "random_not_readable"]]


def test_a_pool_of_256_bits_is_no_starvation_once_latched() -> None:
    assert starvation(table([{"t_ns": i, "entropy_avail_bits": 256, "crng_ready": True} for i in range(9)]), "latched").empty


def test_a_sample_without_evidence_for_its_regime_is_no_sample() -> None:
    samples = table([{"t_ns": 1, "crng_ready": False}, {"t_ns": 2, "entropy_avail_bits": 3}, {"t_ns": 3, "crng_ready": False}])
    assert rows_of(starvation(samples, "latched")) == [("h", None, "b", 1, 3, 2, None, "crng_not_ready", "both")]
    assert rows_of(starvation(samples, "blocking")) == [("h", None, "b", 2, 2, 1, 3, "pool_below_floor", "both")]


def test_the_result_has_its_dtypes_also_when_it_is_empty() -> None:
    for samples in (series("S."), series(".."), TABLES["entropy_samples"].empty()):
        assert {name: str(kind) for name, kind in starvation(samples, "latched").dtypes.items()} == {
            **dict.fromkeys(("host", "guest", "boot_id", "cause", "censored"), "str"),
            **dict.fromkeys(("start_ns", "end_ns", "samples"), "int64"), "lowest_bits": "Int64",
        }  # fmt: skip


# Which boot has which regime


def states(*rows: tuple[str | None, str, str | None]) -> pd.DataFrame:
    return pd.DataFrame([{"host": "h", "guest": guest, "boot_id": boot, "regime": regime} for guest, boot, regime in rows])


def test_each_boot_is_judged_by_the_regime_that_its_state_says() -> None:
    rows = [
        {"guest": guest, "boot_id": boot, "t_ns": 1, "entropy_avail_bits": 3, "crng_ready": True}
        for guest, boot in ((None, "b"), ("g", "c"))
    ]
    said = states((None, "b", "latched"), ("g", "c", "blocking"), ("g", "c", None), ("g", "c", "blocking"))
    assert rows_of(starvation(table(rows), said)) == [("h", "g", "c", 1, 1, 1, 3, "pool_below_floor", "both")]
    assert rows_of(starvation(table(rows), dd.from_pandas(said, npartitions=2))) == [
        ("h", "g", "c", 1, 1, 1, 3, "pool_below_floor", "both")
    ]


def test_a_boot_without_a_regime_is_left_out_by_name() -> None:
    rows = [{"guest": "g", "boot_id": f"boot{i}", "t_ns": 1, "crng_ready": False} for i in range(9)]
    with pytest.warns(NotMeasuredWarning, match=r"boot0 of g on h; .*; and 3 more") as caught:
        found = starvation(table(rows), states(("g", "boot8", "latched"), ("g", "boot7", None)))
    assert found["boot_id"].tolist() == ["boot8"]
    assert len(caught) == 1


def test_two_regimes_of_one_boot_are_an_error() -> None:
    with pytest.raises(UsageError, match="boot c of g is said to be both latched and blocking"):
        starvation(series("S"), states(("g", "c", "latched"), ("g", "c", "blocking")))


@pytest.mark.parametrize("regimes", ["panicking", states((None, "b", "panicking"))])
def test_a_regime_that_is_none_is_an_error(regimes: Any) -> None:
    with pytest.raises(UsageError, match="'panicking' is not a regime"):
        starvation(series("S"), regimes)


@pytest.mark.parametrize("max_gap_s", [0, -1, float("nan"), float("inf")])
def test_a_gap_must_be_a_duration(max_gap_s: float) -> None:
    with pytest.raises(UsageError, match="max_gap_s"):
        starvation(series("S"), "latched", max_gap_s=max_gap_s)


def test_what_is_no_table_of_samples_is_refused() -> None:
    with pytest.raises(TableError, match="needs the column t_ns"):
        starvation(series("S").drop(columns="t_ns"), "latched")
    with pytest.raises(TableError, match="before the boot began"):
        starvation(series("S").assign(t_ns=-1), "latched")
    with pytest.raises(TableError, match="t_ns is null"):
        starvation(series("S").assign(t_ns=pd.array([None], dtype="Int64")), "latched")
    with pytest.raises(TableError, match="not list"):
        starvation([], "latched")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'slowly' is not a scheduler"):
        starvation(series("S"), "latched", scheduler="slowly")


# Against the oracle, split anywhere

STEPS = st.sampled_from([0, 1, 1, 1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 100, 5000, 10**6])
FLAG = st.sampled_from([True, False, False, None])
SAMPLE = st.fixed_dictionaries(
    {"guest": st.sampled_from([None, "a", "b"]), "boot_id": st.sampled_from(["x", "x", "y"]), "step": STEPS,
     "entropy_avail_bits": st.sampled_from([None, 0, 63, 64, 256]), "crng_ready": FLAG, "random_readable": FLAG}
)  # fmt: skip


@st.composite
def sampled(draw: st.DrawFn) -> pd.DataFrame:
    """Samples of a few boots: gaps, duplicates, nulls, and rows out of order."""
    rows = draw(st.lists(SAMPLE, max_size=60))
    clock: dict[Any, int] = {}
    for row in rows:
        key = (row["guest"], row["boot_id"])
        clock[key] = row["t_ns"] = clock.get(key, 0) + row.pop("step")
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))
    return table(rows)


def split(frame: pd.DataFrame, cuts: list[int]) -> dd.DataFrame:
    """The frame as Dask, a partition from each cut to the next, its text as categoricals of its own, as a scan gives it."""
    edges = [0, *sorted(min(cut, len(frame)) for cut in cuts), len(frame)]
    names = ["run_id", "host", "guest", "boot_id"]
    parts = [frame.iloc[a:b].astype(dict.fromkeys(names, "category")) for a, b in itertools.pairwise(edges)]
    with dask.config.set({"dataframe.convert-string": False}):
        return dd.from_map(lambda i: parts[i], range(len(parts)), meta=frame.iloc[:0].astype(dict.fromkeys(names, "category")))


@given(
    frame=sampled(), cuts=st.lists(st.integers(0, 60), max_size=6), said=st.lists(st.sampled_from(REGIMES), min_size=6, max_size=6),
    max_gap_s=st.sampled_from([None, None, 16e-9, 1e-9, 1.0]),
)  # fmt: skip
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(series("SS" + " " * 90 + "SS........", 1e-9), [2], ["latched"] * 6, None)
def test_episodes_are_the_oracles_whatever_the_order_and_the_split(
    frame: pd.DataFrame, cuts: list[int], said: list[str], max_gap_s: float | None
) -> None:
    keys = [("h", guest, boot) for guest in (None, "a", "b") for boot in ("x", "y")] + [("h", None, "b")]
    regime_of = dict(zip(keys, [*said, "latched"], strict=True))
    regimes = pd.DataFrame([{"host": h, "guest": g, "boot_id": b, "regime": regime} for (h, g, b), regime in regime_of.items()])
    expected = oracle.episodes(frame, regime_of, 64, None if max_gap_s is None else round(max_gap_s * 1e9))
    assert rows_of(starvation(frame, regimes, max_gap_s=max_gap_s)) == expected
    parts = split(frame, cuts)
    assert rows_of(starvation(parts, regimes, max_gap_s=max_gap_s, scheduler="synchronous")) == expected


@pytest.mark.parametrize("cut", range(13))
def test_an_episode_cut_by_files_at_any_place_is_one(cut: int) -> None:
    frame = series("..SSS.SS..SS")
    whole = starvation(frame, "latched")
    assert_frame_equal(starvation(split(frame, [cut]), "latched"), whole)
    assert_frame_equal(starvation(split(frame, [cut, cut, cut + 1]), "latched"), whole)


@pytest.mark.parametrize("starved", [True, False])
def test_a_moment_that_two_files_share_counts_once(starved: bool) -> None:
    frame = pd.concat([series(".SSS"), series("...S.").iloc[3:].assign(crng_ready=[not starved, True])], ignore_index=True)
    (row,) = rows_of(starvation(split(frame, [4]), "latched"))
    assert row[3:6] == (1 * SECOND, 3 * SECOND, 3)


def test_only_boots_whose_parts_do_not_tell_are_summarised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[set[Any]] = []
    real = module.rows_of_boots
    monkeypatch.setattr(module, "rows_of_boots", lambda frame, keys: taken.append(keys) or real(frame, keys))
    plain, overlapping = series(".SS..SS."), series(".SS..SS.").assign(guest="g")
    frame = pd.concat([plain, overlapping.iloc[::2], overlapping.iloc[1::2]], ignore_index=True)
    found = starvation(split(frame, [3, 12]), "latched", scheduler="synchronous")
    assert_frame_equal(found, starvation(frame, "latched"))
    assert set().union(*taken) == {("h", "g", "b")}


def test_a_part_sampled_far_more_slowly_than_the_boot_is_cut_as_the_boot_is() -> None:
    slow, fast = series("SS", 40), series("." * 60).assign(t_ns=lambda frame: frame["t_ns"] + 60 * SECOND)
    frame = pd.concat([slow, fast], ignore_index=True)
    assert brief(starvation(frame, "latched")) == [(0, 0, "both"), (40, 40, "both")]
    assert_frame_equal(starvation(split(frame, [2]), "latched"), starvation(frame, "latched"))


def test_boots_to_take_again_are_taken_so_many_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.concat([series(".SS..SS.").assign(guest=f"g{i}") for i in range(6)])
    frame = pd.concat([frame.iloc[::2], frame.iloc[1::2]], ignore_index=True)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 20)
    assert_frame_equal(starvation(split(frame, [24]), "latched"), starvation(frame, "latched"))


# On a store, on threads, on a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """A cluster of two processes, without a dashboard."""
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1") as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dd.DataFrame:
    """A store in which each boot is spread over several files, cut in the middle of episodes."""
    store = open_store(tmp_path_factory.mktemp("cluster") / "store")
    rng = np.random.default_rng(5)
    boots = []
    for guest in (None, "a", "b", "c"):
        ready = np.repeat(rng.random(40) > 0.4, rng.integers(1, 60, 40))
        rows = [
            {"guest": guest, "boot_id": f"boot-{guest}", "t_ns": int(i * SECOND), "crng_ready": bool(r)}
            for i, r in enumerate(ready)
        ]
        boots.append(table(rows))
    for piece in range(6):
        store.append("entropy_samples", pd.concat([boot[len(boot) * piece // 6 : len(boot) * (piece + 1) // 6] for boot in boots]))
    return store.scan("entropy_samples")


def test_a_cluster_and_threads_and_memory_give_the_same_episodes(cluster: Client, stored: dd.DataFrame) -> None:
    in_memory = starvation(stored.compute(), "latched")
    assert len(in_memory) > 20
    assert stored.npartitions == 6
    assert_frame_equal(starvation(stored, "latched", scheduler="threads"), in_memory)
    assert_frame_equal(starvation(stored, "latched", scheduler=cluster.scheduler.address), in_memory)
    with cluster.as_current():
        assert_frame_equal(starvation(stored, "latched"), in_memory)


def test_a_cluster_says_which_boots_it_left_out(cluster: Client, stored: dd.DataFrame) -> None:
    said = states((None, "boot-None", "latched"), ("a", "boot-a", "latched"), ("b", "boot-b", "latched"))
    with pytest.warns(NotMeasuredWarning, match="boot-c of c on h"):
        found = starvation(stored, said, scheduler=cluster.scheduler.address)
    assert set(found["guest"].dropna()) == {"a", "b"}


def test_a_store_is_asked_for_the_columns_that_are_needed_alone(stored: dd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    read: set[str] = set()
    real = parquet.ParquetFile.read_row_groups

    def spy(self: Any, groups: Any, columns: list[str], **options: Any) -> Any:
        read.update(columns)
        return real(self, groups, columns=columns, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_groups", spy)
    starvation(stored, "latched")
    assert "utc" not in read
    assert "run_id" not in read
    assert {"t_ns", "crng_ready"} <= read
    read.clear()
    starvation(stored, "blocking")
    assert "crng_ready" not in read
