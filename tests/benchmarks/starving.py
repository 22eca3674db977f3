"""All episodes of a fleet, from a store: against Polars, pandas and a cluster over the same files; its memory; how it grows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from distributed import Client, LocalCluster

import toolkit
from tests.benchmarks.figures import ROUNDS, Figure, compared, in_turn, seconds, within
from tests.benchmarks.fleet import made, some
from toolkit.store import Store, open_store

ROWS = 100_000_000
FLOOR_BITS = 64
KEYS = ["host", "guest", "boot_id"]
COLUMNS = [*KEYS, "t_ns", "entropy_avail_bits", "random_readable"]

#: A process of its own, so that what it held at most is its own: prints bytes.
PEAK = """
import resource, sys
import toolkit
store = toolkit.open_store(sys.argv[1])
assert len(toolkit.starvation(store.scan("entropy_samples"), "blocking"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def figures(rows: int = ROWS) -> Iterator[Figure]:
    """Every side gives the same episodes, or there is no figure."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        print(f"  making a store of {rows:,} samples", flush=True)
        store = made(Path(folder, "whole"), rows)
        fifth = some(store, Path(folder, "fifth"), 5)
        half = some(store, Path(folder, "half"), 2)
        what = f"episodes of {rows:,} samples of 200 guests"
        _same(_ours(store), _polars(store))
        pairs = in_turn([_timed(_ours, store), _timed(_polars, store), _timed(_ours, half)])
        yield compared(what, "Polars, streaming", [(mine, theirs) for mine, theirs, _ in pairs], goal=1.3)
        yield compared("twice the samples, per sample", "half of them", [(mine, 2 * less) for mine, _, less in pairs], goal=1.1)
        yield within(f"{what}: peak memory", [_peak(store) for _ in range(ROUNDS)], 1.0, "GB")
        _same(_ours(fifth), _pandas(fifth))
        pairs = in_turn([_timed(_ours, fifth), _timed(_pandas, fifth)])
        yield compared(f"episodes of {rows // 5:,} samples of 40 guests", "pandas", pairs, goal=1 / 8)
        yield _cluster(what, store)


def _timed(find: Callable[[Store], object], store: Store) -> Callable[[], float]:
    return lambda: seconds(lambda: find(store))


def _ours(store: Store, scheduler: str | None = None) -> pd.DataFrame:
    return toolkit.starvation(store.scan("entropy_samples"), "blocking", FLOOR_BITS, scheduler=scheduler)


def _polars(store: Store) -> pd.DataFrame:
    """Runs of starving samples; where sampling has gaps is not asked, nor what is cut by an edge."""
    text = [pl.col(name).cast(pl.Categorical) for name in KEYS]
    starving = (pl.col("entropy_avail_bits") < FLOOR_BITS) | ~pl.col("random_readable")
    edges = (pl.col("starving") != pl.col("starving").shift()) | (pl.col("boot_id") != pl.col("boot_id").shift())
    return (
        pl.scan_parquet(store.files("entropy_samples"), schema=None)
        .select(*text, "t_ns", "entropy_avail_bits", starving.alias("starving"))
        .with_columns(edges.fill_null(True).cum_sum().alias("piece"))
        .filter("starving")
        .group_by("piece")
        .agg(
            *(pl.col(name).first() for name in KEYS),
            pl.col("t_ns").min().alias("start_ns"),
            pl.col("t_ns").max().alias("end_ns"),
            pl.len().alias("samples"),
            pl.col("entropy_avail_bits").min().alias("lowest_bits"),
        )
        .collect(engine="streaming")
        .to_pandas()
    )


def _pandas(store: Store) -> pd.DataFrame:
    """Group by and shift, as a notebook would have it."""
    frame = pd.concat((pd.read_parquet(file, columns=COLUMNS) for file in store.files("entropy_samples")), ignore_index=True)
    starving = (frame["entropy_avail_bits"] < FLOOR_BITS) | ~frame["random_readable"].astype(bool)
    before = starving.groupby([frame[name] for name in KEYS], sort=False).shift(fill_value=False)
    frame["piece"] = (starving & ~before).cumsum()
    found = frame[starving].groupby([*KEYS, "piece"], sort=False, observed=True)
    return found.agg(
        start_ns=("t_ns", "min"),
        end_ns=("t_ns", "max"),
        samples=("t_ns", "size"),
        lowest_bits=("entropy_avail_bits", "min"),
    ).reset_index()


def _same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    columns = ["guest", "start_ns", "end_ns", "samples", "lowest_bits"]
    mine, other = (frame[columns].astype({"guest": str}).sort_values(["guest", "start_ns"]) for frame in (ours, theirs))
    assert len(mine) == len(other) > 0
    for name in columns:
        assert np.array_equal(mine[name].to_numpy(), other[name].to_numpy()), name


def _peak(store: Store) -> float:
    done = subprocess.run([sys.executable, "-c", PEAK, store.path], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1e9


def _cluster(what: str, store: Store) -> Figure:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        address = cluster.scheduler_address
        found = []

        def there() -> None:
            found.append(_ours(open_store(store.path), address))

        def here() -> None:
            found.append(_ours(store, "threads"))

        pairs = in_turn([lambda: seconds(there), lambda: seconds(here)])
        for each in found[1:]:
            pd.testing.assert_frame_equal(each, found[0])
    return compared(f"{what}, cluster of 2 workers", "threads", pairs, goal=1.6)
