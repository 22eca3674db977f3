"""Starvation in any series, stored in any way: split over files at every place, interleaved, doubled, out of order, of many boots.

The oracle is the plain loop of ``tests.analysis.oracle``. ``tests.analysis.test_starvation`` compares with it in memory; here all
goes through a store's files, and comes back both by ``read`` and by ``scan``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings

from tests.analysis import oracle
from tests.analysis.test_starvation import REGIMES, rows_of, series, table
from toolkit import starvation
from toolkit.errors import NotMeasuredWarning
from toolkit.store import Store, open_store
from toolkit.tables import TABLES

#: Steps of a nanosecond and of years: whole numbers that no float tells apart, and next to powers of two.
STEPS = st.sampled_from([0, 1, 1, 1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 100, 5000, 10**6]) | st.sampled_from(
    [2**52 + 1, 2**53 - 1, 2**53 + 1, 2**54 - 1, 2**55 - 1, 2**56 + 1]
)
FLAG = st.sampled_from([True, False, False, None])
SAMPLE = st.fixed_dictionaries(
    {
        "run_id": st.sampled_from(["r1", "r2"]),
        "host": st.sampled_from(["h", "h", "../k"]),
        "guest": st.sampled_from([None, "a"]),
        "boot_id": st.sampled_from(["x", "x", "x", "y"]),
        "step": STEPS,
        "entropy_avail_bits": st.sampled_from([None, 0, 63, 64, 256]),
        "crng_ready": FLAG,
        "random_readable": FLAG,
    }
)
BOOTS = list(itertools.product(("h", "../k"), (None, "a"), ("x", "y")))


@st.composite
def sampled(draw: st.DrawFn, most: int) -> pd.DataFrame:
    """Samples of a few boots: gaps, duplicates, nulls, rows out of order, and boots that began long ago."""
    rows = draw(st.lists(SAMPLE, max_size=most))
    clock: dict[Any, int] = {}
    for row in rows:
        key = (row["host"], row["guest"], row["boot_id"])
        clock[key] = row["t_ns"] = clock.get(key, draw(st.sampled_from([0, 10**9, 2**61]))) + row.pop("step")
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))
    return table(rows)


@contextlib.contextmanager
def stores() -> Iterator[Path]:
    """Where stores can be made by the thousand: in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


def found_in(store: Store, regimes: Any, max_gap_s: float | None) -> tuple[list[Any], list[Any]]:
    """The episodes, of the samples as they are read and as they are scanned."""
    read, scanned = store.read("entropy_samples"), store.scan("entropy_samples")
    return (
        rows_of(starvation(read, regimes, max_gap_s=max_gap_s)),
        rows_of(starvation(scanned, regimes, max_gap_s=max_gap_s, scheduler="synchronous")),
    )


GAPS = st.sampled_from([None, None, 16e-9, 1e-9, 1.0])


@given(frame=sampled(8), said=st.lists(st.sampled_from(REGIMES), min_size=8, max_size=8), max_gap_s=GAPS, later_first=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_series_split_over_two_files_at_any_place_has_the_oracles_episodes(
    frame: pd.DataFrame, said: list[str], max_gap_s: float | None, later_first: bool
) -> None:
    regime_of = dict(zip(BOOTS, said, strict=True))
    regimes = pd.DataFrame([{"host": h, "guest": g, "boot_id": b, "regime": r} for (h, g, b), r in regime_of.items()])
    expected = oracle.episodes(frame, regime_of, 64, None if max_gap_s is None else round(max_gap_s * 1e9))
    with stores() as folder:
        for cut in range(len(frame) + 1):
            store = open_store(folder / str(cut))
            parts = [frame.iloc[:cut], frame.iloc[cut:]]
            for part in reversed(parts) if later_first else parts:
                store.append("entropy_samples", part)
            assert found_in(store, regimes, max_gap_s) == (expected, expected), cut
    event(f"{min(len(expected), 4)} episodes or more")


@given(
    frame=sampled(40),
    said=st.lists(st.sampled_from([*REGIMES, None]), min_size=8, max_size=8),
    max_gap_s=GAPS,
    files=st.integers(1, 5),
    data=st.data(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_samples_strewn_over_files_and_stored_twice_have_the_oracles_episodes(
    frame: pd.DataFrame, said: list[str | None], max_gap_s: float | None, files: int, data: st.DataObject
) -> None:
    where = data.draw(
        st.lists(st.sets(st.integers(0, files - 1), min_size=1, max_size=2), min_size=len(frame), max_size=len(frame))
    )
    regime_of = {boot: regime for boot, regime in zip(BOOTS, said, strict=True) if regime is not None}
    expected = oracle.episodes(frame, regime_of, 64, None if max_gap_s is None else round(max_gap_s * 1e9))
    keys = frame[["host", "guest", "boot_id"]].astype(object).where(frame[["host", "guest", "boot_id"]].notna(), None)
    seen = frame["entropy_avail_bits"].notna() | frame["crng_ready"].notna() | frame["random_readable"].notna()
    unknown = {tuple(key) for key in keys.itertuples(index=False)} - set(regime_of)
    rows = [{"run_id": "r", "host": h, "guest": g, "boot_id": b, "regime": r} for (h, g, b), r in regime_of.items()]
    with stores() as folder:
        store = open_store(folder / "store")
        for file in range(files):
            chosen = frame[np.array([file in places for places in where], dtype=bool)]
            store.append("entropy_samples", chosen.sample(frac=1, random_state=data.draw(st.integers(0, 9))))
        states = pd.DataFrame(rows, columns=["run_id", "host", "guest", "boot_id", "regime"]).astype("str")
        store.append("rng_state", TABLES["rng_state"].frame({name: states[name] for name in states.columns}))
        regimes = store.scan("rng_state") if files % 2 else store.read("rng_state")
        with pytest.warns(NotMeasuredWarning, match="were left out") if unknown else contextlib.nullcontext():
            assert found_in(store, regimes, max_gap_s) == (expected, expected)
    event(f"{'some' if unknown else 'no'} boots unknown, {'some' if not seen.all() else 'no'} samples without evidence")


HARD = [
    ("gap after a gap", "S. " + " " * 40 + "SS" + " " * 40 + ".S", None),
    ("one slow part", "S" + " " * 39 + "S" + "..SSS", None),
    ("none but starving", "SSSSSSS", None),
    ("every other", "S.S.S.S", None),
    ("each a gap", "S  S  .  S  S", 2.0),
]


@pytest.mark.parametrize(("text", "max_gap_s"), [(text, gap) for _, text, gap in HARD], ids=[name for name, *_ in HARD])
def test_every_way_to_cut_a_series_into_files_gives_the_same_episodes(text: str, max_gap_s: float | None) -> None:
    frame = series(text)
    count = len(frame)
    expected = oracle.episodes(frame, {("h", None, "b"): "latched"}, 64, None if max_gap_s is None else round(max_gap_s * 1e9))
    assert expected
    ways = Counter[int]()
    with stores() as folder:
        # Each stretch is written once; a store of some of them is made of links.
        pieces = open_store(folder / "pieces")
        written = {
            (begin, end): pieces.append("entropy_samples", frame.iloc[begin:end])[0]
            for begin, end in itertools.combinations(range(count + 1), 2)
        }
        store = open_store(folder / "store")
        day = store.path / next(iter(written.values())).parent.relative_to(pieces.path)
        for cuts in itertools.product((False, True), repeat=count - 1):
            edges = [0, *(place for place, cut in enumerate(cuts, start=1) if cut), count]
            day.mkdir(parents=True)
            turned = sum(cuts[::2]) % 2  # the last file first
            for place, stretch in enumerate(itertools.pairwise(edges)):
                os.link(written[stretch], day / f"part-{count - place if turned else place:0>3}.parquet")
            found = starvation(store.scan("entropy_samples"), "latched", max_gap_s=max_gap_s, scheduler="synchronous")
            assert rows_of(found) == expected, edges
            ways[len(edges) - 1] += 1
            shutil.rmtree(day)
    assert ways.total() == 2 ** (count - 1)
    assert set(ways) == set(range(1, count + 1))


def test_intervals_that_no_float_tells_from_the_next_power_of_two_are_still_in_their_own_bin() -> None:
    step = 2**54 - 1  # as a float it is 2**54
    times = [0, step, 2 * step, 2 * step + 2**57 + 1]
    frame = table([{"t_ns": t_ns, "crng_ready": False} for t_ns in times])
    assert rows_of(starvation(frame, "latched")) == oracle.episodes(frame, {("h", None, "b"): "latched"}, 64, None)
    assert len(starvation(frame, "latched")) == 2
