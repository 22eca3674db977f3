"""What an experiment stores as it goes: its rows, once each, also when it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit import runs
from toolkit.errors import NotMeasuredWarning, UsageError
from toolkit.experiments import survey
from toolkit.experiments.allocation import Experiment
from toolkit.store import open_store

pytestmark = pytest.mark.machine


def _plan(folder: Path, repeats: int = 2) -> survey.Allocations:
    return survey.Allocations(None, ["ftruncate", "write_64k"], [65536], repeats, folder)


def test_an_experiment_stores_each_row_once_and_what_a_folder_cannot_give(tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    store, run = open_store(tmp_path / "store"), runs.begin("test", seed=4)
    with pytest.warns(NotMeasuredWarning, match="no caches were dropped"):
        rows = _plan(folder).record(store, run)
    assert len(rows) == 4
    kept = store.read("allocations")
    assert kept["position"].tolist() == [0, 1, 2, 3]
    assert set(kept["run_id"]) == {run.run_id}
    said = store.read("capabilities").set_index("capability")
    assert said["available"].to_dict() == {"allocation on fresh caches": False, "undisturbed allocation": True}
    assert said.loc["allocation on fresh caches", "remedy"]


@pytest.mark.parametrize("batch_s", [0.0, 3600.0])
def test_an_interrupted_experiment_keeps_what_was_measured_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_s: float
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    whole = Experiment.rows

    def interrupted(self: Experiment) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(whole(self)):
            if number == 3:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(survey, "_BATCH_S", batch_s)
    monkeypatch.setattr(Experiment, "rows", interrupted)
    store = open_store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt), pytest.warns(NotMeasuredWarning):
        _plan(folder, repeats=5).record(store, runs.begin("test", seed=4))
    assert sorted(store.read("allocations")["position"]) == [0, 1, 2]
    assert list(folder.iterdir()) == []


def test_a_plan_that_cannot_be_meant_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder and file systems"):
        survey.Allocations(["ext4"], None, [4096], 1, tmp_path)
    with pytest.raises(UsageError, match="no file system"):
        survey.Allocations(["fat12"], None, [4096], 1)
    with pytest.raises(UsageError, match="no allocation method"):
        survey.Allocations(None, ["wish"], [4096], 1)


def test_a_survey_measures_pool_sources_and_files_in_one_run(tmp_path: Path) -> None:
    seen: list[float] = []
    store, run = open_store(tmp_path / "store"), runs.begin("test", seed=4)
    plan = survey.Survey(0.3, 0.02, _plan(tmp_path), interval_s=0.1)
    with pytest.warns(NotMeasuredWarning, match="no caches were dropped"):
        counts = plan.record(store, run, lambda done, total, _words: seen.append(done / total))
    for table, rows in zip(counts["table"], counts["rows"], strict=True):
        kept = store.read(table)
        assert len(kept) == rows > 0
        assert set(kept["run_id"]) == {run.run_id}
    assert len(store.read("rng_state")) == 1
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_survey_without_room_for_files_goes_on_and_says_so(tmp_path: Path) -> None:
    store, run = open_store(tmp_path / "store"), runs.begin("test", seed=4)
    plan = survey.Survey(0.1, 0.01, survey.Allocations(None, ["write_4k"], [2**60], 1, tmp_path))
    with pytest.warns(NotMeasuredWarning, match="allocation was not measured"):
        counts = plan.record(store, run)
    assert counts["table"].tolist() == ["entropy_samples", "source_reads"]
    (left_out,) = store.read("capabilities").to_dict("records")
    assert left_out["capability"] == "allocation"
    assert not left_out["available"]
    assert left_out["detail"]
