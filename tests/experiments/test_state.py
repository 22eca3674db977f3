"""The state of the generator as a row."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.trees import TREES
from toolkit.experiments import state
from toolkit.experiments.state import rng_state
from toolkit.runs import begin
from toolkit.sensors.rng import read_rng_state
from toolkit.tables import TABLES


def recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> pd.Series:
    monkeypatch.setattr(state, "read_rng_state", lambda: read_rng_state(TREES / name))
    return rng_state().iloc[0]


def test_it_is_one_row_of_its_table_with_its_run() -> None:
    run = begin("a test")
    frame = rng_state(run=run)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == TABLES["rng_state"].dtypes
    assert frame["run_id"].tolist() == [run.run_id]
    assert frame["regime"].tolist() == [read_rng_state().regime]
    assert frame["crng_ready"].tolist() == [True]


def test_what_is_not_known_is_null_and_what_is_not_there_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = recorded("hidden", monkeypatch)
    assert unknown[["crng_ready", "crng_ready_s", "urandom_warnings", "hwrng_available", "feeders", "trust_cpu"]].isna().all()
    without = recorded("unbound", monkeypatch)
    assert (without["hwrng_available"], without["feeders"], without["urandom_warnings"]) == ("", "", 0)


def test_names_are_words_in_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded("draining", monkeypatch)["hwrng_available"] == "virtio_rng.0 arm-smccc-trng"
    assert recorded("blocking", monkeypatch)["feeders"] == "jitterentropy-rngd rngd"


def test_a_guest_does_not_claim_to_know_its_hosts_configuration() -> None:
    assert rng_state()[["virtio_rng_backend", "virtio_rng_max_bytes", "virtio_rng_period_ms"]].isna().to_numpy().all()
