"""Readiness: a boot once, a boot not ready later than all others, and what is not known counted and not averaged."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from toolkit import readiness
from toolkit.tables import TABLES


def states(*rows: tuple[str, str, bool | None, float | None], **more: Any) -> pd.DataFrame:
    """Of each row: run, boot, crng_ready, crng_ready_s."""
    n = len(rows)
    runs, boots, ready, time_s = zip(*rows, strict=True)
    same = {"host": "h", "regime": "latched", **more}
    return TABLES["rng_state"].frame(
        {
            **{name: [value] * n for name, value in same.items()},
            "run_id": runs,
            "boot_id": boots,
            "crng_ready": ready,
            "crng_ready_s": time_s,
        }
    )


def test_a_boot_counts_once_however_many_runs_saw_it() -> None:
    found = readiness(states(*[(f"r{i}", "x", True, 8.6) for i in range(5)], ("r9", "y", True, 26.4)), by="regime")
    assert found[["boots", "n", "crng_ready_s"]].values.tolist() == [[2, 2, 17.5]]
    assert found["low"].isna().all()


def test_boots_not_ready_or_unknown_are_counted_and_not_averaged() -> None:
    rows = [
        ("r", "a", True, 1.0),
        ("r", "b", True, 2.0),
        ("r", "c", True, 9.0),
        ("r", "d", False, None),
        ("r", "e", True, None),
        ("r", "f", None, None),
    ]
    (row,) = readiness(states(*rows), by="regime").to_dict("records")
    assert (row["boots"], row["n"], row["not_ready"], row["unknown"]) == (6, 3, 1, 2)
    assert (row["crng_ready_s"], row["low"]) == (5.5, 1.0)  # of 1, 2, 9 and one that is later than these
    assert math.isnan(row["high"])


def test_where_half_were_not_ready_there_is_no_median() -> None:
    rows = [("r", "a", True, 1.0), ("r", "b", True, 2.0), ("r", "c", False, None), ("r", "d", False, None)]
    (row,) = readiness(states(*rows), by="regime").to_dict("records")
    assert (row["n"], row["not_ready"]) == (2, 2)
    assert math.isnan(row["crng_ready_s"])


def test_a_boot_that_became_ready_between_two_runs_is_ready() -> None:
    (row,) = readiness(states(("r1", "a", False, None), ("r2", "a", True, 700.0)), by="regime").to_dict("records")
    assert (row["boots"], row["not_ready"], row["crng_ready_s"]) == (1, 0, 700.0)


def test_a_boot_whose_log_was_overwritten_later_keeps_its_time() -> None:
    (row,) = readiness(states(("r2", "a", True, None), ("r1", "a", True, 5.0)), by="regime").to_dict("records")
    assert (row["unknown"], row["crng_ready_s"]) == (0, 5.0)


def test_a_boot_belongs_to_the_group_of_its_first_run() -> None:
    later, first = states(("r2", "a", True, 5.0), hwrng_current="virtio_rng.0"), states(("r1", "a", True, 5.0))
    found = readiness(pd.concat([later, first]), by="hwrng_current")
    assert found["hwrng_current"].isna().tolist() == [True]


def test_guests_with_the_same_boot_id_are_boots_of_their_own() -> None:
    assert readiness(pd.concat([states(("r", "a", True, 1.0), guest=g) for g in ("x", "y", None)]), by="regime")[
        "boots"
    ].tolist() == [3]


def test_no_state_has_an_empty_answer() -> None:
    assert readiness(TABLES["rng_state"].empty()).columns.tolist()[-1] == "high"
