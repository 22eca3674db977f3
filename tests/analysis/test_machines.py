"""Which machines measured: by name and processor, and guests' runs never stand for their host's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.plots import made
from toolkit.analysis.machines import machines
from toolkit.explore import findings
from toolkit.report.provenance import provenance


def _run(number: int, **values: object) -> pd.DataFrame:
    when = pd.Timestamp("2026-01-02T03:04:05Z") + pd.Timedelta(hours=number)
    return made.runs(run=f"run-{number}").assign(started_utc=when, **values)


def test_hosts_of_one_name_on_two_processors_are_two_machines() -> None:
    rows = pd.concat([_run(1, cpu_model="Old"), _run(2, cpu_model="New"), _run(3, cpu_model="Old", kernel="6.19.0")])
    found = machines(rows)
    assert found[["cpu_model", "kernel", "machine_runs"]].to_numpy().tolist() == [["Old", "6.19.0", 2], ["New", "6.18.0", 1]]


def test_a_guests_run_does_not_describe_its_host() -> None:
    host, guest = _run(1, cpu_model="Host's"), _run(2, guest="web-1", cpu_model="Guest's")
    assert machines(pd.concat([host, guest]))["cpu_model"].to_list() == ["Host's"]
    assert machines(guest)["cpu_model"].to_list() == ["Guest's"]


def test_machines_of_unknown_processors_are_kept_and_said() -> None:
    rows = pd.concat([_run(1, cpu_model=None), _run(2), _run(3, cpu_model=None)])
    assert machines(rows)["machine_runs"].to_list() == [2, 1]
    said = [str(each) for each in findings.machines(rows)]
    assert ["processor unknown" in each for each in said] == [True, False]
    assert "2 runs" in said[0]
    assert "1 run," in said[1]


def test_every_machine_is_at_the_foot_of_a_page_and_the_rest_is_counted() -> None:
    rows = pd.concat([_run(number, cpu_model=f"Processor {number}") for number in range(11)])
    facts = provenance(rows, Path("store")).facts
    assert [text.split(", ")[2] for name, text in facts if name == "machine"] == [f"2 × Processor {n}" for n in range(10, 0, -1)]
    assert dict(facts)["and"] == "1 more machine"
