"""The reference store: what it must hold for its figures to be worth showing, and that it is small enough for git."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit import share
from toolkit.experiments.boot_plan import read_plan
from toolkit.store import Store, open_store

MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def store() -> Store:
    return open_store(share.reference_store(), create=False)


def test_every_configuration_was_booted_five_times_on_kernels_of_two_suites(store: Store) -> None:
    boots = store.read("boots")
    assert boots["kernel"].nunique() >= 2
    for plan, rows in boots.groupby("plan"):
        cells = rows[rows["outcome"].isin(["ready", "censored"])].groupby(["cell", "remedy"]).size()
        assert cells.min() >= 5, plan
        assert cells.max() == cells.min(), plan  # none is there twice
        assert len(cells) == len(read_plan(share.plan_file(str(plan)), lambda word: [word]).cells), plan
    censored = boots[boots["outcome"] == "censored"]
    assert len(censored)
    assert censored["crng_ready_s"].isna().all()


def test_costs_of_a_plan_that_compares_remedies_are_of_one_time(store: Store) -> None:
    rows = store.read("boots")
    watched_s = rows.loc[rows["plan"] == "remedies", "watched_s"]
    assert watched_s.notna().all()
    assert watched_s.max() < 1.1 * watched_s.min()


def test_the_machine_of_every_run_is_described(store: Store) -> None:
    runs = store.read("runs")
    for name in ("command", "kernel", "cpu_model", "cpu_count", "memory_bytes", "toolkit_version"):
        assert runs[name].notna().all(), name
    for name in store.tables():
        assert set(store.read(name)["run_id"]) <= set(runs["run_id"]), name
    assert store.read("boots")["accelerator"].notna().all()


def test_it_is_small_enough_for_git() -> None:
    assert sum(path.stat().st_size for path in Path(share.reference_store()).rglob("*") if path.is_file()) < MOST_BYTES
